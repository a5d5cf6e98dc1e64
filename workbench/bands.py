"""A measure of a sweep over the coefficient: its mean over prompts, with a band around it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.intervals import bootstrap, ratio


def band_over_prompts(
    frame: pd.DataFrame,
    column: str,
    *,
    axis: str = "coefficient_norm",
    size: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean of a column over prompts at every coefficient, with its 95 % bootstrap interval.

    Prompts are resampled whole, the same ones at every coefficient, because texts of one prompt
    are not independent. Several rows of one prompt at one coefficient are averaged first.

    axis  the column that holds the coefficient (`slopes.coefficient_axis`)

    Returns a frame with the columns x (the coefficient), mean, low and high, in the column's own
    unit, and prompts (how many have a value); coefficients at which none has one are left out.
    """
    table = frame.pivot_table(
        index="prompt_index", columns=axis, values=column, aggfunc="mean"
    ).sort_index(axis=1)
    rows = []
    for place, values in zip(table.columns, table.to_numpy(dtype=float).T, strict=True):
        known = np.isfinite(values)
        if known.any():
            sums = np.stack([np.where(known, values, 0.0), known], axis=1)  # (prompts, 2)
            found = bootstrap(sums, ratio, size=size, seed=seed)
            rows.append((place, found.value, found.low, found.high, int(known.sum())))
    return pd.DataFrame(rows, columns=["x", "mean", "low", "high", "prompts"])
