"""The condition point that the library of conditional activation steering would choose.

Its grid is np.arange over thresholds, one for all layers of a set. Its names are turned round:
"larger" says that the threshold is, and fires where no similarity exceeds it, at equality too,
which it does not do when it runs. Of equals the first wins, in the order of size, layers,
threshold, "larger" before "smaller"; the threshold is rounded to three digits afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.conditions.point import check_labels
from workbench.conditions.search import check_sets, layer_sets
from workbench.statistics.intervals import Floats

Direction = Literal["larger", "smaller"]
DIRECTIONS: tuple[Direction, ...] = ("larger", "smaller")


@dataclass(frozen=True, eq=False)
class ReferencePoint:
    """What it returns (`layers`, `threshold`, `direction`, `f1`), the threshold before rounding,
    and all points that reach the same F1 in its order: (layers, threshold, direction)."""

    layers: tuple[int, ...]
    threshold: float
    direction: Direction
    f1: float
    unrounded: float
    tied: tuple[tuple[tuple[int, ...], float, Direction], ...]


def reference_condition_point(
    similarities: ArrayLike,
    labels: ArrayLike,
    layers: Sequence[int],
    thresholds: tuple[float, float] = (0.0, 1.0),
    step: float = 0.01,
    most_layers: int = 1,
) -> ReferencePoint:
    """Of similarities (N, L) at `layers` and labels (N,): True where the condition shall be met.

    thresholds, step  as np.arange takes them: the upper end is left out

    Raises ValueError as `search.find_condition_point`, and for no thresholds.
    """
    values = np.asarray(similarities, dtype=float)
    wanted = check_labels(labels, len(values))
    grid = np.arange(*thresholds, step)
    if not len(grid):
        raise ValueError(
            f"no thresholds from {thresholds[0]} to {thresholds[1]} in steps of {step}"
        )
    check_sets(len(layers), most_layers)
    sets, scores = [], []
    for some in layer_sets(len(layers), most_layers, len(values)):
        sets.extend(tuple(layers[i] for i in each) for each in some)
        scores.append(f1_on_grid(values.T[some], wanted, grid))
    every = np.concatenate(scores)  # (C, T, 2)
    best = every.max()
    tied = tuple((sets[c], float(grid[t]), DIRECTIONS[d]) for c, t, d in np.argwhere(every == best))
    chosen, threshold, direction = tied[0]
    return ReferencePoint(chosen, round(threshold, 3), direction, float(best), threshold, tied)


def f1_on_grid(chosen: Floats, wanted: NDArray[np.bool_], grid: Floats) -> Floats:
    """F1 (C, T, 2) of similarities (C, size, N) at every threshold, "larger" and "smaller"; 0 where
    nothing fires.

    A set fires "larger" where some similarity does not exceed the threshold, "smaller" where some
    does: so its least and its greatest decide, and a threshold's counts are cumulative ones.
    """
    count, points = len(chosen), len(grid)
    found = np.empty((count, points, 2))
    total = int(wanted.sum())
    for index, extreme in enumerate((chosen.min(axis=1), chosen.max(axis=1))):
        # How many thresholds lie below each value: the value exceeds these and no others.
        place = np.searchsorted(grid, extreme.ravel()).reshape(extreme.shape)
        flat = place + (points + 1) * np.arange(count)[:, None]
        size = count * (points + 1)
        tables = [
            np.bincount(flat[:, mine].ravel(), minlength=size).reshape(count, -1)
            for mine in (wanted, np.ones_like(wanted))
        ]
        # At threshold t, of index i, a value does not exceed it where its place is at most i.
        under = [table.cumsum(axis=1)[:, :points] for table in tables]
        right, fired = (
            under
            if index == 0
            else [
                table.sum(axis=1, keepdims=True) - each
                for table, each in zip(tables, under, strict=True)
            ]
        )
        found[:, :, index] = 2 * right / (fired + total)
    return found
