"""One side of a sweep as arrays, and how far a measure moves there from the unsteered texts.

Texts that are broken do not count: what only breaking moves is no steering.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.statistics.crossings import Bools
from workbench.statistics.curves import Floats


@dataclass(frozen=True, eq=False)
class Table:
    """One side of a sweep: prompts (P) by coefficients from 0 outwards (K)."""

    side: pd.DataFrame
    grid: Floats
    prompts: NDArray[Any]  # (P,) ascending
    places: NDArray[np.intp]  # of each row of `side` in the flat (P, K)

    @classmethod
    def of(cls, rows: pd.DataFrame, axis: str, sign: int) -> Table:
        """The rows of one sign and of 0; `axis` is the column that holds the coefficient."""
        side = rows[sign * rows[axis] >= 0]
        # Controls are rescaled to the vector's length, which may round their coefficients.
        axis_values, which = np.unique(side[axis].abs(), return_inverse=True)
        sizes = np.array([float(f"{c:.6g}") for c in axis_values])[which]
        grid, column = np.unique(sizes, return_inverse=True)
        prompts, row = np.unique(side["prompt_index"], return_inverse=True)
        return cls(side, grid, prompts, row * len(grid) + column)

    def values(self, column: str) -> Floats:
        """(P, K) of a column, NaN where there is none; several draws of a control are averaged."""
        return self._wide(self.side[column].astype(float).to_numpy())

    def of_intact(self, column: str) -> Floats:
        """The same for intact texts alone."""
        kept = self.side["intact"].to_numpy(dtype=bool)
        return self._wide(np.where(kept, self.side[column].astype(float).to_numpy(), np.nan))

    def _wide(self, values: Floats) -> Floats:
        known, size = ~np.isnan(values), len(self.prompts) * len(self.grid)
        sums = np.bincount(self.places[known], values[known], minlength=size)
        counts = np.bincount(self.places[known], minlength=size)
        with np.errstate(invalid="ignore"):
            return (sums / counts).reshape(len(self.prompts), len(self.grid))


def movement(
    table: Table, control: Table | None, signal: str | None, sign: int
) -> tuple[Floats | None, Floats | None]:
    """Change of intact texts from each prompt's unsteered one (P, K), counted in the direction
    of the sign, and how much more it is than the random control's, None without one."""
    if signal is None:
        return None, None
    values = table.of_intact(signal)
    against = None if control is None else _aligned(control, table, signal)
    if signal == "kl":
        # Any steering diverges; only what a random vector of that length does not is an effect.
        return (None, None) if against is None else (values - against, None)
    moved = sign * (values - values[:, :1])
    excess = None if against is None else sign * (values - against)
    return moved, excess


def strongest(table: Table, control: Table, signal: str, reach: Bools) -> tuple[float, int]:
    """The mean change of a control's intact texts from the unsteered ones where it is largest, of
    the coefficients within reach (K,), and of how many texts that is; NaN and 0 where nothing is
    known of it."""
    values = _aligned(control, table, signal)
    if values is None:
        return math.nan, 0
    moved = (values - values[:, :1])[:, reach]
    means = mean_over_prompts(moved)
    if not np.isfinite(means).any():
        return math.nan, 0
    place = int(np.nanargmax(np.abs(means)))
    return float(means[place]), int(np.isfinite(moved[:, place]).sum())


def mean_over_prompts(values: Floats) -> Floats:
    """(K,) means over prompts of values (P, K) with gaps, NaN where there are none."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _aligned(control: Table, table: Table, column: str) -> Floats | None:
    """The control's values (P, K) at the table's prompts and coefficients, NaN where it has none;
    None if it has none at all. At coefficient 0 it is the unsteered model."""
    found = pd.DataFrame(
        control.of_intact(column), index=control.prompts, columns=control.grid
    ).reindex(index=table.prompts, columns=table.grid)
    values = found.to_numpy(dtype=float, copy=True)
    if not np.isfinite(values[:, 1:]).any():
        return None
    values[:, 0] = table.of_intact(column)[:, 0]
    return values
