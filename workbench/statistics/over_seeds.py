"""Means over seeds, few and independent, with Student's intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t as student

from workbench.statistics.intervals import Interval, wilson


def over_seeds(table: pd.DataFrame, name: str) -> Interval:
    """The share of rows with `name`, by `seed`, on a scale from 0 to 1. Where all seeds agree at an
    end of it the interval is Wilson's, of the queries (`seed` and `prompt`)."""
    values = table[name].astype(float)
    found = of_seeds(values.groupby(table["seed"]).mean())
    if found.value in (0, 1):
        queries = len(table[["seed", "prompt"]].drop_duplicates())
        return wilson(round(found.value * queries), queries)
    low, high = (min(max(each, 0.0), 1.0) for each in (found.low, found.high))
    return Interval(found.value, low, high, found.count)


def of_seeds(differences: ArrayLike) -> Interval:
    """The mean of what every seed has one of, with Student's 95 % interval."""
    values = np.asarray(differences, dtype=float)
    mean, count = float(values.mean().round(12)), len(values)
    if count < 2 or np.ptp(values) == 0:
        return Interval(mean, mean, mean, count)
    half = float(student.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def percent_over_seeds(table: pd.DataFrame, name: str) -> str:
    """ "96 [92, 99] %", over seeds."""
    found = over_seeds(table, name)
    value, low, high = (f"{100 * each:.0f}" for each in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}] %"
