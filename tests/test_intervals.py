"""intervals: against published numbers, exact cases, and the coverage that they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from scipy.stats import bootstrap as scipy_bootstrap

from workbench.statistics.intervals import (
    bootstrap,
    bootstrap_mean,
    percentiles,
    ratio,
    resamples,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "level"), [(0, 7, 0.95), (3, 10, 0.95), (81, 263, 0.9), (5, 5, 0.99)]
)
def test_wilson_is_that_of_scipy(successes: int, trials: int, level: float) -> None:
    found = wilson(successes, trials, level=level)
    known = binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)
    assert (found.value, found.count) == (successes / trials, trials)
    assert found.low <= found.value <= found.high


def test_wilson_of_nothing_says_nothing() -> None:
    found = wilson(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high, found.count) == (0.0, 1.0, 0)
    with pytest.raises(ValueError, match="4 successes of 3 trials"):
        wilson(4, 3)


def test_wilson_covers_as_often_as_it_says() -> None:
    for share in (0.05, 0.3, 0.5):
        ends = [wilson(k, 40) for k in range(41)]
        inside = [end.low <= share <= end.high for end in ends]
        assert 0.92 < binom.pmf(np.arange(41), 40, share) @ np.array(inside) < 0.985


def test_bootstrap_mean_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    rounds = 400
    found = [bootstrap_mean(rng.normal(size=30), size=400, level=0.9) for _ in range(rounds)]
    inside = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert abs(inside - 0.88) < 0.05  # a percentile interval of 30 values is a little narrow


def test_groups_are_resampled_whole() -> None:
    """Eight prompts that differ, twenty like texts of each: as if there were eight values."""
    rng = np.random.default_rng(1)
    rounds, inside, naive = 300, 0, 0
    groups = np.repeat(np.arange(8), 20)
    for _ in range(rounds):
        values = np.repeat(rng.normal(size=8), 20) + 0.1 * rng.normal(size=160)
        clustered = bootstrap_mean(values, groups, size=300, level=0.9)
        alone = bootstrap_mean(values, size=300, level=0.9)
        assert clustered.count == 8
        inside += clustered.low <= 0 <= clustered.high
        naive += alone.low <= 0 <= alone.high
    assert 0.74 < inside / rounds < 0.92  # eight are few: see the docstring
    assert naive / rounds < 0.5


def test_uneven_groups_weigh_by_their_values() -> None:
    found = bootstrap_mean([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"])
    assert found.value == 2.0
    assert (found.low, found.high) == (1.0, 5.0)


def test_nan_is_left_out() -> None:
    found = bootstrap_mean([1.0, math.nan, 3.0], ["a", "b", "c"])
    assert (found.value, found.count) == (2.0, 2)
    none = bootstrap_mean([math.nan])
    assert none.count == 0
    assert math.isnan(none.value)
    assert math.isnan(none.low)


def test_one_value_has_no_width_and_seeds_repeat() -> None:
    one = bootstrap_mean([2.5])
    assert (one.value, one.low, one.high, one.count) == (2.5, 2.5, 2.5, 1)
    values = np.arange(9.0) ** 2
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_agreement_on_a_scale_leaves_room_for_others() -> None:
    """At an end of the scale it is Wilson's interval; units that differ are bootstrapped."""
    ones, share = bootstrap_mean([1.0] * 12, bounds=(0, 1)), wilson(12, 12)
    assert (ones.value, ones.low, ones.high) == pytest.approx((1.0, share.low, 1.0))
    wide = bootstrap_mean([-1.0] * 12, bounds=(-1, 1), level=0.9)
    assert (wide.low, wide.high) == pytest.approx((-1.0, 2 * wilson(0, 12, level=0.9).high - 1))
    unseen = wilson(0, 3).high
    groups = bootstrap_mean([0.1, 0.3, 0.2, 0.2], ["a", "a", "b", "c"], bounds=(0, 1))
    assert (groups.low, groups.high) == pytest.approx((0.2 - 0.2 * unseen, 0.2 + 0.8 * unseen))
    values = np.arange(9.0) / 9
    assert bootstrap_mean(values, bounds=(0, 1)) == bootstrap_mean(values)


def test_a_few_that_differ_make_no_interval_narrower() -> None:
    """Of 22 units one or four that lie a little off leave the same room for others as none."""
    unseen = wilson(0, 22).high
    for others in (1, 4):
        near = bootstrap_mean([0.0] * (22 - others) + [0.05] * others, bounds=(-1, 1))
        assert near.low == pytest.approx(near.value - unseen * (near.value + 1))
        assert near.high == pytest.approx(near.value + unseen * (1 - near.value))
    many = bootstrap_mean([0.0] * 12 + [0.05] * 10, bounds=(-1, 1))
    assert many.high < 0.05


def test_the_corrected_bootstrap_is_that_of_scipy() -> None:
    """BCa of a ratio, from the same kind of resamples; the ends agree but for their noise."""
    rng = np.random.default_rng(3)
    rows = np.stack([rng.exponential(size=40), 1 + rng.random(40)], axis=1)
    found = bootstrap(rows, ratio, size=20000, corrected=True)
    known = scipy_bootstrap(
        (rows[:, 0], rows[:, 1]),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        n_resamples=20000,
        method="BCa",
        rng=rng,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=0.02)
    plain = bootstrap(rows, ratio, size=20000)
    assert found.high > plain.high + 0.01


def test_two_values_cover_as_often_as_they_say() -> None:
    """Shares for which all or nearly all of 20 often agree; a bootstrap covers .02 in a third."""
    rng = np.random.default_rng(2)
    for share in (0.02, 0.1, 0.4):
        drawn = 2.0 * (rng.random((1000, 20)) < share) - 1
        found = [bootstrap_mean(values, bounds=(-1, 1)) for values in drawn]
        inside = np.mean([end.low <= 2 * share - 1 <= end.high for end in found])
        assert 0.92 < inside < 0.995


def test_agreement_up_to_rounding_has_no_width_without_a_scale() -> None:
    same = bootstrap_mean(np.array([0.1, 0.2, 0.3]) + 0.64 - np.array([0.1, 0.2, 0.3]))
    assert same.low == same.value == same.high


def test_ratio_of_nothing_does_not_count() -> None:
    found = bootstrap([[1.0, 1.0], [0.0, 0.0], [3.0, 1.0]], ratio, size=500)
    assert found.value == 2.0
    assert (found.low, found.high) == (1.0, 3.0)


def test_percentiles_are_values_even_where_some_are_infinite() -> None:
    assert percentiles(np.array([np.inf, 1.0, 3.0, 2.0, np.inf]), 0.5) == (2.0, np.inf)
    low, high = percentiles(np.array([[1.0, math.nan], [2.0, 0.0], [3.0, 0.0]]), 0.9)
    np.testing.assert_array_equal(low, [1.0, math.nan])
    np.testing.assert_array_equal(high, [3.0, math.nan])
    exact = np.arange(21.0)  # the 5th and 95th percentile are values
    assert percentiles(exact, 0.9) == (1.0, 19.0)


def test_resamples_draw_with_replacement() -> None:
    weights = resamples(5, 100, np.random.default_rng(0))
    assert weights.shape == (100, 5)
    assert (weights.sum(axis=1) == 5).all()
    assert weights.max() > 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(1, 2, level=95), "level 95: give a share between 0 and 1"),
        (lambda: bootstrap_mean([1.0], level=1.0), "level 1.0"),
        (lambda: bootstrap_mean([1.0, 2.0], ["a"]), r"shape \(2,\), groups of \(1,\)"),
        (
            lambda: bootstrap_mean([0.5, 1.5], bounds=(0, 1)),
            "the value 1.5 lies outside of the scale 0 to 1: give the bounds that all values keep",
        ),
        (lambda: bootstrap([], ratio), r"table of shape \(0,\)"),
        (lambda: bootstrap_mean([1.0, 2.0], size=0), "0 resamples: give a whole number"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
