"""What can be read off a text alone: whether there is one, and how much of it is repetition.

Pure array maths over many texts at once; knows nothing of models. What cannot be measured is NaN,
never a value that a sound text could have: a text too short for one n-gram has no distinct
n-grams, and an empty one is told by `empty`, as no measure of repetition would find fault with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def empty(texts: Iterable[Any]) -> NDArray[np.bool_]:
    """Which texts say nothing: "", white space alone, or missing (None, NaN): (B,)."""
    return np.array([not isinstance(t, str) or not t.strip() for t in texts], dtype=bool)


def distinct(ids: NDArray[np.integer], lengths: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """Distinct n-grams over all n-grams of each text: (B,) in (0, 1], NaN where there are none.

    ids      (B, N) token ids
    lengths  (B,) how many of a row's ids are its text; 0 for an empty one

    Distinct-n, Li et al. 2016, https://arxiv.org/abs/1510.03055, of one text each. Raises
    ValueError for n below 1 and for shapes or lengths that do not fit.
    """
    ids, lengths = _checked(ids, lengths)
    if n < 1:
        raise ValueError(f"n-grams of length {n!r}: give at least 1")
    rows, columns = ids.shape
    if columns < n:
        return np.full(rows, np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(ids, n, axis=1)  # (B, N - n + 1, n)
    # One number per n-gram: the codes of shorter n-grams, ranked, and the next token.
    codes = windows[..., 0]
    for place in range(1, n):
        pairs = codes.astype(np.int64) * (int(ids.max(initial=0)) + 1) + windows[..., place]
        codes = np.unique(pairs, return_inverse=True)[1].reshape(pairs.shape)
    counts = np.maximum(lengths - n + 1, 0)
    real = np.arange(codes.shape[1]) < counts[:, None]
    ordered = np.sort(np.where(real, codes, -1), axis=1)
    fresh = np.diff(ordered, axis=1, prepend=-1) != 0  # -1 sorts first and never counts
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, fresh.sum(axis=1) / counts, np.nan)


def longest_repeat(
    ids: NDArray[np.integer], lengths: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens in the longest span of each text that stands in it twice: (B,), 0 if no token does;
    and the token at which it stands for the second time, (B,), the text's length if none does.

    An empty text has 0 as well; see `empty`. The two may overlap, so a text of N tokens that
    repeats itself every p tokens scores N - p, from token p on.
    Over the text's length it is the share of the text that one repeat makes up.
    """
    ids, lengths = _checked(ids, lengths)
    rows, columns = ids.shape
    longest, start = np.zeros(rows, dtype=np.int64), lengths.astype(np.int64)
    places = np.arange(columns)
    for lag in range(1, columns):
        same = ids[:, lag:] == ids[:, :-lag]
        same &= places[lag:] < lengths[:, None]
        # Length of the run of agreements that ends at each place: its distance to the last miss.
        here = places[1 : columns - lag + 1]
        run = here - np.maximum.accumulate(np.where(same, 0, here), axis=1)
        end = run.argmax(axis=1)
        most = run[np.arange(rows), end]
        start = np.where(most > longest, lag + end + 1 - most, start)
        longest = np.maximum(longest, most)
    return longest, start


def _checked(
    ids: NDArray[np.integer], lengths: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    ids, lengths = np.asarray(ids), np.asarray(lengths)
    if ids.ndim != 2 or lengths.shape != ids.shape[:1]:
        raise ValueError(
            f"ids have shape {ids.shape} and lengths {lengths.shape}; give (B, N) and (B,)"
        )
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= ids.shape[1]:
        raise ValueError(f"lengths run to {lengths.max()}, but rows have {ids.shape[1]} tokens")
    return ids, lengths
