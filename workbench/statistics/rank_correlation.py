"""Rank correlations over cases that belong together in two ways, and what one adds to others.

    ρ(y, x | z) = correlation of what the ranks of z leave of the ranks of y and of x

Spearman's where z is empty. Within strata, ranks are those within each stratum, about their mean
there, so that what differs from stratum to stratum tells nothing. Sweeps of one trait are not
independent in whatever model, nor are those of one model: intervals resample traits and models at
once, as the rows and columns of a table (the pigeonhole bootstrap, Owen 2007, which errs on the
wide side). Pure array maths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.statistics.intervals import Floats, Interval, percentiles

# Correlations of fewer cases say nothing.
FEWEST = 8


def rank_correlation(
    frame: pd.DataFrame,
    outcome: str,
    predictor: str,
    *,
    given: Sequence[str] = (),
    strata: Sequence[str] = (),
    clusters: Sequence[str] = ("trait", "model"),
    level: float = 0.95,
    size: int = 400,
    seed: int = 0,
) -> Interval:
    """Of the columns of a frame, one row per case, with its interval over clusters.

    outcome, predictor  columns; infinite values are the largest, rows with a gap are left out
    given     columns whose ranks are taken off first
    strata    columns within whose values ranks are taken
    clusters  columns whose values are resampled, each by itself

    `count` is the number of rows. NaN for fewer than eight rows and where either does not vary.
    Raises ValueError for columns that are not there.
    """
    names = [outcome, predictor, *given]
    lacking = [name for name in [*names, *strata, *clusters] if name not in frame]
    if lacking:
        raise ValueError(f"the frame lacks the columns {lacking}: it has {list(frame)}")
    known = frame[frame[names].notna().all(axis=1)].reset_index(drop=True)
    if len(known) < FEWEST:
        return Interval(np.nan, np.nan, np.nan, len(known))
    values = known[names].to_numpy(dtype=float)
    groups = _codes(known, strata)
    counts = _resampled(known, clusters, size, np.random.default_rng(seed))
    # The first draws every row once.
    found = partial(values, groups, np.concatenate([np.ones((1, len(known))), counts]))
    able = found[1:][np.isfinite(found[1:])]
    low, high = percentiles(able, level) if len(able) else (np.nan, np.nan)
    return Interval(float(found[0]), float(low), float(high), len(known))


def partial(values: Floats, groups: np.ndarray, counts: Floats) -> Floats:
    """(R,) ρ of the first two columns of (N, 2 + Z) given the others, within groups (N,), of
    resamples that hold row n `counts` (R, N) times. NaN for fewer than eight rows."""
    ranks = within_ranks(values, groups, counts)
    first, second, others = ranks[:, 0], ranks[:, 1], ranks[:, 2:]
    if others.shape[1]:
        # Least squares by the normal equations; where others tell each other, the least solution.
        weighed = others * counts[:, None]
        solve = np.linalg.pinv(weighed @ others.transpose(0, 2, 1), hermitian=True)
        first, second = (
            each - np.einsum("rzn,rzy,rym,rm->rn", others, solve, weighed, each, optimize=True)
            for each in (first, second)
        )
    total = counts.sum(axis=1)
    sizes = np.sqrt((counts * first**2).sum(axis=1) * (counts * second**2).sum(axis=1))
    # What is left of ranks that others tell wholly is rounding.
    told = (sizes > 1e-9 * total**3) & (total >= FEWEST)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(told, (counts * first * second).sum(axis=1) / sizes, np.nan)


def within_ranks(values: Floats, groups: np.ndarray, counts: Floats) -> Floats:
    """Ranks (R, C, N) of columns (N, C) within groups (N,), about their mean: equal values share
    theirs, and a row that is drawn twice is two equal rows.

    Scaled so that large groups do not outweigh small ones by the reach of their ranks.
    """
    same = groups[:, None] == groups[None, :]  # (N, N)
    sizes = counts @ same.astype(float)  # (R, N)
    scale = counts.sum(axis=1, keepdims=True) / np.maximum(sizes, 1)
    ranks = []
    for column in values.T:
        below = (same & (column[None, :] < column[:, None])).astype(float)
        equal = (same & (column[None, :] == column[:, None])).astype(float)
        # The mean rank of a group of n is (n + 1) / 2.
        ranks.append((counts @ (below + equal / 2).T - sizes / 2) * scale)
    return np.stack(ranks, axis=1)


def _resampled(
    known: pd.DataFrame, clusters: Sequence[str], size: int, rng: np.random.Generator
) -> Floats:
    """(R, N) how often each row is drawn: as often as all its clusters are."""
    codes = [_codes(known, [name]) for name in clusters]
    counts = np.ones((size, len(known)))
    for index in range(size):
        for code in codes:
            number = int(code.max()) + 1
            # One cluster alone cannot be resampled.
            if number > 1:
                drawn = np.bincount(rng.integers(number, size=number), minlength=number)
                counts[index] *= drawn[code]
    return counts


def _codes(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """(N,) numbers of the groups by some columns; all the same without any."""
    if not columns:
        return np.zeros(len(frame), dtype=int)
    return frame.groupby(list(columns), sort=False).ngroup().to_numpy()
