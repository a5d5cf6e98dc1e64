"""How good must a judge be to find a ceiling? The exact judge made worse on purpose, in known ways.

Each text of the study (benchmarks/study_ceilings.py) has its exact coherence. A *fault* changes
these scores as a poor judge would, by a strength that is known; then two things are measured:

kappa  quadratic weighted agreement of the changed scores with the exact ones, over all texts
error  mean |log(found / true)| over signs of sweeps: how far the ceiling that is read off the
       changed scores lies from the one of the exact scores (`study.true_ceiling`) of the same texts

behind that error less the one of `find_ceiling`, side by side; NaN where it is not known

so that the error is the judge's alone. A text counts as coherent from a score of a half on, or from
a bound *of the judge's own*: midway between its mean score of unsteered texts and of those steered
furthest, which needs no other judge. Intervals are 95 %, over traits. Strengths are made up, and
some were placed where an error jumps: they show that it may, not how often it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.judges import HOLDS
from workbench.judges.agreement import weighted_kappa
from workbench.statistics.intervals import Floats, bootstrap_mean
from workbench.statistics.strata import of_clusters
from workbench.studies import ceiling_findings as study
from workbench.studies.ceiling_findings import true_ceiling
from workbench.support import tables
from workbench.support.wording import FIND_CEILING

#: Where agreement begins to be called substantial (Landis & Koch 1977, of an unweighted kappa; it
#: is quoted of weighted ones as well).
ENOUGH = 0.6
#: Exact scores, columns `coherence`, `shown`, `cut` (N rows), strength, chance -> scores (N,).
Change: TypeAlias = Callable[[pd.DataFrame, float, np.random.Generator], Floats]
#: The fault that is no matter of degree: what is steered counts as damage.
TRAIT = "trait penalised"
_CONTROLS = ("random", "shuffled")
# Which sweep a side is of.
_CASE = ("model", "trait", "method", "layer", "seed")


@dataclass(frozen=True)
class Fault:
    """A way to judge badly.

    change     see `Change`; what leaves the scale from 0 to 1 is cut off
    means      what the strength is, in words
    strengths  those that are measured, mild to severe
    graded     whether kappa falls as the strength grows from 0 to `strengths[-1]`
    """

    change: Change
    means: str
    strengths: tuple[float, ...]
    graded: bool = True


def _rounded(texts: pd.DataFrame, levels: float, _: np.random.Generator) -> Floats:
    return np.round(_exact(texts) * (levels - 1)) / (levels - 1)


def _noisy(texts: pd.DataFrame, spread: float, rng: np.random.Generator) -> Floats:
    return _exact(texts) + spread * rng.normal(size=len(texts))


def _lenient(texts: pd.DataFrame, part: float, _: np.random.Generator) -> Floats:
    return _exact(texts) + part * (1 - _exact(texts))


def _cut_off(texts: pd.DataFrame, loss: float, _: np.random.Generator) -> Floats:
    return _exact(texts) - loss * texts["cut"].to_numpy(dtype=float)


def _mistaken(texts: pd.DataFrame, loss: float, _: np.random.Generator) -> Floats:
    shown = texts["shown"].fillna(0.0).clip(lower=0).to_numpy(dtype=float)
    return _exact(texts) * (1 - loss * shown)


def _exact(texts: pd.DataFrame) -> Floats:
    return texts["coherence"].to_numpy(dtype=float)


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "rounded": Fault(_rounded, "levels of its scale", (10, 5, 3), graded=False),
        "noisy": Fault(_noisy, "standard deviation of what is added", (0.2, 0.4, 0.6, 0.8, 1.2)),
        "lenient": Fault(
            _lenient, "part of what is missing that is given", (0.2, 0.4, 0.49, 0.5, 0.6, 0.8)
        ),
        "cut-off penalised": Fault(
            _cut_off,
            "taken off a text that was stopped at the limit",
            (0.2, 0.4, 0.5, 0.51, 0.6, 0.8),
        ),
        TRAIT: Fault(
            _mistaken, "share lost by a text that shows it", (0.25, 0.5, 0.51, 0.67, 0.68, 1.0)
        ),
    }
)


@dataclass(frozen=True, eq=False)
class Side:
    """One sign of one sweep: which sweep (values of `_CASE`), coefficients (K,) from 0 outwards,
    and which text of the study stands at each prompt and coefficient (P, K)."""

    sign: int
    cluster: str
    case: tuple[Any, ...]
    grid: Floats
    rows: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Studied:
    """The study's texts, one row each: `coherence`, `shown` (of the trait, -1 to 1), `cut`,
    `cluster` (the trait); its sides that have a true ceiling, and these ceilings (S,); and `alone`
    (S,), |log(found / true)| of `find_ceiling`, which asks no judge, NaN where it is not known."""

    texts: pd.DataFrame
    sides: tuple[Side, ...]
    true: Floats
    alone: Floats


def load(directory: str | Path) -> Studied:
    """The study that lies in a report's folder, without its random and shuffled directions.

    Raises FileNotFoundError where there is none.
    """
    parts = []
    for name in study.names(directory):
        table = tables.load_table(name, directory=directory)
        longest = table.attrs["settings"]["new_tokens"]
        table = table[~table["method"].isin(_CONTROLS)]
        model = name.removeprefix("study_ceilings_")
        about = {"cut": table["tokens"] >= longest, "sweep": model + " " + table["sweep"].map(str)}
        about["model"] = model
        parts.append(table.assign(**about, cluster=table["trait"].astype(str)))
    if not parts:
        raise FileNotFoundError(f"no study of ceilings in {directory}: `make study` makes it")
    texts = pd.concat(parts, ignore_index=True)
    sides = [
        _side(sweep, sign)
        for _, sweep in texts.groupby("sweep", sort=False)
        for sign in (1, -1)
        if (sign * sweep["coefficient_norm"] > 0).any()
    ]
    true = ceilings(sides, _exact(texts), HOLDS)
    known = np.isfinite(true)
    kept = tuple(side for side, finite in zip(sides, known, strict=True) if finite)
    columns = ["coefficient_norm", "coherence", "shown", "cut", "cluster"]
    return Studied(texts[columns], kept, true[known], _alone(directory, kept))


def _alone(directory: str | Path, sides: Sequence[Side]) -> Floats:
    """`Studied.alone`, of the table that benchmarks/detector.py made."""
    if "detector_sides" not in tables.table_names(directory):
        return np.full(len(sides), np.nan)
    table = study.named(tables.load_table("detector_sides", directory=directory))
    mine = table[table["rule"] == FIND_CEILING]
    errors = pd.Series(
        np.abs(np.log(mine["predicted"] / mine["true"])).to_numpy(),
        index=pd.MultiIndex.from_frame(mine[[*_CASE, "sign"]]),
    )
    found = [errors.get((*side.case, side.sign), np.nan) for side in sides]
    return np.array(found, dtype=float)


def _side(sweep: pd.DataFrame, sign: int) -> Side:
    size = (sign * sweep["coefficient_norm"]).astype(float).round(6)
    own = pd.DataFrame({"prompt": sweep["prompt_index"], "size": size, "row": sweep.index})
    wide = own[size >= 0].pivot(index="prompt", columns="size", values="row")
    grid = np.asarray(wide.columns, dtype=float)
    first = sweep.iloc[0]
    case = tuple(first[name] for name in _CASE)
    return Side(sign, first["cluster"], case, grid, wide.to_numpy(dtype=np.intp))


def ceilings(sides: Sequence[Side], scores: Floats, bound: float) -> Floats:
    """Where fewer than half of the texts of each side score at least `bound`: (S,), from the scores
    (N,) of all texts. As `study.true_ceiling`: infinite beyond the range, NaN without a start."""
    return np.array([true_ceiling(side.grid, scores[side.rows] >= bound) for side in sides])


def degrade(studied: Studied, fault: str, strength: float, seed: int = 0) -> Floats:
    """The scores (N,) that a judge with this fault would give the study's texts.

    Raises ValueError for a fault that is not in `FAULTS`.
    """
    if fault not in FAULTS:
        raise ValueError(f"no fault {fault!r}; choose one of {', '.join(FAULTS)}")
    changed = FAULTS[fault].change(studied.texts, strength, np.random.default_rng(seed))
    return np.clip(changed, 0, 1)


def own_bound(scores: Floats, size: Floats) -> float:
    """Midway between the mean score of unsteered texts and of those at the largest size of the
    coefficient; scores and sizes are (N,), a NaN score counts for nothing."""
    ends = (size == 0, size >= size.max() - 1e-6)
    return float(np.mean([np.nanmean(scores[end]) for end in ends]))


def measure(studied: Studied, scores: Floats) -> dict[str, Any]:
    """Kappa with the exact scores and error of the ceilings, of the scores (N,) of all texts.

    `error` is at the bound of a half, `own_error` at the judge's own, both with `_low` and
    `_high`; `behind` and `own_behind` are how much more that is than what `find_ceiling` errs
    by on the same sides, with intervals of the paired difference. `lost` and `own_lost` are the
    shares of sides where the judge sees no ceiling: no fall in range, which counts as the end
    of the range, or no unsteered text that is coherent, which counts as the smallest
    coefficient. `toward` and `away` are mean log(found / true) at the bound of a half, of the
    sign that pushes towards the trait and of the other.
    """
    groups = np.unique(studied.texts["cluster"].to_numpy(dtype=str), return_inverse=True)[1]
    kappa = weighted_kappa(_exact(studied.texts), scores, groups)
    row: dict[str, Any] = {"kappa": kappa.value, "kappa_low": kappa.low, "kappa_high": kappa.high}
    signs = np.array([side.sign for side in studied.sides])
    size = studied.texts["coefficient_norm"].abs().to_numpy(dtype=float)
    traits = [side.cluster for side in studied.sides]
    for name, bound in (("", HOLDS), ("own_", own_bound(scores, size))):
        found = ceilings(studied.sides, scores, bound)
        off = _log_off(studied, found)
        error = bootstrap_mean(np.abs(off), traits)
        behind = of_clusters(np.abs(off) - studied.alone, traits)
        row |= {f"{name}error": error.value, f"{name}error_low": error.low}
        row |= {f"{name}behind": behind.value, f"{name}behind_low": behind.low}
        row |= {f"{name}behind_high": behind.high}
        row |= {f"{name}error_high": error.high, f"{name}lost": float((~np.isfinite(found)).mean())}
        if not name:
            row |= {"toward": off[signs > 0].mean(), "away": off[signs < 0].mean()}
    return row


def _log_off(studied: Studied, found: Floats) -> Floats:
    """log(found / true) of each side; see `measure` for a side without a found ceiling."""
    ends = np.array([(side.grid[1], side.grid[-1]) for side in studied.sides])
    known = np.where(np.isnan(found), ends[:, 0], found)
    return np.log(np.clip(known, ends[:, 0], ends[:, 1]) / studied.true)


def measure_all(studied: Studied, seed: int = 0) -> pd.DataFrame:
    """One row per fault and strength, as `measure` says; the exact judge is the first row."""
    rows = [{"fault": "none", "strength": 0.0, **measure(studied, _exact(studied.texts))}]
    for name, fault in FAULTS.items():
        for strength in fault.strengths:
            scores = degrade(studied, name, strength, seed)
            rows.append({"fault": name, "strength": strength, **measure(studied, scores)})
    return pd.DataFrame(rows)


def at_kappa(studied: Studied, wanted: float = ENOUGH, seed: int = 0) -> pd.DataFrame:
    """One row per fault that can be strong enough, at the strength that gives this kappa."""
    rows = []
    for name, fault in FAULTS.items():
        low, high = 0.0, fault.strengths[-1]
        if not fault.graded or _kappa(studied, degrade(studied, name, high, seed)) > wanted:
            continue
        for _ in range(14):
            middle = (low + high) / 2
            enough = _kappa(studied, degrade(studied, name, middle, seed)) > wanted
            low, high = (middle, high) if enough else (low, middle)
        scores = degrade(studied, name, high, seed)
        rows.append({"fault": name, "strength": high, **measure(studied, scores)})
    return pd.DataFrame(rows)


def _kappa(studied: Studied, scores: Floats) -> float:
    one = np.zeros(len(scores))
    return weighted_kappa(_exact(studied.texts), scores, one, size=1).value
