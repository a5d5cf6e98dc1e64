"""Curves over coefficients, many resamples of the prompts at once: pure array maths.

R resamples, P prompts, K coefficients from 0 outwards. Knows nothing of sweeps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def means(weights: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Weighted sums and counts per coefficient, both (R, K), of values (P, K) with gaps."""
    known = np.isfinite(values)
    return weights @ np.where(known, values, 0.0), weights @ known.astype(float)


def ratio(sums: Floats, counts: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums / counts


def falling(sums: Floats, counts: Floats) -> Floats:
    """Weighted isotonic regression, not increasing along K, of the means sums / counts: (R, K).

    The min-max formula, min over a <= k of max over b >= k of the mean over a … b (Robertson,
    Wright & Dykstra 1988), so that all resamples are fitted at once. A gap takes the value that
    follows it, or at the end the one before.
    """
    start = np.zeros((len(sums), 1))
    total = np.concatenate([start, sums.cumsum(axis=1)], axis=1)
    weight = np.concatenate([start, counts.cumsum(axis=1)], axis=1)
    above = total[:, None, 1:] - total[:, :-1, None]  # (R, a, b)
    below = weight[:, None, 1:] - weight[:, :-1, None]
    size = sums.shape[1]
    a, b = np.arange(size)[:, None], np.arange(size)[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        average = np.where((a <= b) & (below > 0), above / below, -np.inf)
    # max over b >= k, for each a; then min over a <= k.
    best = np.maximum.accumulate(average[:, :, ::-1], axis=2)[:, :, ::-1]
    best = np.where((a <= b) & np.isfinite(best), best, np.inf)
    return best.min(axis=1)


def crossing_estimate(
    grid: Floats, fitted: Floats, resampled: Floats, share: float, level: float
) -> tuple[float, float, float]:
    """Where the curve first falls below a share of its value at 0, with its interval."""
    value = crossings(grid, fitted, share)[0]
    return (float(value), *interval(crossings(grid, resampled, share), level))


def crossings(grid: Floats, curves: Floats, share: float) -> Floats:
    """Where falling curves (R, K) first go below a share of their start, interpolated: (R,),
    infinite where they never do."""
    target = share * curves[:, :1]
    below = curves < target
    index = np.argmax(below, axis=1)
    rows = np.arange(len(curves))
    after, before = curves[rows, index], curves[rows, np.maximum(index - 1, 0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = (before - target[:, 0]) / (before - after)
        x = grid[np.maximum(index - 1, 0)] + part * (grid[index] - grid[np.maximum(index - 1, 0)])
    return np.where(below.any(axis=1), x, np.inf)


def interval(values: Floats, level: float) -> tuple[float, float]:
    """Percentiles that are values themselves, as some of them may be infinite."""
    ordered = np.sort(values)
    edge = (1 - level) / 2
    places = [math.floor(edge * (len(ordered) - 1)), math.ceil((1 - edge) * (len(ordered) - 1))]
    return float(ordered[places[0]]), float(ordered[places[1]])


def strength(weights: Floats, moved: Floats) -> Floats:
    """sum / root of the sum of squares of the changes, per coefficient: (R, K); 0 if none."""
    sums, _ = means(weights, moved)
    squares, _ = means(np.abs(weights), moved**2)
    return np.where(squares > 0, sums / np.sqrt(np.maximum(squares, 1e-300)), 0.0)


def critical(moved: Floats, rng: np.random.Generator, level: float, flips: int = 2000) -> float:
    """What the largest |strength| over coefficients stays below by chance, with this level.

    If nothing moves, each prompt's changes are as likely as their opposites: its sign is flipped
    at random, the same at all coefficients.
    """
    signs = rng.choice([-1.0, 1.0], size=(flips, len(moved)))
    chance = np.abs(strength(signs, moved)).max(axis=1)
    return float(np.quantile(chance, level))


def rise_estimate(
    grid: Floats, strength: Floats, resampled: Floats, limit: float, level: float
) -> tuple[float, float, float]:
    """Where the strength first exceeds its limit, interpolated, with its interval."""
    value = float(rises(grid, strength, limit)[0])
    return (value, *interval(rises(grid, resampled, limit), level))


def rises(grid: Floats, curves: Floats, limit: float) -> Floats:
    beyond = curves > limit
    index = np.argmax(beyond, axis=1)
    rows = np.arange(len(curves))
    former = np.maximum(index - 1, 0)
    after, before = curves[rows, index], curves[rows, former]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(after > before, (limit - before) / (after - before), 1.0)
    x = grid[former] + part * (grid[index] - grid[former])
    return np.where(beyond.any(axis=1), x, np.inf)
