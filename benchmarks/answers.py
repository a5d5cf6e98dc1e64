"""Whether the package says what is so: intervals, two non-answers, recommendations, break points.

On the sweeps of study_ceilings.py, with the exact coherence and trait of every text. Each function
returns figures by name; shares have 95 % intervals over traits of models, as sweeps of one trait
are not independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench import find_ceiling
from workbench.ceiling import Side
from workbench.intervals import Floats, bootstrap_mean
from workbench.survival import break_tokens, ceilings_by_length

HOLDS = 0.5
#: Of the true ceiling: where ranges are cut, so that there is no collapse to be seen.
CUTS = (0.3, 0.5, 0.7, 0.9)
# A recommendation can only be worth something where the trait can be moved by so much.
WORTH = 0.2
HALVINGS = 6
#: Lengths of texts, in tokens.
LENGTHS = (12, 24, 48)


@dataclass(frozen=True, eq=False)
class Known:
    """One sweep, and the true ceiling of each sign (infinite: beyond the range)."""

    model: str
    trait: str
    method: str
    texts: pd.DataFrame
    ceilings: Mapping[int, float]

    @property
    def cluster(self) -> str:
        return f"{self.model} {self.trait}"


def as_sweep(texts: pd.DataFrame) -> pd.DataFrame:
    """A sweep of the study as `find_ceiling` takes it, which asks only whether there is a text."""
    return texts.assign(
        vector="vector",
        coefficient=texts["coefficient_norm"],
        text=np.where(texts["empty"], "", "a text"),
        trait=texts["shown"],
    )


def within(sweep: pd.DataFrame, sign: int, reach: float) -> pd.DataFrame:
    """One sign of a sweep, up to a coefficient."""
    size = sign * sweep["coefficient_norm"]
    return sweep[(size >= 0) & (size <= reach)]


def answer(sweep: pd.DataFrame, sign: int) -> Side | None:
    """One side of `find_ceiling`; None where too few unsteered texts are whole to say anything."""
    try:
        return find_ceiling(sweep, bootstrap=1)[sign]
    except ValueError:
        return None


def share(values: Iterable[tuple[str, float]], name: str) -> dict[str, Any]:
    """A mean of values by cluster, its interval and how many there are."""
    clusters, numbers = zip(*values, strict=True)
    found = bootstrap_mean(np.array(numbers, float), list(clusters), bounds=(0.0, 1.0))
    return {
        name: found.value,
        f"{name}_low": found.low,
        f"{name}_high": found.high,
        f"{name}_of": len(numbers),
        f"{name}_clusters": len(set(clusters)),
    }


def coverage(known: Sequence[Known]) -> dict[str, Any]:
    """How often the 90 % interval of the ceiling holds the true one of the same prompts."""
    rows = []
    for each in known:
        for sign, truth in each.ceilings.items():
            side = answer(within(as_sweep(each.texts), sign, np.inf), sign)
            if side is None or np.isnan(side.ceiling.low) or not np.isfinite(truth):
                continue
            low, high = sorted((abs(side.ceiling.low), abs(side.ceiling.high)))
            rows.append((each.cluster, float(low <= truth <= high)))
    return share(rows, "covered")


def no_collapse(known: Sequence[Known]) -> dict[str, Any]:
    """How often "no collapse in range" is said where the range ends below the true ceiling."""
    found: dict[float, list[tuple[str, float]]] = {cut: [] for cut in CUTS}
    for each in known:
        for sign, truth in each.ceilings.items():
            for cut in CUTS if np.isfinite(truth) else ():
                part = within(as_sweep(each.texts), sign, cut * truth)
                side = answer(part, sign) if part["coefficient_norm"].nunique() > 2 else None
                if side is not None:
                    found[cut].append((each.cluster, float(not side.collapses)))
    figures = share([row for rows in found.values() for row in rows], "no_collapse")
    for cut, rows in found.items():
        figures |= {f"no_collapse_at_{cut:g}": float(np.mean([right for _, right in rows]))}
    return figures


def no_effect(controls: Sequence[Known]) -> dict[str, Any]:
    """How often no effect is claimed of directions that were made without the trait: each is a
    draw, and some of them lie along it by chance."""
    rows = []
    for each in controls:
        for sign in each.ceilings:
            side = answer(within(as_sweep(each.texts), sign, np.inf), sign)
            if side is not None:
                rows.append((each.cluster, float(side.effect in ("no effect", "unknown"))))
    return share(rows, "no_effect")


def breaking(known: Sequence[Known]) -> dict[str, Any]:
    """Whether texts break, and where, told without a judge: the share of texts told rightly; how
    far the place is off, in shares of the text; and the error of ceilings by length and share."""
    told, off = [], []
    errors: dict[str, list[float]] = {}
    for each in known:
        sweep = as_sweep(each.texts)
        said = break_tokens(sweep)
        tokens = sweep["tokens"].clip(lower=1)
        real = (sweep["kept"] * tokens).where(sweep["kept"] < 1, np.inf)
        told.append((each.cluster, float((np.isfinite(said) == np.isfinite(real)).mean())))
        both = np.isfinite(said) & np.isfinite(real)
        off += list(((said - real) / tokens)[both].abs())
        if not (np.isinf(said) & np.isinf(real))[sweep["coefficient"] == 0].any():
            continue
        ends = [ceilings_by_length(sweep, LENGTHS, breaks) for breaks in (said, real)]
        for mine, truth in zip(*(end.itertuples() for end in ends), strict=True):
            if np.isfinite(truth.value) and truth.value and mine.value:
                reach = sweep["coefficient_norm"].abs().max()
                ratio = min(abs(mine.value), reach) / abs(truth.value)
                key = f"error_at_{truth.tokens}_tokens_{truth.share:g}"
                errors.setdefault(key, []).append(abs(np.log(ratio)))
    figures = share(told, "breaks_told")
    figures["breaks_place_off"] = float(np.mean(off))
    return figures | {key: float(np.mean(values)) for key, values in sorted(errors.items())}


def worth(texts: pd.DataFrame, sign: int) -> tuple[Floats, Floats, Floats]:
    """Sizes (K,), mean of trait x coherence in the sign's direction (K,), share that holds (K,)."""
    side = texts.assign(
        size=texts["coefficient_norm"].abs(),
        value=(sign * texts["shown"]).fillna(0) * texts["coherence"],
        holds=texts["coherence"] >= HOLDS,
    )
    means = side.groupby("size")[["value", "holds"]].mean()
    return means.index.to_numpy(), means["value"].to_numpy(), means["holds"].to_numpy(dtype=float)


def recommended(known: Sequence[Known], halvings: int = HALVINGS) -> dict[str, Any]:
    """What recommended coefficients are worth: the share of them whose texts mostly do not hold,
    the texts that hold, and how much of the greatest gain in trait x coherence they give.

    On the very sweep the greatest gain is the best of many noisy numbers. So once more with half
    of the prompts to choose by and the other half to look at: there beside it the coefficient that
    is best by the *exact* trait and coherence of the first half, which no rule can know.
    """
    rows, halved = [], []
    rng = np.random.default_rng(0)
    for each in known:
        prompts = each.texts["prompt_index"].unique()
        for sign in each.ceilings:
            whole = within(as_sweep(each.texts), sign, np.inf)
            rows.append((each.cluster, *_gain(whole, whole, sign)))
            for _ in range(halvings):
                first = rng.permutation(prompts)[: len(prompts) // 2]
                mine = whole["prompt_index"].isin(first)
                halved.append((each.cluster, *_gain(whole[mine], whole[~mine], sign)))
    said = [row for row in rows if np.isfinite(row[1])]
    figures = share([(row[0], float(row[1] < HOLDS)) for row in said], "recommended_below_bar")
    figures |= share([(row[0], row[1]) for row in said], "recommended_texts_hold")
    for name, table in (("captured", said), ("captured_apart", halved)):
        usable = [row for row in table if np.isfinite(row[2])]
        got, best, oracle = (np.array([row[i] for row in usable]) for i in (2, 3, 4))
        figures[name] = got.sum() / best.sum()
        figures[f"{name}_by_exact"] = oracle.sum() / best.sum()
        figures[f"{name}_of"] = len(usable)
    return figures


def _gain(
    choosing: pd.DataFrame, shown: pd.DataFrame, sign: int
) -> tuple[float, float, float, float]:
    """Of the recommendation from some prompts, on others: the share that holds; the gain over the
    unsteered texts, the greatest there is, and that of what is exactly best on the first (NaN
    where the greatest is not worth having)."""
    side = answer(choosing, sign)
    nothing = (np.nan,) * 4
    if side is None or not np.isfinite(side.recommended.value):
        return nothing
    sizes, value, holds = worth(shown, sign)
    at = _nearest(sizes, abs(side.recommended.value))
    _, exact, _ = worth(choosing, sign)
    gain = value - value[0]
    if gain.max() < WORTH:
        return float(holds[at]), np.nan, np.nan, np.nan
    return float(holds[at]), float(gain[at]), float(gain.max()), float(gain[int(exact.argmax())])


def _nearest(sizes: NDArray[np.float64], size: float) -> int:
    return int(np.abs(sizes - size).argmin())
