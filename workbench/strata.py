"""Means over groups that are given, such as four traits, of values that are drawn within them.

A sign that holds on these groups is a claim about them, and no sample of groups. Knows nothing of
what the values are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from workbench.intervals import ROUNDING

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over strata that are given.

    value, low, high  with its 95 % interval
    p                 two-sided, of a mean of 0
    alike             p value of "the same in every stratum"
    """

    value: float
    low: float
    high: float
    p: float
    alike: float


def of_strata(values: pd.Series) -> Mean:
    """The mean over strata of the means within them, of values whose first index is the stratum.
    Strata are given and what is in them is drawn: the variance is that within strata, pooled
    (Student), and whether they differ is an F test against it. Without any variance the interval
    has no width; with one value a stratum there is none.
    """
    groups = [part.to_numpy(dtype=float) for _, part in values.groupby(level=0)]
    sizes, means = np.array([len(g) for g in groups]), np.array([g.mean() for g in groups])
    free = int((sizes - 1).sum())
    value = float(means.mean())
    if free < 1:
        return Mean(value, np.nan, np.nan, 1.0, 1.0)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / free
    error = float(np.sqrt((within / sizes).sum()) / len(groups))
    if error <= ROUNDING:
        apart = bool(np.ptp(means) > ROUNDING)
        return Mean(value, value, value, float(abs(value) <= ROUNDING), float(not apart))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, free)) * error
    differ = 1.0
    if len(groups) > 1:
        between = float((sizes * (means - means.mean()) ** 2).sum()) / (len(groups) - 1)
        differ = float(stats.f.sf(between / within, len(groups) - 1, free))
    p = float(2 * stats.t.sf(abs(value) / error, free))
    return Mean(value, value - reach, value + reach, p, differ)


def holm(values: list[float]) -> list[float]:
    """p values adjusted for their number (Holm 1979), in their order."""
    order = np.argsort(values, kind="stable")
    adjusted, least = np.empty(len(values)), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = least
    return adjusted.tolist()
