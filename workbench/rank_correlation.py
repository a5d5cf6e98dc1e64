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
from scipy.stats import rankdata

from workbench.intervals import Floats, Interval, percentiles

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
    drawn = _resampled(known, values, groups, clusters, size, np.random.default_rng(seed))
    able = drawn[np.isfinite(drawn)]
    low, high = percentiles(able, level) if len(able) else (np.nan, np.nan)
    return Interval(partial(values, groups), float(low), float(high), len(known))


def partial(values: Floats, groups: np.ndarray) -> float:
    """ρ of the first two columns of (N, 2 + Z) given the others, within groups (N,)."""
    ranks = within_ranks(values, groups)
    first, second, others = ranks[:, 0], ranks[:, 1], ranks[:, 2:]
    if others.shape[1]:
        first, second = (
            each - others @ np.linalg.lstsq(others, each, rcond=None)[0] for each in (first, second)
        )
    sizes = np.linalg.norm(first) * np.linalg.norm(second)
    # What is left of ranks that others tell wholly is rounding.
    return float(first @ second / sizes) if sizes > 1e-9 * len(ranks) ** 3 else np.nan


def within_ranks(values: Floats, groups: np.ndarray) -> Floats:
    """Ranks (N, C) of columns within groups (N,), about their mean: equal values share theirs."""
    ranks = np.empty(values.shape)
    for group in np.unique(groups):
        mine = groups == group
        found = rankdata(values[mine], axis=0)
        # Large groups shall not outweigh small ones by the reach of their ranks.
        ranks[mine] = (found - found.mean(axis=0)) / mine.sum()
    return ranks * len(values)


def _resampled(
    known: pd.DataFrame,
    values: Floats,
    groups: np.ndarray,
    clusters: Sequence[str],
    size: int,
    rng: np.random.Generator,
) -> Floats:
    """(R,) the correlation of resamples: a row counts as often as all its clusters are drawn."""
    codes = [_codes(known, [name]) for name in clusters]
    found = np.empty(size)
    for index in range(size):
        counts = np.ones(len(known), dtype=int)
        for code in codes:
            number = int(code.max()) + 1
            # One cluster alone cannot be resampled.
            if number > 1:
                counts *= np.bincount(rng.integers(number, size=number), minlength=number)[code]
        rows = np.repeat(np.arange(len(known)), counts)
        enough = len(rows) >= FEWEST
        found[index] = partial(values[rows], groups[rows]) if enough else np.nan
    return found


def _codes(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """(N,) numbers of the groups by some columns; all the same without any."""
    if not columns:
        return np.zeros(len(frame), dtype=int)
    return frame.groupby(list(columns), sort=False).ngroup().to_numpy()
