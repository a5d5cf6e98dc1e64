"""Curves over coefficients, many resamples of the prompts at once: pure array maths.

R resamples, P prompts, K coefficients from 0 outwards. Knows nothing of sweeps.
"""

from __future__ import annotations

import math

import numpy as np

from workbench.statistics.intervals import Floats


def means(weights: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Weighted sums and counts per coefficient, both (R, K), of values (P, K) with gaps."""
    known = np.isfinite(values)
    return weights @ np.where(known, values, 0.0), weights @ known.astype(float)


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


def reaching(grid: Floats, curve: Floats, level: float) -> float:
    """Where a curve (K,) first reaches a level from below, on a line between the points of its grid
    (K,); infinite: nowhere."""
    over = np.flatnonzero(curve >= level)
    if not len(over):
        return math.inf
    at = int(over[0])
    if at == 0:
        return float(grid[0])
    part = (level - curve[at - 1]) / (curve[at] - curve[at - 1])
    return float(grid[at - 1] + part * (grid[at] - grid[at - 1]))
