"""One batch of answers under many multiples m of the same interventions, or of several such.

The blocks up to the lowest intervention see the same whatever m is: they run once, in the unsteered
forward that is also m = 0, and is the same for all that is steered. From there on every other m has
rows of its own, beside those of other texts, and the logits are those of the answers only. Knows
nothing of pairs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.steering import check_place, place
from workbench.forward.streams import Kept
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Coefficient, Intervention, per_row
from workbench.preference.logodds import Forks, score_rows
from workbench.text.positions import Mask
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


def check_multipliers(multipliers: ArrayLike) -> NDArray[np.float64]:
    """The grid of m, (M,) float64, ascending.

    Raises ValueError for no list of numbers, one that is not finite, one given twice, or no 0.
    """
    try:
        grid = np.asarray(multipliers, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(())
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"multipliers {multipliers!r}: give a list of numbers, 0 among them")
    if not np.isfinite(grid).all():
        bad = grid[~np.isfinite(grid)][0]
        raise ValueError(f"multipliers hold {bad!r} (of {grid.tolist()}); give finite numbers")
    grid = np.sort(grid)
    if (np.diff(grid) == 0).any():
        raise ValueError(f"{grid[:-1][np.diff(grid) == 0][0]!r} stands twice among the multipliers")
    if not (grid == 0).any():
        nearest = grid[np.abs(grid).argmin()]
        raise ValueError(
            f"the multipliers from {grid[0]:g} to {grid[-1]:g} lack 0 (nearest: {nearest:g}), the "
            "unsteered model that all others are compared with; add it, or take an odd number of "
            "points over a range that is even on both sides"
        )
    return grid


@torch.no_grad()
def multiples(
    lm: LM,
    batch: Batch,
    several: Sequence[Sequence[Intervention]],
    multipliers: NDArray[np.float64],
    *,
    forks: Forks | None = None,
    memory: float = 1 << 30,
    remote: Remote = False,
    desc: str | None = "log-odds",
) -> Tensor:
    """(S, 2, B, M) float64 in nats: under each of several changes, of each row under each multiple,
    log P of its answer and of the answers that leave it (`logodds.score_rows`; NaN without
    `forks`).

    several      S lists of interventions as they are at m = 1: every coefficient is multiplied by m
    multipliers  ascending, 0 among them, as `check_multipliers` gives them
    memory       bytes that the logits of one forward may take, and the streams kept of it
    desc         before the progress bar; None: no bar

    The answer is the completion, or, where no row has one, all of the text but its first token.
    Raises ValueError for no interventions, coefficients given per row, positions given as a mask,
    and as `steering.plan`.
    """
    changes = [_Change.of(lm, interventions) for interventions in several]
    task = _Task(lm, changes, multipliers, memory, remote)
    scored = batch.completion if bool(batch.completion.any()) else batch.attention
    scored = scored & (batch.positions > 0)
    shape = len(changes), 2, len(batch), len(multipliers)
    found = torch.full(shape, torch.nan, dtype=torch.float64)
    # What the lower half holds at once of so many tokens: logits of the answers, and streams.
    each = max(8 * lm.vocabulary, 4 * lm.width * len(changes))
    budget = max(1, min(tracing.TOKENS, int(memory / each)))
    bar = tqdm(total=len(batch), desc=desc, unit="text", delay=2, leave=False, disable=desc is None)
    with bar as progress:
        for part, rows in batches(batch, budget):
            cut = batch.width - part.width
            own = scored[rows, cut:]
            if not own.any():
                progress.update(len(rows))
                continue
            first = int(own.any(dim=0).nonzero()[0])
            branch = None if forks is None else forks.select(rows, cut + first)
            found[:, :, rows] = task.run(part, first, own[:, first:], branch)
            progress.update(len(rows))
    return found


@dataclass
class _Change:
    """Interventions, and the last block that sees the same under each of their multiples."""

    interventions: tuple[Intervention, ...]
    layer: int
    splits: bool | None  # whether the model's upper half follows from the stream; None: not known

    @classmethod
    def of(cls, lm: LM, interventions: Sequence[Intervention]) -> _Change:
        layer = lowest(lm, interventions)
        # What acts within the first block leaves no lower half.
        return cls(tuple(interventions), max(layer, 0), None if layer >= 0 else False)


@dataclass(frozen=True)
class _Task:
    """What all parts of a batch share."""

    lm: LM
    changes: Sequence[_Change]
    multipliers: NDArray[np.float64]
    memory: float
    remote: Remote

    def run(self, part: Batch, first: int, own: Tensor, forks: Forks | None) -> Tensor:
        """(S, 2, B, M) of a part whose answers (`own`, bool) begin at column `first` or later."""
        lm, width = self.lm, part.width
        keep, count = width - first + 1, len(self.multipliers)
        zero = int(np.flatnonzero(self.multipliers == 0)[0])
        values = torch.from_numpy(self.multipliers)
        others = torch.tensor([i for i in range(count) if i != zero], dtype=torch.long)
        everyone = torch.arange(len(part))

        def finish(rows: Tensor) -> Callable[[Tensor], Tensor]:
            branch = None if forks is None else forks.select(rows)
            return _scoring(place(lm, part.ids[rows, first:]), place(lm, own[rows]), branch)

        layers = [change.layer for change in self.changes]
        streams, whole = tracing.lower(
            lm, part, layers, finish(everyone), keep=keep, remote=self.remote
        )

        def steered(change: _Change, kept: Kept, rows: Tensor, scales: Tensor) -> Tensor:
            return tracing.forward(
                lm,
                part.select(rows),
                [_scaled(each, scales) for each in change.interventions],
                finish(rows),
                keep=keep,
                scoring=True,
                below=None if change.splits is False else kept.select(rows),
                remote=self.remote,
            ).cpu()

        whole = whole.cpu()
        found = torch.empty(len(layers), 2, len(part), count, dtype=torch.float64)
        found[..., zero] = whole
        most = min(tracing.TOKENS // width, int(self.memory / (8 * lm.vocabulary * keep)))
        for change, kept, table in zip(self.changes, streams, found, strict=True):
            if change.splits is None and len(others):
                again = steered(change, kept, everyone[:1], torch.zeros(1, dtype=values.dtype))
                change.splits = same_in_halves(lm, float(again[0, 0]), float(whole[0, 0]))
            for rows, places in _cells(len(part), others, max(1, most)):
                table[:, rows, places] = steered(change, kept, rows, values[places])
        return found


def _scoring(targets: Tensor, own: Tensor, forks: Forks | None) -> Callable[[Tensor], Tensor]:
    """`score_rows` of logits (B, K + 1, V), whose last column says nothing of the answers."""
    # It may run elsewhere, where this package's classes are not known.
    parts = None if forks is None else (forks.column, forks.rival, forks.whole)

    def finish(logits: Tensor) -> Tensor:
        where = logits.device
        placed = None if parts is None else tuple(each.to(where) for each in parts)
        return score_rows(logits[:, :-1], targets.to(where), own.to(where), placed)

    return finish


def _cells(rows: int, steered: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every row under every steered multiple, text by text, at most so many at once: the indices
    of the rows and of the multiples."""
    count = len(steered)
    everything = torch.arange(rows * count)
    for cells in everything.split(most) if count else ():
        yield cells // count, steered[cells % count]


def lowest(lm: LM, interventions: Sequence[Intervention]) -> int:
    """The last block whose stream is the same under every multiple; -1 where there is none."""
    # The plan checks all of this too, but only once the lower half has run.
    if isinstance(interventions, Intervention) or not isinstance(interventions, Sequence):
        raise ValueError(
            f"{interventions!r} is no list of interventions; give vector, vector.at(1.0), or a "
            "list of Intervention"
        )
    if len(interventions) == 0:
        raise ValueError("no interventions: there is nothing to multiply; give one at least")
    for each in interventions:
        if not isinstance(each, Intervention):
            raise ValueError(f"{each!r} is no Intervention; give vector.at(1.0)")
        if isinstance(each.positions, Mask):
            raise ValueError(
                f"{each.positions!r} belongs to one batch, and texts are read in many: give a "
                "position rule"
            )
        if not callable(each.coefficient) and per_row(each.coefficient).numel() != 1:
            raise ValueError(
                f"the coefficient {each.coefficient!r} has one number per row; give one for all "
                "rows, which m multiplies"
            )
    return min(check_place(lm, each.layer, each.site).below for each in interventions)


def _scaled(intervention: Intervention, scales: Tensor) -> Intervention:
    """The intervention with its coefficient times one multiplier per row."""
    given = intervention.coefficient
    if not callable(given):
        number = per_row(given).reshape(-1)[0].to(scales.dtype)
        return replace(intervention, coefficient=_as_scales(number * scales))

    def at(step: int) -> Coefficient:
        return _as_scales(per_row(given(step)).reshape(-1)[0].to(scales.dtype) * scales)

    return replace(intervention, coefficient=at)


def _as_scales(values: Tensor) -> Tensor:
    """In float32, as a coefficient that is given as a plain number is."""
    return values.float()


def same_in_halves(lm: LM, loss: float, whole: float) -> bool:
    """Whether a text's log-probability in two halves is that in one piece. It is not where upper
    blocks need more of the lower ones than the stream; then all blocks run for every multiple."""
    coarse = lm.dtype not in (torch.float32, torch.float64)
    if abs(loss - whole) <= (0.05 if coarse else 1e-3) * max(1.0, abs(whole)):
        return True
    warnings.warn(
        f"the upper blocks of {lm.name!r} do not follow from the residual stream alone (a text has "
        f"log-probability {whole:.6g} in one piece, {loss:.6g} in two): every multiple runs whole",
        stacklevel=2,
    )
    return False
