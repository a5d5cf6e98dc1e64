"""A batch of texts with every part of a model ablated, a row for each pair of a text and a part.

A sweep over all heads of all layers is a few forwards however many heads there are. The blocks
below the lowest part that a forward ablates see what they see without: they run once for each text.
Knows nothing of what is noted of a row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from workbench.anatomy.ablation import Component, by_row, check_ablation
from workbench.anatomy.fillings import Filling
from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.streams import Kept
from workbench.forward.tracing import Remote
from workbench.support.checks import check_positive
from workbench.text.positions import Mask, Positions
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Of logits (B, K, V): what is noted of each row, (B, N).
Finish: TypeAlias = Callable[[Tensor], Tensor]

# Tokens of a forward from which on its arithmetic outweighs what starting another one costs.
_ENOUGH = 512
# Rows that are read in two halves to see that it makes no difference, and by how many nats their
# log-probabilities may differ: in float32, and in half precision.
_CHECKED, _APART, _APART_COARSE = 2, 1e-3, 0.5
# Tokens of all the rows that one part of the texts makes: fewer have less padding among them.
_PART = 2048


class Sweep:
    """Every row of a batch with every component ablated.

    memory  bytes that logits and streams of one forward may take

    Raises ValueError as `check_sweep`, and for memory that is no positive number.
    """

    def __init__(
        self,
        lm: LM,
        batch: Batch,
        components: Sequence[Component],
        by: Filling,
        positions: Positions,
        memory: float,
        remote: Remote,
    ) -> None:
        check_sweep(lm, components, by, positions, batch)
        self.lm, self.batch, self.components = lm, batch, components
        self.by, self.positions = by, positions
        self.memory = check_positive("memory", memory)
        self.remote: Remote = remote
        # Lowest first, so that a forward's components begin as high as they can.
        self.order = sorted(range(len(components)), key=lambda i: _below(components[i]))
        # layer -> whether its stream is all that the blocks above need, where that is known.
        self.splits: dict[int, bool] = {}
        each = max(8 * lm.vocabulary, 4 * lm.width * lm.layers)  # bytes a token
        # Rows of like length go together, as far as each part has enough to do.
        busy = lm.device.type == "cpu" and not remote
        most = _PART // len(components) if busy else tracing.TOKENS
        budget = max(1, min(most, int(memory / each)))
        self.parts = [(part, torch.tensor(rows)) for part, rows in batches(batch, budget)]

    @torch.no_grad()
    def run(
        self,
        keep: int,
        plain: Callable[[Batch, Tensor], Finish],
        compared: Callable[[Batch, Tensor, Tensor], Finish],
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Part by part: its rows (b,) of the batch, what is noted of them without ablation (b, N),
        and with each component ablated (C, b, M).

        plain     rows of the batch and their numbers -> what is noted of the whole model, which
                  are log-probabilities, of tokens or texts
        compared  the same, and what was noted -> what is noted with a component ablated
        """
        lm, remote = self.lm, self.remote
        needed = sorted({_below(each) for each in self.components} - {-1})
        for part, rows in self.parts:
            kept, whole = tracing.lower(
                lm,
                part,
                needed,
                plain(part, rows),
                keep=min(keep, part.width),
                remote=remote,
            )
            streams = {each.layer: each for each in kept}
            found: Tensor | None = None
            for cells in self._chunks(part, keep):
                index, own = (torch.tensor(each) for each in zip(*cells, strict=True))
                values = self._ablated(
                    part, rows, index, own, plain, compared, streams, whole, keep
                )
                if found is None:
                    found = values.new_empty(len(self.components), len(part), values.shape[1])
                found[index, own] = values
            assert found is not None
            yield rows, whole.cpu(), found

    def _chunks(self, part: Batch, keep: int) -> Iterator[list[tuple[int, int]]]:
        """Every component with every row, by their indices: what goes into one forward."""
        cells = [(index, row) for index in self.order for row in range(len(part))]
        levels = [_below(self.components[index]) for index, _ in cells]
        most = min(tracing.TOKENS // part.width, int(self.memory / (8 * self.lm.vocabulary * keep)))
        for chunk in chunks(self.lm, levels, part.width, most, self.remote):
            yield [cells[each] for each in chunk]

    def _ablated(
        self,
        part: Batch,
        rows: Tensor,
        index: Tensor,
        own: Tensor,
        plain: Callable[[Batch, Tensor], Finish],
        compared: Callable[[Batch, Tensor, Tensor], Finish],
        streams: dict[int, Kept],
        whole: Tensor,
        keep: int,
    ) -> Tensor:
        """What is noted of components `index`, each in a row `own` of the part: one forward, from
        the highest stream that none of them changes.

        The first forward from a layer has a few rows more, without ablation: unless they come out
        as in the whole model, the blocks above need more of those below than the stream, and the
        whole model runs.
        """
        chosen = [self.components[each] for each in index.tolist()]
        layer = _below(chosen[0])
        below = None if self.splits.get(layer) is False else streams.get(layer)
        check = below is not None and layer not in self.splits
        few = torch.arange(min(_CHECKED, len(part)) if check else 0)
        every = torch.cat([own, few])
        many, count = part.select(every), len(own)
        note = compared(part.select(own), rows[own], whole[own.to(whole.device)])
        again = plain(part.select(few), rows[few])

        def finish(logits: Tensor) -> Tensor:
            if count == len(logits):
                return note(logits)
            return torch.cat([note(logits[:count]).flatten(), again(logits[count:]).flatten()])

        values = tracing.forward(
            self.lm,
            many,
            by_row(
                self.lm,
                many,
                [*chosen, *[None] * len(few)],
                by=self.by,
                rows=rows[every],
                positions=self.positions,
            ),
            finish,
            keep=min(keep, part.width),
            below=None if below is None else below.select(every),
            remote=self.remote,
        ).cpu()
        if not check:
            return values
        expected = whole[few.to(whole.device)].cpu().flatten()
        values, unablated = values.split([len(values) - len(expected), len(expected)])
        # Equal ones apart: the difference of impossible tokens (-inf) is no number.
        apart = (unablated - expected)[unablated != expected].abs()
        self.splits[layer] = self._agree(layer, float(apart.max()) if len(apart) else 0.0)
        if not self.splits[layer]:
            return self._ablated(part, rows, index, own, plain, compared, streams, whole, keep)
        return values.view(count, -1)

    def _agree(self, layer: int, apart: float) -> bool:
        """Whether log-probabilities in two halves are those in one piece. Warns where they are
        not."""
        coarse = self.lm.dtype not in (torch.float32, torch.float64)
        if apart <= (_APART_COARSE if coarse else _APART):
            return True
        warnings.warn(
            f"the blocks of {self.lm.name!r} above {layer} do not follow from the residual stream "
            f"there alone: log-probabilities differ by up to {apart:.3g} nats. Ablations above it "
            "run the whole model",
            stacklevel=4,
        )
        return False


def check_sweep(
    lm: LM,
    components: Sequence[Component],
    by: Filling,
    positions: Positions,
    batch: Batch | None = None,
) -> None:
    """Raise ValueError as `check_ablation`, and for positions given as a mask."""
    if isinstance(positions, Mask):
        raise ValueError(
            f"{positions!r} belongs to one batch, and texts are read in many: give a position rule"
        )
    check_ablation(lm, components, by, batch)


def chunks(
    lm: LM, levels: Sequence[int], width: int, most: int, remote: Remote
) -> Iterator[list[int]]:
    """The indices of rows of `width` tokens, at most so many at once: what goes into one forward.

    levels  of each row the last block that sees nothing of its change, ascending

    On a processor a forward ends where a level does, if it has enough to do: the next one then
    begins a block higher.
    """
    busy = lm.device.type == "cpu" and not remote
    chunk: list[int] = []
    for row, level in enumerate(levels):
        higher = bool(chunk) and level > levels[row - 1]
        if len(chunk) >= max(1, most) or (higher and busy and len(chunk) * width >= _ENOUGH):
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk


def _below(component: Component) -> int:
    """The last block that does not see the component's ablation but for its own stream."""
    return component.places[0].below
