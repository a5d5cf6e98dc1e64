"""Is the paper's law needed? The same curve by simpler laws, and random curves by the paper's.

Eight free numbers fit almost any smooth curve, so a fit in place says little. Three things say
more: the same fit on pairs that it has not seen, beyond the range of m that it has seen, and on
random curves that are as smooth but mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.preference.law_quantities import curves, means
from workbench.preference.law_sampling import Dealing, Halves, carried, halves, lengths, no_law
from workbench.preference.law_shapes import KINDS, LAWS, Floats, Kind
from workbench.preference.laws import Fit, fit, fit_many, r2
from workbench.support.checks import check_whole

# The inner part of the range of m, by which the outer one is predicted.
INNER = 2 / 3


def compare(
    frame: pd.DataFrame,
    *,
    kinds: Sequence[Kind] = KINDS,
    laws: Sequence[str] | None = None,
    splits: int = 4,
    dealings: Sequence[Dealing] = ("random",),
    random: int = 20,
    singles: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Every law on the curves of `odds.odds`, one row per (kind, law):

    numbers        how many are free
    in_place       R^2 of the fit to the mean over pairs
    held_out       fitted to the mean of half of the pairs, R^2 on the mean of the other half; the
                   median over `splits` halvings, both ways
    held_out_level, held_out_size  the same, with the level, or level and size, of the curve
                   refitted to the other half: what is left of the miss is one of shape
    no_law         R^2 of the mean of the one half itself for that of the other: what no law can
                   pass (law_sampling.py)
    extrapolated   fitted to the inner two thirds of either side of the range of m, R^2 on the outer
                   points about their own mean
    error_outside  the root mean square error there, in shares of the whole curve's range
    aicc           less that of the best law
    per_pair       median R^2 of a fit to the own curves of `singles` pairs (None: of all; 0: of
                   none); `below`, the share under 0.9
    random         median R^2 of a fit to `random` random curves as smooth as the mean (see
                   `smooth_like`); `random_extrapolated`, the same as `extrapolated` is for the mean
    at_bound       the numbers that ended at a bound, in words
    rises          D rises from 0 to both sides: the formula fits, its reading as validity does not

    With "matched" among the `dealings`, halves are also dealt matched in length, in columns
    `held_out_matched` and so on; that needs the counts of tokens that `odds.odds` gives.
    Raises ValueError for fewer than 4 pairs, and as `laws.fit` and `law_sampling.halves`.
    """
    check_whole("splits", splits, 1)
    if singles is not None:
        check_whole("singles", singles, 0)
    rows = []
    for kind in kinds:
        grid, table = curves(frame, kind)
        if len(table) < 4:
            raise ValueError(f"{len(table)} pairs cannot be halved with sense: give 4 or more")
        tokens = lengths(frame) if "matched" in dealings else np.zeros(len(table))
        dealt = {how: halves(tokens, splits, dealing=how, seed=seed) for how in dealings}
        mean = means(table)
        chance = smooth_like(grid, mean, random, seed=seed) if random else None
        known = table[np.isfinite(table).all(axis=1)][:singles]
        for law in laws or LAWS[kind]:
            own = fit(grid, mean, kind, law)
            row: dict[str, object] = {
                "kind": kind,
                "law": law,
                "numbers": own.law.size,
                "in_place": own.r2,
            }
            for how, sides in dealt.items():
                row |= _held_out(
                    grid, table, sides, own, kind, "" if how == "random" else f"_{how}"
                )
            row["extrapolated"], row["error_outside"] = extrapolate(grid, mean, kind, law)
            row["aicc"] = own.aicc
            alone = [each.r2 for each in fit_many(grid, known, kind, law, follow=2)]
            row["per_pair"] = float(np.median(alone)) if alone else np.nan
            row["below"] = float(np.mean(np.array(alone) < 0.9)) if alone else np.nan
            if chance is not None:
                # Searched as the curve itself is: less would flatter the law.
                fits = fit_many(grid, chance, kind, law)
                row["random"] = float(np.median([each.r2 for each in fits]))
                outside = [extrapolate(grid, curve, kind, law)[0] for curve in chance]
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


def extrapolate(m: Floats, curve: Floats, kind: Kind, law: str) -> tuple[float, float]:
    """R^2 on the outer points, of which the fit to the inner ones knows nothing, and the root mean
    square error there in shares of the curve's range. Either side of the range has its own."""
    ends = np.where(m < 0, -m.min(), m.max())
    inner = np.abs(m) <= INNER * ends * (1 + 1e-9)
    fitted = fit(m[inner], curve[inner], kind, law, follow=6)
    guess = fitted(m[~inner])
    error = float(np.sqrt(np.mean((curve[~inner] - guess) ** 2)) / np.ptp(curve))
    return r2(curve[~inner], guess), error


def _held_out(
    grid: Floats, table: Floats, dealt: Halves, own: Fit, kind: Kind, suffix: str
) -> dict[str, object]:
    """Medians over halvings, both ways, of what fits to one half say of the other."""
    sides = [means(table[rows]) for pair in dealt for rows in pair]
    # The mean of a half bends much as that of all does: its search begins there.
    near = [own.numbers] if own.law.bounds else []
    fits = fit_many(grid, np.stack(sides), kind, own.law.name, follow=0, near=near)
    # Sides stand in twos: the other one of the same halving is the neighbour.
    scores = [carried(each(grid), sides[index ^ 1]) for index, each in enumerate(fits)]
    names = ("held_out", "held_out_level", "held_out_size")
    medians = map(float, np.median(scores, axis=0))
    found: dict[str, object] = dict(
        zip((f"{name}{suffix}" for name in names), medians, strict=True)
    )
    found[f"no_law{suffix}"] = float(np.median(no_law(table, dealt)))
    return found


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
