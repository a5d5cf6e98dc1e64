"""crossings: the interval of a crossing covers a truth that is known on a continuous scale."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, norm

from workbench.statistics.crossings import (
    CEILING_SHARE,
    RECOMMENDED_SHARE,
    bounded_from_below,
    crossing,
    first_break,
    limits,
    reentry,
    settled,
)
from workbench.statistics.curves import Floats, falling
from workbench.statistics.intervals import percentiles, resamples

ROUNDS = 400
SPREAD = 0.25
# Coverage of 90 %: fewer hits than the 1st percentile of Binomial(400, 0.9) are a fault.
LEAST = binom.ppf(0.01, ROUNDS, 0.9)


Intervals = Callable[[Floats, np.ndarray, float], tuple[float, float]]


def simulated(
    prompts: int, points: int, flicker: float, share: float, method: Intervals
) -> tuple[float, Floats]:
    """A crossing at a known place, and 400 intervals for it (400, 2).

    Prompt p breaks for good beyond b_p ~ N(1, 0.25), and each of its texts but the unsteered one
    is broken by accident with the probability `flicker`. So S(c) = (1 - flicker) P(b > c), whose
    crossing is known; the grid starts at a random place within its step.
    """
    rng = np.random.default_rng([prompts, points, round(100 * share)])
    truth = 1 + SPREAD * float(norm.isf(share / (1 - flicker)))
    step = 2 / (points - 1)
    found = []
    for _ in range(ROUNDS):
        grid = np.append(0.0, np.arange(1, points) * step - rng.uniform(0, step))
        breaking = rng.normal(1.0, SPREAD, prompts)
        intact = (grid <= breaking[:, None]) & (rng.random((prompts, points)) >= flicker)
        intact[:, 0] = True
        found.append(method(grid, intact, share))
    return truth, np.array(found)


def hits(truth: float, ends: Floats) -> int:
    return int(np.sum((ends[:, 0] <= truth) & (truth <= ends[:, 1])))


def by_counts(grid: Floats, intact: np.ndarray, share: float) -> tuple[float, float]:
    back = reentry(intact.mean(axis=0), CEILING_SHARE)
    return limits(grid, intact, share, len(grid) if back is None else back, 0.9)


def by_percentiles(grid: Floats, intact: np.ndarray, share: float) -> tuple[float, float]:
    """What is not done: percentiles of interpolated crossings of resampled curves, as if curves
    were known between the points of the grid."""
    weights = resamples(len(intact), 200, np.random.default_rng(0))
    curves = falling(weights @ intact, np.repeat(weights.sum(axis=1)[:, None], len(grid), axis=1))
    low, high = percentiles([crossing(grid, curve / curve[0], share) for curve in curves], 0.9)
    return float(low), float(high)


CASES = [(8, 17, 0.0), (16, 17, 0.0), (16, 9, 0.02), (40, 33, 0.02)]


@pytest.mark.parametrize("share", [CEILING_SHARE, RECOMMENDED_SHARE])
@pytest.mark.parametrize(("prompts", "points", "flicker"), CASES)
def test_intervals_cover_a_known_crossing(
    prompts: int, points: int, flicker: float, share: float
) -> None:
    """At least 90 % are covered, for few and many prompts, on coarse and fine grids."""
    truth, ends = simulated(prompts, points, flicker, share, by_counts)
    widths = ends[:, 1] - ends[:, 0]
    assert hits(truth, ends) >= LEAST
    assert widths.min() > 0
    if share == CEILING_SHARE:  # no wider than two order statistics and two cells
        quantile = binom.ppf(0.05, prompts, 0.5) / prompts
        most = 2 * SPREAD * norm.isf(quantile) + 4 / (points - 1) + 0.2
        assert np.median(widths) <= most


def test_percentiles_of_interpolated_crossings_would_not() -> None:
    """The same simulation finds the method that ignores the grid and the few prompts too narrow."""
    covered = {
        (prompts, share): hits(*simulated(prompts, points, flicker, share, by_percentiles))
        for prompts, points, flicker in CASES[:3]
        for share in (CEILING_SHARE, RECOMMENDED_SHARE)
    }
    assert sum(number < LEAST for number in covered.values()) >= 4, covered
    assert covered[8, RECOMMENDED_SHARE] < 0.8 * ROUNDS


def test_limits_are_exact_binomial() -> None:
    """Of 8 prompts 7 must be whole to exceed a half at 95 %, and 1 or none to fall below it."""
    grid = np.arange(6.0)
    counts = np.array([8, 7, 6, 2, 1, 0])
    intact = np.arange(8)[:, None] < counts
    assert limits(grid, intact, 0.5, 6, 0.9) == (1.0, 4.0)
    assert limits(grid, intact, 0.9, 6, 0.9) == (0.0, 3.0)
    assert limits(grid, intact[:, :4], 0.5, 4, 0.9) == (1.0, math.inf)
    assert np.isnan(limits(grid, intact[:4], 0.5, 6, 0.9)).all()


def test_all_prompts_may_break_in_one_cell() -> None:
    """The interval is that cell, never a point."""
    grid, intact = np.array([0.0, 1.0, 2.0, 3.0]), np.tile([True, True, False, False], (50, 1))
    assert limits(grid, intact, 0.5, 4, 0.9) == (1.0, 2.0)
    assert limits(grid, intact, 0.9, 4, 0.9) == (1.0, 2.0)


def test_29_prompts_bound_nine_tenths_from_below() -> None:
    assert not bounded_from_below(28, 0.9, 0.9)
    assert bounded_from_below(29, 0.9, 0.9)


def test_the_first_break_that_lasts_counts() -> None:
    assert first_break(np.array([1.0, 0.4, 0.9, 0.4, 0.4, 0.9]), 0.5) == 3
    assert first_break(np.array([1.0, 1.0, 0.4]), 0.5) == 2
    assert first_break(np.array([1.0, 0.4, 0.6]), 0.5) is None
    assert reentry(np.array([1.0, 0.2, 0.2, 0.6, 0.6, 0.2]), 0.5) is None  # flicker
    assert reentry(np.array([1.0, 0.2, 0.2, 0.8, 0.8, 0.2]), 0.5) == 3


def test_what_comes_back_does_not_lift_the_curve() -> None:
    values = np.tile([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], (3, 1))
    fitted = settled(values, 0.5)
    assert fitted.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert crossing(np.arange(8.0), fitted, 0.5) == 1.5
    assert settled(np.array([[0.8, 0.4, 0.6]]), 0.5).tolist() == pytest.approx([1.0, 0.625, 0.625])
    with pytest.raises(ValueError, match=r"starts at 0\.0 cannot fall"):
        settled(np.zeros((2, 3)), 0.5)


def test_crossings_interpolate() -> None:
    grid = np.array([0.0, 1.0, 2.0])
    assert crossing(grid, np.array([1.0, 0.75, 0.25]), 0.5) == 1.5
    assert crossing(grid, np.array([1.0, 1.0, 0.6]), 0.5) == math.inf
