"""Means over groups that are given and over groups that are drawn, by hand and by chance."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workbench.statistics.strata import holm, of_clusters, of_strata


def values(*groups: list[float]) -> pd.Series:
    pairs = [(name, value) for name, group in zip("abcd", groups, strict=False) for value in group]
    return pd.Series([v for _, v in pairs], index=pd.Index([name for name, _ in pairs]))


def test_means_over_strata() -> None:
    """By hand: two strata of two, means 1 and 3, variance within 0.5, so an error of 0.5 / 2."""
    found = of_strata(values([0.5, 1.5], [2.5, 3.5]))
    error = math.sqrt(2 * 0.5 / 2) / 2
    assert found.value == 2
    reach = float(stats.t.ppf(0.975, 2)) * error
    assert (found.low, found.high) == pytest.approx((2 - reach, 2 + reach))
    assert found.p == pytest.approx(2 * stats.t.sf(2 / error, 2))
    assert found.alike == pytest.approx(stats.f.sf(4 / 0.5, 1, 2))
    same = of_strata(values([1.0, 1.0], [1.0, 1.0]))
    assert (same.low, same.high, same.p, same.alike) == (1, 1, 0, 1)
    alone = of_strata(values([1.0], [2.0]))
    assert math.isnan(alone.low)
    assert alone.p == 1


def test_intervals_over_strata_hold_what_they_say() -> None:
    """Strata are far apart, which costs nothing: 95 of 100 intervals hold the mean of these."""
    rng, means = np.random.default_rng(0), np.array([-3.0, 0.0, 1.0, 4.0])
    held = 0
    for _ in range(400):
        drawn = [rng.normal(mean, 1, 5).tolist() for mean in means]
        found = of_strata(values(*drawn))
        held += found.low <= means.mean() <= found.high
    assert 0.925 <= held / 400 <= 0.975


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_few_clusters_give_a_wide_interval() -> None:
    given = np.array([0.1, 0.3, 0.2, 0.2])
    same = of_clusters(given, ["a", "a", "b", "b"])
    assert same.value == same.low == same.high == pytest.approx(0.2)
    apart = of_clusters(given, ["a", "b", "c", "c"])
    assert apart.high - apart.low == pytest.approx(2 * 4.303 * 0.1 / np.sqrt(3), rel=1e-3)
    one = of_clusters(given, ["a"] * 4)
    assert one.value == pytest.approx(0.2)
    assert math.isnan(one.low)
    assert of_clusters([np.nan], ["a"]).count == 0
    gaps = of_clusters([1.0, np.nan, 3.0], ["a", "a", "b"])
    assert gaps.value == 2
