"""How far two judges agree: quadratic weighted kappa (Cohen 1968), with an interval.

    kappa = 1 - sum_i (a_i - b_i)^2 / n  /  [ sum_i sum_j (a_i - b_j)^2 / n^2 ]

The disagreement seen, over the disagreement of the same scores dealt out at random. 1: the same
scores; 0: no better than chance; below: worse. With equally spaced ratings this is the usual kappa
of their table; written as above it takes any scores, without cutting them into classes (there it
is Lin's concordance coefficient, 1989). A judge that is always stricter by the same amount loses
agreement, one that is only noisier does too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from workbench.judges.interface import RANGES
from workbench.statistics.intervals import NOTHING, Floats, Interval, bootstrap


def agreement(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    level: float = 0.95,
    size: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Quadratic weighted kappa of two judges' scores of the same texts.

    a, b    frames as `score` gives them, rows in the same order
    groups  what each text belongs to, such as its prompt: whole groups are resampled, as texts of
            one prompt are no independent draws. By default each text is its own group.
    level   of the percentile bootstrap interval
    size    resamples
    seed    of the resampling

    One row for "trait" and one for "coherence" (the index):

        kappa, low, high  NaN where neither judge's scores vary
        texts             how many both judges rated
        groups            how many independent units these are
        left_out          how many at least one judge did not rate; they are no part of kappa

    Raises ValueError for frames of different lengths or without these columns.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} scores against {len(b)}: both judges must rate the same texts")
    names = np.arange(len(a)) if groups is None else np.asarray(groups)
    if names.shape != (len(a),):
        raise ValueError(f"groups of shape {names.shape} for {len(a)} texts: give one for each")
    rows = {}
    for measure in RANGES:
        missing = [which for which, frame in (("a", a), ("b", b)) if measure not in frame]
        if missing:
            raise ValueError(f"{missing[0]} has no column {measure!r}; give frames from score()")
        first, second = (frame[measure].to_numpy(dtype=float) for frame in (a, b))
        both = np.isfinite(first) & np.isfinite(second)
        kappa = weighted_kappa(
            first[both], second[both], names[both], level=level, size=size, seed=seed
        )
        rows[measure] = {
            "kappa": kappa.value,
            "low": kappa.low,
            "high": kappa.high,
            "texts": int(both.sum()),
            "groups": kappa.count,
            "left_out": int((~both).sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def weighted_kappa(
    a: ArrayLike,
    b: ArrayLike,
    groups: ArrayLike,
    *,
    level: float = 0.95,
    size: int = 2000,
    seed: int = 0,
) -> Interval:
    """Kappa of scores a and b (N,), with a bootstrap over groups (N,)."""
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(first) == 0:
        return NOTHING
    code = np.unique(np.asarray(groups), return_inverse=True)[1]
    terms = (np.ones(len(first)), first, second, first**2, second**2, first * second)
    table = np.stack([np.bincount(code, weights=term) for term in terms], axis=1)
    return bootstrap(table, _kappa, level=level, size=size, seed=seed)


def _kappa(sums: Floats) -> Floats:
    """Kappa from n, and the sums of a, b, a^2, b^2 and ab (R, 6): (R,); NaN without variation."""
    count, a, b, aa, bb, ab = sums.T
    seen = (aa + bb - 2 * ab) / count
    chance = (aa + bb) / count - 2 * a * b / count**2
    # Of equal scores alone rounding leaves a little.
    varies = chance > 1e-12
    return np.where(varies, 1 - seen / np.where(varies, chance, 1), np.nan)
