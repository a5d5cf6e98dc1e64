"""Whether a measure moves as the coefficient grows, and from where on. Pure array maths.

P prompts, K coefficients from 0 outwards; `moved` (P, K) is each prompt's change from its own
unsteered text, counted positive in the direction that is claimed, NaN where it is unknown. The
test answers only whether; the onset is an effect size and does not depend on how many prompts
there are.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from workbench.statistics.crossings import FEWEST
from workbench.statistics.curves import Floats, falling, means
from workbench.statistics.intervals import ROUNDING, percentiles, resamples

Effect = Literal["effect", "no effect", "wrong way", "unknown"]

# Up to so many prompts that moved, all flips of their signs are tried.
EXACT = 12
# The onset lies where the mean movement reaches this share of its greatest.
ONSET_SHARE = 0.25


def sign_flip(grid: Floats, moved: Floats, rng: np.random.Generator, flips: int = 4999) -> float:
    """p value of "no movement in the positive direction".

    If nothing moves, a prompt's changes are as likely as their opposites: its sign is flipped at
    random, the same at all coefficients. The statistic is the sum of change times coefficient,
    over all that is known of each prompt: one whose text breaks early counts with what it has, and
    so for less. Ties count against an effect. All flips are tried where few prompts moved; else
    p = (1 + number of random flips that reach the statistic) / (1 + flips) (Phipson & Smyth 2010).

    It takes texts to break alike whichever way they would move: those that broke cannot be flipped.
    """
    leaning = np.where(np.isfinite(moved), moved, 0) @ grid
    leaning = leaning[np.abs(leaning) > ROUNDING]  # what did not move looks the same flipped
    observed, count = leaning.sum(), len(leaning)
    # Equal sums that were added in another order may differ by rounding.
    if count <= EXACT:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float(np.mean((2.0 * bits - 1) @ leaning >= observed - ROUNDING))
    chance = rng.choice([-1.0, 1.0], size=(flips, count)) @ leaning
    return float((1 + np.sum(chance >= observed - ROUNDING)) / (1 + flips))


def place_among(value: float, draws: Floats) -> tuple[int, int]:
    """Which place a value takes among draws of chance, the largest being the first, and of how
    many: draws (D,) that are NaN do not count, the value itself does.

    Ties count against the value. place / of is the p value of "one more draw of chance" (Phipson &
    Smyth 2010), so that only the first of 20 or more reaches 0.05.
    """
    known = draws[~np.isnan(draws)]
    # Equal means that were added in another order may differ by rounding.
    return 1 + int(np.sum(known >= value - ROUNDING)), 1 + len(known)


def judge_effect(
    grid: Floats,
    moved: Floats,
    excess: Floats | None,
    rng: np.random.Generator,
    level: float,
    able: int | None = None,
) -> tuple[Effect, float]:
    """What can be said of a movement, and its p value.

    excess  (P, K) the movement less that under the random control, None without a control
    able    how many prompts are not at the end of the scale already, None where it has no end

    "effect" needs both, the movement and its excess over the control, to be positive beyond chance;
    "wrong way" a negative movement; each at half of the error that the level leaves. "unknown"
    where the prompts that can move at all are too few to show it (fewer than 5 at 90 %).
    """
    alpha = (1 - level) / 2
    tested = [moved] if excess is None else [moved, excess]
    p = max(sign_flip(grid, part, rng) for part in tested)
    if 0.5 ** (len(moved) if able is None else able) > alpha:
        return "unknown", p
    if p <= alpha:
        return "effect", p
    against = sign_flip(grid, -moved, rng)
    return ("wrong way", against) if against <= alpha else ("no effect", p)


def onset_estimate(
    grid: Floats,
    moved: Floats,
    level: float,
    bootstrap: int,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """The first point at which the mean movement has reached a quarter of its greatest, with its
    interval.

    The mean over prompts is first made to rise (isotonic regression), so it stays beyond the
    onset. Prompts are resampled whole; as each resample knows its crossing to a cell of the grid
    only, the interval runs from the lower percentile of the cells' inner ends to the upper
    percentile of their outer ends. It is NaN for fewer than 5 prompts. All is infinite where the
    movement is never positive.
    """
    once = np.ones((1, len(moved)))
    _, (value,) = _rises(grid, moved, once)
    if len(moved) < FEWEST:
        return float(value), math.nan, math.nan
    inner, outer = _rises(grid, moved, resamples(len(moved), bootstrap, rng))
    low, high = percentiles(inner, level)[0], percentiles(outer, level)[1]
    return float(value), min(float(low), float(value)), max(float(high), float(value))


def _rises(grid: Floats, moved: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Per resample (R, P) the ends of the cell in which the movement gets there, (R,) each."""
    sums, counts = means(weights, moved)
    rising = -falling(-sums, counts)  # (R, K)
    target = ONSET_SHARE * rising[:, -1:]
    there = (rising >= target) & (target > 0)
    after = np.maximum(np.argmax(there, axis=1), 1)
    found = there.any(axis=1)
    inner, outer = (np.where(found, end, np.inf) for end in (grid[after - 1], grid[after]))
    return inner, outer
