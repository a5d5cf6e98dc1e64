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

from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.steering import check_layer, place
from workbench.forward.streams import Kept
from workbench.interventions.updates import Intervention
from workbench.preference.multiples import lowest, same_in_halves
from workbench.statistics.distributions import chosen_logprobs, precise, token_scores
from workbench.text.positions import everything
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

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
    """Streams of chosen tokens, chunk by chunk: `Streams(...).read(rows, coefficients)`."""
    return Streams(lm, batch, maker, layers, touched, memory=memory).read(rows, coefficients)


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


class Streams:
    """Reads streams of chosen tokens under any coefficients; of every text what lies below the
    steered layer is run once, and kept while this object is.

    maker    coefficients (B,), one per row -> the interventions on these rows
    layers   the layers that are read, none below the lowest that is steered
    touched  (B, T) bool, the tokens that are returned
    memory   bytes that logits and streams of one forward may take

    Raises ValueError for a layer out of range or below the steered one, a mask of another shape,
    and as `steering.plan`.
    """

    def __init__(
        self,
        lm: LM,
        batch: Batch,
        maker: Maker,
        layers: Sequence[int],
        touched: Tensor,
        *,
        memory: float = 1 << 28,
    ) -> None:
        self.layers = [check_layer(lm, layer) for layer in layers]
        bottom = lowest(lm, maker(torch.ones(1)))
        if not self.layers or min(self.layers) < bottom:
            raise ValueError(
                f"layers {list(layers)!r}: name some from {bottom} on, the lowest that is steered; "
                "the others are as they were"
            )
        if touched.shape != batch.ids.shape:
            raise ValueError(
                f"touched has shape {tuple(touched.shape)}, the batch {tuple(batch.ids.shape)}"
            )
        self.lm, self.maker, self.bottom = lm, maker, max(bottom, 0)
        # Whether the upper half follows from the stream; None: not known.
        self._splits = None if bottom >= 0 else False
        each = 8 * lm.vocabulary + 4 * lm.width * len(self.layers)  # bytes a token
        self._most = max(1, min(tracing.TOKENS, int(memory / each)))
        self._parts = [
            (part, numbers, touched[numbers, -part.width :])
            for part, numbers in batches(batch, self._most)
        ]
        self._kept: dict[int, _Unsteered] = {}

    @torch.no_grad()
    def read(self, rows: Tensor, coefficients: Tensor) -> Iterator[Seen]:
        """Rows of the batch (c,), which may stand often, each under its coefficient (c,); the
        tokens of one stay in one chunk. Raises ValueError unless there is one for each."""
        if rows.shape != coefficients.shape or rows.ndim != 1:
            raise ValueError(
                f"rows {tuple(rows.shape)}, coefficients {tuple(coefficients.shape)}: give one "
                "coefficient for each row"
            )
        for index, (part, numbers, touched) in enumerate(self._parts):
            places = {number: place for place, number in enumerate(numbers)}
            mine = torch.tensor([i for i, row in enumerate(rows.tolist()) if row in places])
            if len(mine) == 0 or not touched.any():
                continue
            if index not in self._kept:
                self._kept[index] = self._unsteered(part, touched)
            local = torch.tensor([places[int(row)] for row in rows[mine]])
            for some in torch.arange(len(mine)).split(max(1, self._most // part.width)):
                yield self._steered(
                    self._kept[index], local[some], coefficients[mine[some]], rows[mine[some]]
                )

    def _unsteered(self, part: Batch, touched: Tensor) -> _Unsteered:
        lm, at = self.lm, _places(self.lm, touched)
        (kept,), logits = tracing.lower(
            lm, part, [self.bottom], lambda all: all[at], keep=part.width
        )
        below = None if self._splits is False else kept
        streams, scores = self._forward(part, (), touched, below, logits)
        if self._splits is None:
            whole = self._forward(part, (), touched, None, logits)
            halves = float(scores[:, 0].nansum())
            self._splits = same_in_halves(lm, -halves, -float(whole[1][:, 0].nansum()))
            streams = streams if self._splits else whole[0]
        return _Unsteered(part, touched, kept, streams, logits)

    def _steered(self, of: _Unsteered, local: Tensor, coefficients: Tensor, rows: Tensor) -> Seen:
        part, touched = of.part.select(local), of.touched[local]
        index = of.tokens(local)
        streams, scores = self._forward(
            part,
            self.maker(coefficients.float()),
            touched,
            None if self._splits is False else of.kept.select(local),
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
