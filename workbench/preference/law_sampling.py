"""What the choice of pairs alone does to a mean curve over m: the limit that no law can pass.

A law that is fitted to the mean of some pairs and read on the mean of others errs by what the two
means differ in, whatever the law. So the bound of R^2 on held-out pairs is that of one mean curve
for the other, without any law. Pairs differ by their answers: utility is a sum over tokens, so
long answers lie lower. Dealing neighbours in length to the two sides (matched pairs, as in a
blocked experiment) takes that out, without a look at any odds.

Knows nothing of laws. A table is (N, M): N pairs, M values of m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from workbench.preference.law_quantities import means
from workbench.preference.law_shapes import Floats
from workbench.preference.laws import r2
from workbench.support.checks import check_whole

Dealing = Literal["random", "matched"]
DEALINGS: tuple[Dealing, ...] = ("random", "matched")
Halves = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def lengths(frame: pd.DataFrame) -> Floats:
    """Tokens of both answers of each pair of `odds.odds`, in order of the pairs: (N,).

    Raises ValueError for a frame without counts of tokens.
    """
    columns = ["tokens_positive", "tokens_negative"]
    if not set(columns) <= set(frame.columns):
        raise ValueError(f"the frame has no {columns}, but {list(frame.columns)}")
    return frame.groupby("pair")[columns].first().sum(axis=1).to_numpy(dtype=float)


def halves(
    tokens: ArrayLike,
    count: int,
    *,
    dealing: Dealing = "random",
    size: int | None = None,
    seed: int = 0,
) -> Halves:
    """Pairs dealt to two sides of one size, `count` times: indices of either side.

    tokens   (N,) of each pair's answers
    dealing  "random", or "matched": the drawn pairs are put in order of length, and of every two
             neighbours one goes to either side
    size     pairs on a side, of all that are drawn at random; by default half of them

    Raises ValueError for another dealing, and for a size of none or of more than half of the pairs.
    """
    if dealing not in DEALINGS:
        raise ValueError(f"dealing {dealing!r} is unknown; use one of {DEALINGS}")
    length = np.asarray(tokens, dtype=float)
    side = len(length) // 2 if size is None else size
    check_whole("size", side, 1, max(1, len(length) // 2))
    check_whole("count", count, 1)
    rng = np.random.default_rng(seed)
    dealt = []
    for _ in range(count):
        drawn = rng.permutation(len(length))[: 2 * side]
        if dealing == "random":
            dealt.append((drawn[:side], drawn[side:]))
            continue
        couples = drawn[np.argsort(length[drawn], kind="stable")].reshape(side, 2)
        swapped = rng.integers(0, 2, side)
        rows = np.arange(side)
        dealt.append((couples[rows, swapped], couples[rows, 1 - swapped]))
    return dealt


def carried(of: Floats, to: Floats) -> tuple[float, float, float]:
    """R^2 of a curve (M,) for another one: as it is; with its level refitted; with level and size
    refitted."""
    level = r2(to, of + (to - of).mean())
    line = np.column_stack([of, np.ones_like(of)])
    size = r2(to, line @ np.linalg.lstsq(line, to, rcond=None)[0])
    return r2(to, of), level, size


def no_law(table: Floats, dealt: Halves) -> Floats:
    """R^2 of the mean of either side for that of the other, without a law: (count, 2)."""
    found = []
    for one, other in dealt:
        left, right = means(table[one]), means(table[other])
        found.append((r2(right, left), r2(left, right)))
    return np.array(found)


@dataclass(frozen=True)
class Spread:
    """How far the curves of pairs lie apart, beside how far their mean moves over m.

    signal   variance over m of the mean curve, nats squared, less what sampling adds to it; 0
             where that is all of it
    between  variance between pairs, mean over m; `shape`, that of what is left without each
             pair's own level
    matched  what `between` is between neighbours in length
    level, size, other  shares of `between`: pairs that lie higher throughout; that have more or
             less of the mean curve; that bend otherwise. They add up to 1
    length   share of `between` that a straight line in the length of the answers explains
    """

    signal: float
    between: float
    shape: float
    matched: float
    level: float
    size: float
    other: float
    length: float

    def expected(self, pairs: int, dealing: Dealing = "random") -> float:
        """What R^2 without a law is to be expected of so many pairs on either side: 1 less twice
        the variance of a mean over what the held-out mean varies over m."""
        noise = self.between if dealing == "random" else self.matched
        return 1 - 2 * noise / pairs / (self.signal + self.shape / pairs)

    def needed(self, aim: float, dealing: Dealing = "random") -> float:
        """The fewest pairs on either side at which that reaches `aim`; infinite where the mean
        curve moves no more than sampling alone would move it."""
        if self.signal == 0:
            return float("inf")
        noise = self.between if dealing == "random" else self.matched
        exact = (2 * noise - (1 - aim) * self.shape) / ((1 - aim) * self.signal)
        return max(1.0, float(np.ceil(exact - 1e-9)))


def spread(table: Floats, tokens: Sequence[float] | Floats) -> Spread:
    """See `Spread`. Pairs that are undefined somewhere are left out.

    Raises ValueError for fewer than 4 pairs that are defined.
    """
    known = np.isfinite(table).all(axis=1)
    curves, length = table[known], np.asarray(tokens, dtype=float)[known]
    count = len(curves)
    if count < 4:
        raise ValueError(f"{count} pairs are defined at every m: give 4 or more")
    mean = curves.mean(axis=0)
    apart = curves - mean
    own = mean - mean.mean()
    total = float((apart**2).sum())
    level = apart.mean(axis=1)
    along = apart @ own / (own @ own)
    shares = (
        float((level**2).sum() * table.shape[1]) / total,
        float((along**2).sum() * (own @ own)) / total,
    )
    long = length - length.mean()
    by_length = (long @ apart) / (long @ long) if np.ptp(long) > 0 else np.zeros_like(mean)
    explained = float((np.outer(long, by_length) ** 2).sum()) / total
    shape = float((apart - level[:, None]).var(axis=0, ddof=1).mean())
    order = np.argsort(length, kind="stable")[: count - count % 2].reshape(-1, 2)
    steps = (curves[order[:, 0]] - curves[order[:, 1]]) ** 2
    return Spread(
        signal=max(float(np.var(mean)) - shape / count, 0.0),
        between=float(apart.var(axis=0, ddof=1).mean()),
        shape=shape,
        matched=float(steps.mean() / 2),
        level=shares[0],
        size=shares[1],
        other=1 - sum(shares),
        length=explained,
    )
