"""Whether the package says what is so: intervals, the two non-answers, break points.

On the sweeps of study_ceilings.py, with the exact coherence and trait of every text. Each function
returns figures by name: a share NAME with the ends of its 95 % interval over traits (sweeps of one
trait are not independent, in whatever model), NAME_of the sides of sweeps behind it, and
NAME_clusters those traits. What chose is kept apart from what shows where it matters: half of the
prompts choose, the other half is looked at, `halvings` times a side, which counts as one.

The bounds of breakage.py and survival.py were chosen on other texts of wren, of some of these
traits: for wren, whatever rests on them is no test on new ground; for its siblings it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from workbench import find_ceiling
from workbench.statistics.intervals import Floats, bootstrap_mean
from workbench.studies.ceiling_findings import ceiling_of
from workbench.sweeps.ceiling import Side
from workbench.sweeps.survival import break_tokens, ceilings_by_length

HALVINGS = 3
# Of the true ceiling: ranges that end between these show no collapse, the last of them where the
# ceiling's own noise makes it hard to know; ranges that end well beyond it show one.
SHORT, FAR, MIDDLE, NEAR = (0.3, 0.9), (0.3, 0.75), (0.75, 0.9), (0.9, 1.0)
BEYOND = (1.2, 1.6)
#: Lengths of texts, in tokens.
LENGTHS = (12, 24, 48)
# Coefficients at which between a tenth and nine tenths of the texts are whole are in doubt.
DOUBT = (0.1, 0.9)


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
        """What is resampled. The same trait in two models shares grammar, pairs and prompts: its
        errors there go together, so that models add no cluster."""
        return self.trait

    def side(self, sign: int, reach: float = np.inf) -> pd.DataFrame:
        """One sign up to a coefficient, as `find_ceiling` takes it."""
        size = sign * self.texts["coefficient_norm"]
        return as_sweep(self.texts[(size >= 0) & (size <= reach)])

    def halves(self, sign: int, count: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """One sign cut in two by prompts, `count` times, always in the same way."""
        rng, whole = np.random.default_rng(0), self.side(sign)
        prompts = whole["prompt_index"].unique()
        for _ in range(count):
            first = whole["prompt_index"].isin(rng.permutation(prompts)[: len(prompts) // 2])
            yield whole[first], whole[~first]


def as_sweep(texts: pd.DataFrame) -> pd.DataFrame:
    """A sweep of the study as `find_ceiling` takes it, which asks only whether there is a text."""
    return texts.assign(
        vector="vector",
        coefficient=texts["coefficient_norm"],
        text=np.where(texts["empty"], "", "a text"),
        trait=texts["shown"],
    )


def answer(sweep: pd.DataFrame, sign: int) -> Side | None:
    """One side of `find_ceiling`; None where too few unsteered texts are whole to say anything."""
    try:
        return find_ceiling(sweep, bootstrap=1)[sign]
    except ValueError as error:
        if "are intact" not in str(error):
            raise
        return None


def table_of(side: pd.DataFrame, column: str) -> tuple[Floats, Floats]:
    """Sizes (K,) of one side, and a column (P, K)."""
    sizes = side.assign(size=side["coefficient_norm"].abs().astype(float))
    wide = sizes.pivot(index="prompt_index", columns="size", values=column)
    return np.asarray(wide.columns, dtype=float), wide.to_numpy(dtype=float)


def share(values: Iterable[tuple[str, float]], name: str) -> dict[str, Any]:
    """A mean of shares by cluster, its interval and how many there are."""
    rows = [(cluster, number) for cluster, number in values if np.isfinite(number)]
    clusters, numbers = [row[0] for row in rows], np.array([row[1] for row in rows], float)
    found = bootstrap_mean(numbers, clusters, bounds=(0.0, 1.0))
    return {
        name: found.value,
        f"{name}_low": found.low,
        f"{name}_high": found.high,
        f"{name}_of": len(rows),
        f"{name}_clusters": len(set(clusters)),
    }


def ratio(values: Iterable[tuple[str, float, float]], name: str) -> dict[str, Any]:
    """A ratio of sums, with Student's 95 % interval from leaving out one cluster at a time (the
    jackknife): a bootstrap of so few would be too narrow."""
    table = pd.DataFrame(values, columns=["cluster", "part", "whole"])
    sums = table.groupby("cluster")[["part", "whole"]].sum().to_numpy()
    whole, count = sums.sum(axis=0), len(sums)
    value, half = float(whole[0] / whole[1]), np.nan
    if count > 1:
        without = (whole - sums)[:, 0] / (whole - sums)[:, 1]
        error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
        half = float(student.ppf(0.975, count - 1) * error)
    return {
        name: value,
        f"{name}_low": value - half,
        f"{name}_high": value + half,
        f"{name}_of": len(table),
        f"{name}_clusters": count,
    }


def sides_of(known: Sequence[Known]) -> Iterator[tuple[Known, int, float]]:
    for each in known:
        for sign, truth in each.ceilings.items():
            yield each, sign, truth


def coverage(known: Sequence[Known], halvings: int = HALVINGS) -> dict[str, Any]:
    """How often the 90 % interval of the ceiling from half of the prompts holds the true ceiling of
    the other half, which has noise of its own (`covered`); and that of all prompts the true one of
    the same texts (`agreed`). An interval that is open above holds whatever lies there."""
    covered, agreed, wide = [], [], []
    for each, sign, truth in sides_of(known):
        side = answer(each.side(sign), sign)
        if side is not None and np.isfinite(truth):
            agreed.append((each.cluster, _holds(side, truth)))
            wide.append(float(np.isinf(side.ceiling.high)))
        found = []
        for first, second in each.halves(sign, halvings):
            half, other = answer(first, sign), ceiling_of(second, sign)
            if half is not None and np.isfinite(other):
                found.append(_holds(half, other))
        known_ends = [value for value in found if np.isfinite(value)]
        if known_ends:
            covered.append((each.cluster, float(np.mean(known_ends))))
    return {
        **share(covered, "covered"),
        **share(agreed, "agreed"),
        "agreed_open_above": float(np.mean(wide)),
    }


def _holds(side: Side, truth: float) -> float:
    low, high = sorted((abs(side.ceiling.low), abs(side.ceiling.high)))
    return np.nan if np.isnan(low) else float(low <= truth <= high)


def no_collapse(known: Sequence[Known]) -> dict[str, Any]:
    """How often "no collapse in range" is said where the range ends below the true ceiling, short
    of it and just below; and how often a collapse is seen where it ends well beyond."""
    kinds = {
        "no_collapse_short": (SHORT, False),
        "no_collapse_far": (FAR, False),
        "no_collapse_middle": (MIDDLE, False),
        "no_collapse_near": (NEAR, False),
    }
    found: dict[str, list[tuple[str, float]]] = {}
    for each, sign, truth in sides_of(known):
        sizes = np.unique(each.side(sign)["coefficient_norm"].abs().astype(float))
        for name, ((low, high), collapses) in {**kinds, "collapse": (BEYOND, True)}.items():
            ends = sizes[(sizes >= low * truth) & (sizes < high * truth)] if truth < np.inf else []
            right = []
            for end in ends:
                side = answer(each.side(sign, end + 1e-6), sign)
                if side is not None:
                    right.append(float(side.collapses == collapses))
            if right:
                found.setdefault(name, []).append((each.cluster, float(np.mean(right))))
    return {key: value for name, rows in found.items() for key, value in share(rows, name).items()}


def effects(made: Sequence[Known], dealt: Sequence[Known]) -> dict[str, Any]:
    """How often no effect is found of directions made without the trait (some lie along it by
    chance), and how often one is found of those made with it: each of the sides of which anything
    is said, as with few prompts that can move it is not (`unknown`). NAME_MODEL is
    the share in one model."""
    figures: dict[str, Any] = {}
    for name, sweeps, right in (("no_effect", dealt, "no effect"), ("effect", made, "effect")):
        said, models = [], []
        for each, sign, _ in sides_of(sweeps):
            side = answer(each.side(sign), sign)
            if side is not None:
                said.append((each.cluster, side.effect))
                if side.effect != "unknown":
                    models.append((each.model, side.effect == right))
        known = [(cluster, float(e == right)) for cluster, e in said if e != "unknown"]
        figures |= share(known, name)
        figures[f"{name}_unknown"] = float(np.mean([e == "unknown" for _, e in said]))
        for model in {each.model for each in sweeps}:
            own = [e for of, e in models if of == model]
            figures[f"{name}_{model}"] = float(np.mean(own)) if own else np.nan
    return figures


def breaking(known: Sequence[Known]) -> dict[str, Any]:
    """Whether texts break, and where, told without a judge, at coefficients that are in doubt: the
    share of texts told rightly, beside what saying the more frequent at each coefficient gives; how
    far the place is off where both see a break, in shares of the text; and the mean error of the
    ceiling of texts of each length, |log|, on the prompts that both call whole unsteered."""
    told, guessed, off = [], [], []
    errors: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for each in known:
        sweep = as_sweep(each.texts)
        tokens = sweep["tokens"].clip(lower=1)
        said = break_tokens(sweep)
        real = (sweep["kept"] * tokens).where(sweep["kept"] < 1, np.inf)
        right = np.isfinite(said) == np.isfinite(real)
        broken = np.isfinite(real).groupby(sweep["coefficient"]).transform("mean")
        doubt = broken.between(*DOUBT)
        if doubt.any():
            told.append((each.cluster, float(right[doubt].mean())))
            most = np.maximum(broken, 1 - broken)[doubt]
            guessed.append((each.cluster, float(most.mean())))
            both = doubt & np.isfinite(said) & np.isfinite(real)
            off += [float(((said - real) / tokens)[both].abs().mean())] if both.any() else []
        zero = sweep["coefficient"] == 0
        whole = sweep.loc[zero & np.isinf(said) & np.isinf(real), "prompt_index"]
        common = sweep["prompt_index"].isin(whole)
        if len(whole) < 2:
            continue
        reach = float(sweep["coefficient"].abs().max())
        ends = [
            ceilings_by_length(sweep[common], LENGTHS, breaks[common], shares=(0.5,))
            for breaks in (said, real)
        ]
        for mine, truth in zip(*(end.itertuples() for end in ends), strict=True):
            values = np.clip(np.abs([mine.value, truth.value]), 1e-3, reach)
            errors[int(truth.tokens)].append(abs(float(np.log(values[0] / values[1]))))
    figures = share(told, "breaks_told") | share(guessed, "breaks_guessed")
    figures["breaks_place_off"] = float(np.mean(off)) if off else np.nan
    for length, values in errors.items():
        figures[f"error_at_{length}_tokens"] = float(np.mean(values)) if values else np.nan
        figures[f"error_at_{length}_tokens_of"] = len(values)
    return figures
