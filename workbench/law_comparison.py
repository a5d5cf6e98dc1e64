"""Is the paper's law needed? The same curve by simpler laws, and random curves by the paper's.

Eight free numbers fit almost any smooth curve, so a fit in place says little. Three things say
more: the same fit on pairs that it has not seen, beyond the range of m that it has seen, and on
random curves that are as smooth but mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.checks import check_whole
from workbench.law_quantities import curves, means
from workbench.law_shapes import KINDS, LAWS, Floats, Kind
from workbench.laws import fit, fit_many, r2

# The inner part of the range of m, by which the outer one is predicted.
INNER = 2 / 3


def compare(
    frame: pd.DataFrame,
    *,
    kinds: Sequence[Kind] = KINDS,
    laws: Sequence[str] | None = None,
    splits: int = 4,
    random: int = 20,
    per_pair: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Every law on the curves of `odds.odds`, one row per (kind, law):

    numbers        how many are free
    in_place       R^2 of the fit to the mean over pairs
    held_out       fitted to the mean of half of the pairs, R^2 on the mean of the other half; the
                   median over `splits` random halvings, both ways; `held_out_change`, the same of
                   the change from m = 0: halves of the pairs differ in level, whatever the law
    extrapolated   fitted to the inner two thirds of the range of m, R^2 on the outer points about
                   their own mean
    error_outside  the root mean square error there, in shares of the whole curve's range
    aicc           less that of the best law
    per_pair       median R^2 of a fit to each pair's own curve; `below`, the share under 0.9
    random         median R^2 of a fit to `random` random curves as smooth as the mean (see
                   `smooth_like`); `random_extrapolated`, the same as `extrapolated` is for the mean
    at_bound       the numbers that ended at a bound, in words
    rises          D rises from 0 to both sides: the formula fits, its reading as validity does not

    Raises ValueError for fewer than 4 pairs, and as `laws.fit`.
    """
    check_whole("splits", splits, 1)
    rng = np.random.default_rng(seed)
    rows = []
    for kind in kinds:
        grid, table = curves(frame, kind)
        if len(table) < 4:
            raise ValueError(f"{len(table)} pairs cannot be halved with sense: give 4 or more")
        halves = [rng.permutation(len(table)) for _ in range(splits)]
        mean = means(table)
        chance = smooth_like(grid, mean, random, seed=seed) if random else None
        known = table[np.isfinite(table).all(axis=1)] if per_pair else table[:0]
        for law in laws or LAWS[kind]:
            own = fit(grid, mean, kind, law)
            row: dict[str, object] = {
                "kind": kind,
                "law": law,
                "numbers": own.law.size,
                "in_place": own.r2,
            }
            row["held_out"], row["held_out_change"] = _held_out(grid, table, halves, kind, law)
            row["extrapolated"], row["error_outside"] = extrapolate(grid, mean, kind, law)
            row["aicc"] = own.aicc
            singles = [each.r2 for each in fit_many(grid, known, kind, law, follow=2)]
            row["per_pair"] = float(np.median(singles)) if singles else np.nan
            row["below"] = float(np.mean(np.array(singles) < 0.9)) if singles else np.nan
            if chance is not None:
                fits = fit_many(grid, chance, kind, law, follow=2)
                row["random"] = float(np.median([each.r2 for each in fits]))
                outside = [extrapolate(grid, curve, kind, law, follow=2)[0] for curve in chance]
                row["random_extrapolated"] = float(np.median(outside))
            row["at_bound"] = ", ".join(own.at_bound)
            row["rises"] = own.rises
            rows.append(row)
    found = pd.DataFrame(rows)
    found["aicc"] -= found.groupby("kind")["aicc"].transform("min")
    found.attrs = {
        **{
            key: frame.attrs[key]
            for key in ("model", "weights", "pairs", "trait")
            if key in frame.attrs
        },
        "pairs_count": int(frame["pair"].nunique()),
        "inner": INNER,
        "splits": splits,
        "random": random,
        "seed": seed,
    }
    return found


def extrapolate(
    m: Floats, curve: Floats, kind: Kind, law: str, *, follow: int = 6
) -> tuple[float, float]:
    """R^2 on the outer points, of which the fit to the inner ones knows nothing, and the root mean
    square error there in shares of the curve's range."""
    inner = np.abs(m) <= INNER * np.abs(m).max() * (1 + 1e-9)
    fitted = fit(m[inner], curve[inner], kind, law, follow=follow)
    guess = fitted(m[~inner])
    error = float(np.sqrt(np.mean((curve[~inner] - guess) ** 2)) / np.ptp(curve))
    return r2(curve[~inner], guess), error


def _held_out(
    grid: Floats, table: Floats, halves: Sequence[np.ndarray], kind: Kind, law: str
) -> tuple[float, float]:
    """R^2 on the other half, and that of the changes from the smallest |m| on."""
    middle = len(table) // 2
    sides = [means(table[rows]) for order in halves for rows in (order[:middle], order[middle:])]
    fits = fit_many(grid, np.stack(sides), kind, law, follow=3)
    zero = int(np.abs(grid).argmin())
    scores = []
    for index, each in enumerate(fits):
        other, guess = sides[index ^ 1], each(grid)  # the other half of the same halving
        scores.append((r2(other, guess), r2(other - other[zero], guess - guess[zero])))
    whole, change = np.median(scores, axis=0)
    return float(whole), float(change)


def smooth_like(m: Floats, curve: Floats, count: int, *, seed: int = 0) -> Floats:
    """Random curves (count, M) as smooth as a curve: draws of a Gaussian process with a squared
    exponential kernel, whose length is such that the mean squared step from point to point is the
    same share of the variance over the grid. Scaled to the curve's mean and deviation.
    """
    check_whole("count", count, 1)
    rough = float(np.mean(np.diff(curve) ** 2) / np.var(curve))
    gaps = (m[:, None] - m[None]) ** 2
    lengths = np.geomspace(0.02, 20, 400) * np.abs(m).max()
    kernels = np.exp(-gaps[None] / (2 * lengths[:, None, None] ** 2))
    steps = np.mean(2 - 2 * np.diagonal(kernels, offset=1, axis1=1, axis2=2), axis=1)
    spread = 1 - kernels.mean(axis=(1, 2))
    nearest = int(np.abs(np.log(steps / spread) - np.log(rough)).argmin())
    kernel = kernels[nearest] + 1e-10 * np.eye(len(m))
    drawn = np.random.default_rng(seed).multivariate_normal(
        np.zeros(len(m)), kernel, size=count, method="eigh"
    )
    drawn = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, keepdims=True)
    return curve.mean() + curve.std() * drawn
