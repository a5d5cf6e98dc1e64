"""A measure of a sweep over the coefficient: its mean over prompts, with a band around it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd

from workbench.statistics.intervals import bootstrap_mean

# The ends of a measure's scale, by its column; see `intervals.bootstrap_mean`.
SCALES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "coherence": (0.0, 1.0),
        "trait": (-1.0, 1.0),
        "gain": (-2.0, 2.0),
        "distinct_2": (0.0, 1.0),
        "repeated_2": (0.0, 1.0),
        "repeat_share": (0.0, 1.0),
        "holds": (0.0, 1.0),
        "intact": (0.0, 1.0),
    }
)
FEWEST = 5  # prompts; the mean of fewer is not drawn


def band_over_prompts(
    frame: pd.DataFrame,
    column: str,
    *,
    axis: str = "coefficient_norm",
    size: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean of a column over prompts at every coefficient, with its 95 % bootstrap interval.

    Prompts are resampled whole, because texts of one prompt are not independent. Several rows of
    one prompt at one coefficient are averaged first.

    axis  the column that holds the coefficient (`frames.coefficient_axis`)

    Returns a frame with the columns x (the coefficient), mean, low and high, in the column's own
    unit, and prompts (how many have a value); coefficients at which none has one are left out.
    """
    table = frame.pivot_table(
        index="prompt_index", columns=axis, values=column, aggfunc="mean"
    ).sort_index(axis=1)
    rows = []
    for place, values in zip(table.columns, table.to_numpy(dtype=float).T, strict=True):
        found = bootstrap_mean(values, bounds=SCALES.get(column), size=size, seed=seed)
        if found.count:
            rows.append((place, found.value, found.low, found.high, found.count))
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "prompts"])


def drawn_band(frame: pd.DataFrame, column: str, *, axis: str = "coefficient_norm") -> pd.DataFrame:
    """`band_over_prompts` without coefficients at which fewer than five prompts have a value, as
    of a trait where texts fall apart (unless the frame has no more prompts)."""
    line = band_over_prompts(frame, column, axis=axis)
    return line[line["prompts"] >= min(FEWEST, frame["prompt_index"].nunique())]
