"""Means of values that belong to groups: groups that are given, or groups that are drawn.

Over strata, such as these four traits, seeds being drawn within them, a mean is a claim about them
alone. Over clusters it is one about groups at large, of which these are a sample. Knows nothing of
what the values are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from workbench.statistics.intervals import ROUNDING, Interval

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


def of_clusters(values: ArrayLike, clusters: Sequence[Any] | pd.Series) -> Interval:
    """The mean of the clusters' means of values (N,) with Student's 95 % interval: a bootstrap of
    fewer than some ten clusters would be too narrow. Gaps are left out; no interval for fewer than
    two clusters."""
    groups = pd.Series(np.asarray(values, dtype=float)).groupby(np.asarray(clusters))
    means = groups.mean().dropna().to_numpy()
    count = len(means)
    if count == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    middle = float(means.mean())
    if count < 2:
        return Interval(middle, np.nan, np.nan, count)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * means.std(ddof=1) / np.sqrt(count))
    return Interval(middle, middle - half, middle + half, count)


def holm(values: list[float]) -> list[float]:
    """p values adjusted for their number (Holm 1979), in their order."""
    order = np.argsort(values, kind="stable")
    adjusted, least = np.empty(len(values)), 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = least
    return adjusted.tolist()
