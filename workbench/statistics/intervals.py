"""Intervals for means and shares: the bootstrap over units or groups of them, and Wilson's.

Pure array maths over N observations, R resamples; knows nothing of sweeps or texts. An interval
speaks for the unit that is resampled: texts of one prompt are no independent draws, so their
prompts are resampled as `groups` (the cluster bootstrap, Davison & Hinkley 1997, section 3.8).

Where all units agree, every resample is the same and the bootstrap's interval has no width, which
is no certainty: n units that agree leave room for a share of others of up to z^2 / (n + z^2), the
end of Wilson's interval for 0 of n (about 4 / n at 95 %; the rule of three is its like). On a scale
with ends those others may lie at either end, and that bounds the mean from both sides, whether the
units agree or all but a few do; see `bootstrap_mean`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval, and the number of independent units behind it.

    Without width (low == high) it is no interval: all units agree, on a scale without ends.
    """

    value: float
    low: float
    high: float
    count: int


# Numbers that differ by no more are equal but for the order in which they were added.
ROUNDING = 1e-9
# A bootstrap knows little of what fewer than so many units do.
FEW = 5
NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def resamples(count: int, size: int, rng: np.random.Generator) -> Floats:
    """How often each of `count` units is drawn in each of `size` resamples: (R, N).

    Raises ValueError for no resamples or no units.
    """
    if size < 1:
        raise ValueError(f"{size!r} resamples: give a whole number of at least 1")
    if count < 1:
        raise ValueError("a bootstrap of no units: give at least one")
    return rng.multinomial(count, np.full(count, 1 / count), size=size).astype(float)


def percentiles(values: ArrayLike, level: float) -> tuple[Any, Any]:
    """The ends of the middle `level` of values (R, ...) along their first axis.

    They are values themselves, the nearest outwards, as some of them may be infinite. A column
    that holds a NaN has NaN ends.
    """
    _check(level)
    ordered = np.sort(np.asarray(values, dtype=float), axis=0)  # NaN last
    last = len(ordered) - 1
    edge = (1 - level) / 2
    gap = np.isnan(ordered[-1])
    # An exact place such as 0.05 * 20 must not slip to its neighbour by rounding.
    low = np.where(gap, np.nan, ordered[math.floor(edge * last + 1e-9)])
    high = np.where(gap, np.nan, ordered[math.ceil((1 - edge) * last - 1e-9)])
    return low[()], high[()]


def bootstrap(
    table: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    level: float = 0.95,
    size: int = 2000,
    seed: int = 0,
    corrected: bool = False,
) -> Interval:
    """Percentile interval of a statistic of column sums, over the rows of a table (N, C).

    statistic  sums (R, C) -> (R,), such as a ratio of two columns; computed for all resamples at
               once. Resamples where it is NaN (nothing to divide by) do not count.
    corrected  for bias and for a spread that grows with the value (BCa, Efron 1987), which a
               statistic such as d′ needs: its resamples lie above it, and the further the larger

    Percentile bootstrap, Efron 1979. It is too narrow below some ten rows; one row gives an
    interval without width. Raises ValueError for a table without rows.
    """
    _check(level)
    rows = np.asarray(table, dtype=float)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"a table of shape {rows.shape}: give (N, C) with at least one row")
    weights = resamples(len(rows), size, np.random.default_rng(seed))
    drawn = statistic(weights @ rows)
    known = drawn[~np.isnan(drawn)]
    total = rows.sum(axis=0, keepdims=True)
    value = statistic(total)[0]
    if len(known) == 0:
        low, high = math.nan, math.nan
    elif corrected:
        low, high = _bca(known, value, statistic(total - rows), level)
    else:
        low, high = percentiles(known, level)
    return Interval(float(value), float(low), float(high), len(rows))


def _bca(drawn: Floats, value: float, without: Floats, level: float) -> tuple[float, float]:
    """The ends of the bias-corrected and accelerated interval (Efron 1987, section 4), from the
    statistic of the resamples (R,) and of the rows without each one (N,)."""
    normal, size = NormalDist(), len(drawn)
    below = (np.sum(drawn < value) + np.sum(drawn == value) / 2) / size
    bias = normal.inv_cdf(min(max(float(below), 1 / size), 1 - 1 / size))
    influence = np.nanmean(without) - without
    squares = float(np.nansum(influence**2))
    skew = float(np.nansum(influence**3)) / (6 * squares**1.5) if squares > 0 else 0.0
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.inv_cdf(tail)
        ends.append(normal.cdf(bias + z / max(1 - skew * z, 1e-3)))
    low = np.quantile(drawn, min(ends), method="lower")
    return float(low), float(np.quantile(drawn, max(ends), method="higher"))


def bootstrap_mean(
    values: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    *,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
    size: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of values (N,) with its percentile bootstrap interval; NaN values are left out.

    groups  (N,) what each value belongs to, such as its prompt: whole groups are resampled, and
            the mean is over all of their values. By default each value is its own group.
    bounds  the ends of the values' scale, where it has any

    Where all n groups lie at the ends of the scale, their mean is a share, and the interval is
    Wilson's. Where all but fewer than five groups agree elsewhere on a scale from a to b, the
    interval about the mean x reaches at least from x - u (x - a) to x + u (b - x), u being the most
    that Wilson's interval leaves for 0 of n: all there is where no group differs, and what a
    bootstrap does not see where few do. Without bounds groups that agree give an interval without
    width.

    `count` is the number of groups (or values) that have a value; with none all is NaN.
    Raises ValueError for a value outside of the bounds.
    """
    numbers = np.asarray(values, dtype=float)
    names = np.arange(len(numbers)) if groups is None else np.asarray(groups)
    if numbers.ndim != 1 or names.shape != numbers.shape:
        raise ValueError(f"values of shape {numbers.shape}, groups of {names.shape}: give (N,)")
    known = np.isfinite(numbers)
    if not known.any():
        _check(level)
        return NOTHING
    if bounds is not None:
        _check_within(numbers[known], bounds)
    code = np.unique(names[known], return_inverse=True)[1]
    sums = [np.bincount(code, weights=numbers[known]), np.bincount(code)]
    table = np.stack(sums, axis=1).astype(np.float64)
    means = ratio(table)
    if bounds is not None and np.isin(means, bounds).all() and bounds[0] < bounds[1]:
        return _of_share(int((means == bounds[1]).sum()), len(means), bounds, level)
    # Differences of equal changes may differ by rounding.
    if np.ptp(means) <= ROUNDING * max(1.0, float(np.abs(means).max())):
        return _agreed(float(means[0]), len(means), bounds, level)
    found = bootstrap(table, ratio, level=level, size=size, seed=seed)
    if bounds is None or _differing(means) >= FEW:
        return found
    least = _agreed(found.value, len(means), bounds, level)
    return replace(found, low=min(found.low, least.low), high=max(found.high, least.high))


def _differing(means: Floats) -> int:
    """How many of the means (N,) differ from the most common one."""
    counts = np.unique(np.round(means / ROUNDING), return_counts=True)[1]
    return len(means) - int(counts.max())


def _of_share(upper: int, count: int, bounds: tuple[float, float], level: float) -> Interval:
    """The mean of `count` units of which `upper` lie at the upper end of a scale, the rest at the
    lower."""
    low, high = bounds
    share = wilson(upper, count, level=level)
    value, least, most = (low + (high - low) * x for x in (share.value, share.low, share.high))
    return Interval(value, least, most, count)


def _agreed(value: float, count: int, bounds: tuple[float, float] | None, level: float) -> Interval:
    """The interval of a mean whose `count` units all have this value."""
    unseen = wilson(0, count, level=level).high
    low, high = (value, value) if bounds is None else bounds
    return Interval(value, value - unseen * (value - low), value + unseen * (high - value), count)


def student(
    mean: ArrayLike, deviation: ArrayLike, count: ArrayLike, *, level: float = 0.95
) -> tuple[Floats, Floats]:
    """The ends of Student's interval of means of `count` independent values with this standard
    deviation (of the sample, ddof=1), element by element; NaN where there is one value or none."""
    _check(level)
    n = np.asarray(count, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = t.ppf((1 + level) / 2, n - 1) * np.asarray(deviation, dtype=float) / np.sqrt(n)
    centre = np.asarray(mean, dtype=float)
    return centre - half, centre + half


def ratio(sums: Floats) -> Floats:
    """First column over second (R, 2), NaN where there is nothing to divide by: (R,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums[:, 1] != 0, sums[:, 0] / sums[:, 1], np.nan)


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """A share of independent trials with Wilson's score interval (Wilson 1927).

    Good from few trials on, and at shares of 0 and 1. Without trials the share is NaN and the
    interval is all that a share can be, 0 to 1.
    Raises ValueError for more successes than trials, or fewer than none.
    """
    _check(level)
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes!r} successes of {trials!r} trials: give 0 to all of them")
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    share = successes / trials
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2)))
    half /= 1 + z2 / trials
    # Rounding may leave the ends a hair inside of a share of 0 or 1.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return Interval(share, low, high, int(trials))


def _check_within(values: Floats, bounds: tuple[float, float]) -> None:
    low, high = bounds
    outside = values[(values < low - ROUNDING) | (values > high + ROUNDING)]
    if len(outside):
        raise ValueError(
            f"the value {outside[0]:g} lies outside of the scale {low:g} to {high:g}: give the "
            "bounds that all values keep, or none"
        )


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level!r}: give a share between 0 and 1")
