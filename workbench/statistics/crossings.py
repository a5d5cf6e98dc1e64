"""At which coefficient a share of the prompts has broken: value and interval. Pure array maths.

Each of n prompts is looked at on a grid of K coefficients from 0 outwards, so the share that
stays intact, S(c), is known at grid points only, and there as a count out of n. Where S crosses a
bound is therefore known to a cell of the grid at best. The interval tests each grid point by the
exact binomial distribution and its ends are grid points:

low   the last grid point up to which every count is too high for S <= bound
high  the first grid point from which on every count is too low for S >= bound

each at half of the error that the level leaves. Points are tested in order, from the inside for
low and from the outside for high, and testing stops at the first that is not rejected; so the
interval errs only if the grid point just beyond the true crossing is wrongly rejected, and covers
with at least its level for any falling S, any n and any grid. For n break points that are known
exactly it is the order-statistic interval of a quantile (Conover, Practical Nonparametric
Statistics, section 3.2).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from workbench.statistics.curves import Floats, falling

Bools = NDArray[np.bool_]

# The shares of intact texts that mark the two.
CEILING_SHARE, RECOMMENDED_SHARE = 0.5, 0.9
# Four prompts that agree are as likely as 1 in 16, more than a 90 % interval may leave out.
FEWEST = 5


def first_break(shares: Floats, bound: float) -> int | None:
    """The first of two neighbouring points of (K,) below the bound, or the last point alone."""
    return _first_run(shares < bound)


def reentry(shares: Floats, bound: float) -> int | None:
    """Where shares (K,) come back after the first break: halfway from the bound to 1, at two
    neighbouring points or at the last alone. Less is counted as flicker about the bound."""
    broken = first_break(shares, bound)
    if broken is None:
        return None
    back = _first_run(shares[broken:] >= (1 + bound) / 2)
    return None if back is None else broken + back


def _first_run(holds: Bools) -> int | None:
    twice = holds & np.append(holds[1:], True)
    return int(np.argmax(twice)) if twice.any() else None


def settled(values: Floats, bound: float) -> Floats:
    """The falling (isotonic) curve of the mean over rows of values (P, K), relative to its start.

    The first sustained break counts: what rises to the bound again after it does not lift the
    curve, which from there on keeps its last value. (K,)
    Raises ValueError for a curve that does not start above 0.
    """
    curve = values.mean(axis=0)
    if not curve[0] > 0:
        raise ValueError(f"a curve that starts at {curve[0]!r} cannot fall: it must be above 0")
    curve = curve / curve[0]
    broken = first_break(curve, bound)
    back = [] if broken is None else np.flatnonzero(curve[broken:] >= bound)
    end = len(curve) if broken is None or len(back) == 0 else broken + int(back[0])
    fitted = falling(curve[None, :end], np.ones((1, end)))[0]
    return np.append(fitted, np.full(len(curve) - end, fitted[-1]))


def crossing(grid: Floats, fitted: Floats, bound: float) -> float:
    """Where a falling curve (K,) first goes below the bound, interpolated; infinite if never."""
    below = np.flatnonzero(fitted < bound)
    if len(below) == 0:
        return math.inf
    after = int(below[0])
    if after == 0:
        return float(grid[0])
    part = (fitted[after - 1] - bound) / (fitted[after - 1] - fitted[after])
    return float(grid[after - 1] + part * (grid[after] - grid[after - 1]))


def last_safe(grid: Floats, fitted: Floats, bound: float) -> float:
    """The last point before a falling curve (K,) first goes below the bound: the last that was
    seen to be safe, never one in between."""
    below = np.flatnonzero(fitted < bound)
    return float(grid[-1] if len(below) == 0 else grid[max(int(below[0]) - 1, 0)])


def limits(
    grid: Floats, intact: Bools, bound: float, end: int, level: float
) -> tuple[float, float]:
    """The ends of the crossing's interval, as the module says; high is infinite if it is beyond.

    grid    (K,) from 0 outwards; at its first point every prompt is intact
    intact  (P, K) whether a prompt's text is intact
    end     how many grid points count: those before a `reentry`

    NaN where there are fewer than 5 prompts.
    """
    prompts = len(intact)
    if prompts < FEWEST:
        return math.nan, math.nan
    tail = (1 - level) / 2
    counts = intact[:, :end].sum(axis=0)
    above = binom.sf(counts - 1, prompts, bound) <= tail
    below = binom.cdf(counts, prompts, bound) <= tail
    inside = int(np.argmin(np.append(above, False)))  # leading points that lie above
    outside = int(np.argmin(np.append(below[::-1], False)))  # trailing points that lie below
    low = float(grid[max(inside - 1, 0)])
    return low, float(grid[end - outside]) if outside else math.inf


def bounded_from_below(prompts: int, bound: float, level: float) -> bool:
    """Whether so many prompts, all intact, could show that S exceeds the bound."""
    return bound**prompts <= (1 - level) / 2
