"""What a steered stream holds at the steered layer and at every one after it, token by token.

The blocks up to the lowest intervention see the same whatever the coefficient is: they run once for
each text (see multiples.py). From there on each pair of a text and a coefficient is a row of its
own. Streams are read by updates that change nothing: so this, too, is one steered forward. Knows
nothing of manifolds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench import tracing
from workbench.distributions import chosen_logprobs, precise, token_scores
from workbench.multiples import lowest, same_in_halves
from workbench.positions import everything
from workbench.reading import batches
from workbench.steering import check_layer, place
from workbench.streams import Kept
from workbench.tokens import Batch
from workbench.updates import Intervention

if TYPE_CHECKING:
    from workbench.models import LM

Maker = Callable[[Tensor], Sequence[Intervention]]


@dataclass(frozen=True, eq=False)
class Seen:
    """Tokens of some rows under some coefficients.

    rows          (n,) the row of the batch that each token belongs to
    coefficients  (n,) what it was steered by
    positions     (n,) its place in the text, 0 the first token
    before        (n, L, D) the stream without steering
    after         (n, L, D) with it
    loss          (n,) -log P(next token) of the steered model, nats; NaN at a text's end
    kl            (n,) KL(steered || unsteered) of the next token, nats
    """

    rows: Tensor
    coefficients: Tensor
    positions: Tensor
    before: Tensor
    after: Tensor
    loss: Tensor
    kl: Tensor


@dataclass(eq=False)
class Record:
    """An update that changes nothing and remembers what it saw."""

    seen: Tensor | None = field(default=None, init=False)
    width: None = field(default=None, init=False)
    origin: None = field(default=None, init=False)

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        self.seen = hidden
        return hidden


@torch.no_grad()
def steered_streams(
    lm: LM,
    batch: Batch,
    maker: Maker,
    rows: Tensor,
    coefficients: Tensor,
    layers: Sequence[int],
    touched: Tensor,
    *,
    memory: float = 1 << 28,
) -> Iterator[Seen]:
    """Streams of chosen tokens, chunk by chunk.

    maker         coefficients (B,), one per row -> the interventions on these rows
    rows          (c,) rows of the batch, which may stand often; texts stay in one chunk
    coefficients  (c,) what each of them is steered by
    layers        the layers that are read, none below the lowest that is steered
    touched       (B, T) bool, the tokens that are returned
    memory        bytes that logits and streams of one forward may take

    Raises ValueError for a layer out of range or below the steered one, shapes that differ, and as
    `steering.plan`.
    """
    wanted = [check_layer(lm, layer) for layer in layers]
    bottom = lowest(lm, maker(torch.ones(1)))
    early = [layer for layer in wanted if layer < bottom]
    if not wanted or early:
        raise ValueError(
            f"layers {list(layers)!r}: name some from {bottom} on, the lowest that is steered; the "
            "others are as they were"
        )
    if rows.shape != coefficients.shape or rows.ndim != 1 or touched.shape != batch.ids.shape:
        raise ValueError(
            f"rows {tuple(rows.shape)}, coefficients {tuple(coefficients.shape)}, touched "
            f"{tuple(touched.shape)}: give one coefficient for each row, and a mask of the batch"
        )
    each = 8 * lm.vocabulary + 4 * lm.width * len(wanted)  # bytes a token
    task = _Task(lm, maker, max(bottom, 0), wanted, splits=None if bottom >= 0 else False)
    for part, numbers in batches(batch, max(1, min(tracing.TOKENS, int(memory / each)))):
        inner = touched[numbers, -part.width :]
        places = {number: place for place, number in enumerate(numbers)}
        mine = torch.tensor([i for i, row in enumerate(rows.tolist()) if row in places])
        if len(mine) == 0 or not inner.any():
            continue
        local = torch.tensor([places[int(row)] for row in rows[mine]])
        unsteered = task.lower(part, inner)
        chunk = max(1, min(tracing.TOKENS, int(memory / each)) // part.width)
        for some in torch.arange(len(mine)).split(chunk):
            yield task.run(unsteered, local[some], coefficients[mine[some]], rows[mine[some]])


@dataclass(frozen=True, eq=False)
class _Unsteered:
    """One part of a batch, unsteered: what was kept of the lower half; and of its chosen tokens
    (B, T) the streams (k, L, D) and the logits (k, V)."""

    part: Batch
    touched: Tensor
    kept: Kept
    streams: Tensor
    logits: Tensor

    def tokens(self, rows: Tensor) -> Tensor:
        """(n,) the chosen tokens of some rows, one after the other, among the k."""
        counts = self.touched.sum(dim=1)
        starts = counts.cumsum(0) - counts
        spans = zip(starts[rows].tolist(), counts[rows].tolist(), strict=True)
        return torch.cat([torch.arange(start, start + count) for start, count in spans])


@dataclass
class _Task:
    lm: LM
    maker: Maker
    bottom: int
    layers: Sequence[int]
    splits: bool | None  # whether the upper half follows from the stream; None: not known

    def lower(self, part: Batch, touched: Tensor) -> _Unsteered:
        lm = self.lm
        at = _places(lm, touched)
        kept, logits = tracing.lower(lm, part, self.bottom, lambda all: all[at], keep=part.width)

        def unsteered(below: Kept | None) -> tuple[Tensor, Tensor]:
            return self._forward(part, (), touched, below, logits)

        streams, scores = unsteered(None if self.splits is False else kept)
        if self.splits is None:
            whole = unsteered(None)
            halves = float(scores[:, 0].nansum())
            self.splits = same_in_halves(lm, -halves, -float(whole[1][:, 0].nansum()))
            streams = streams if self.splits else whole[0]
        return _Unsteered(part, touched, kept, streams, logits)

    def run(self, of: _Unsteered, local: Tensor, coefficients: Tensor, rows: Tensor) -> Seen:
        part, touched = of.part.select(local), of.touched[local]
        index = of.tokens(local)
        streams, scores = self._forward(
            part,
            self.maker(coefficients.float()),
            touched,
            None if self.splits is False else of.kept.select(local),
            of.logits[index.to(of.logits.device)],
        )
        own = torch.arange(len(local)).repeat_interleave(touched.sum(dim=1))
        return Seen(
            rows=rows[own],
            coefficients=coefficients[own],
            positions=part.positions[touched],
            before=of.streams[index],
            after=streams,
            loss=scores[:, 0],
            kl=scores[:, 1],
        )

    def _forward(
        self,
        part: Batch,
        steered: Sequence[Intervention],
        touched: Tensor,
        below: Kept | None,
        unsteered: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Streams (n, L, D), and loss and divergence (n, 2), of the touched tokens, whose logits
        without steering (n, V) are given."""
        lm, layers = self.lm, self.layers
        records = [Record() for _ in layers]
        watching = [
            Intervention(layer, record, 1.0, everything)
            for layer, record in zip(layers, records, strict=True)
        ]
        at = _places(lm, touched)
        following = torch.nn.functional.pad(part.ids[:, 1:], (0, 1))[touched]
        ends = ~torch.nn.functional.pad(part.attention[:, 1:], (0, 1))[touched]

        def finish(logits: Tensor) -> Tensor:
            # It may run elsewhere: it touches tensors and functions of this package alone.
            streams = [_gathered(record, at) for record in records]
            own, targets = logits[at][None], place(lm, following)[None]
            loss = -chosen_logprobs(own, targets)[0].masked_fill(place(lm, ends), torch.nan)
            # `token_scores` leaves out the last column.
            table = torch.cat([unsteered, unsteered[-1:]])[None].to(own.device)
            kl = token_scores(table, targets, own)[3][0]
            scores = torch.stack([loss, kl], dim=1)
            return torch.cat([*streams, scores.to(streams[0])], dim=1)

        found = tracing.forward(
            lm, part, [*steered, *watching], finish, keep=part.width, below=below
        ).cpu()
        count = len(layers) * lm.width
        return found[:, :count].view(-1, len(layers), lm.width), found[:, count:]


def _places(lm: LM, touched: Tensor) -> tuple[Tensor, ...]:
    """Rows and columns of the touched tokens, where the model runs."""
    return tuple(place(lm, index) for index in touched.nonzero(as_tuple=True))


def _gathered(record: Record, at: tuple[Tensor, ...]) -> Tensor:
    assert record.seen is not None
    rows, columns = (index.to(record.seen.device) for index in at)
    return precise(record.seen[rows, columns])
