"""Whether one monotone law of distance serves vectors that it was not fitted to.

    damage = f(x),  f not falling (isotonic regression), x a distance, a KL or the norm

Damage is coherence lost, the rise in the loss of unrelated text, or the fall of utility log-odds,
each from what it is unsteered. Within one sweep any x that rises with the coefficient has such a
law. So it is fitted to all traits but one, per model, layer and method, and judged on the one left
out: if distance were why texts break, one curve of it would serve them all, better than one of the
norm. Reads the tables of the studies; runs no model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.isotonic import IsotonicRegression

from workbench.statistics.intervals import Floats, Interval, percentiles
from workbench.studies.manifold_findings import CASE, KINDS, NORM, PLACES, in_words, side, studied
from workbench.support import tables
from workbench.support.wording import estimate, number

OUTCOMES = {
    "coherence": "coherence",
    "loss": "loss of unrelated text",
    "utility": "utility log-odds",
}
PREDICTORS = ("norm", "kl", *(f"{kind} {place}" for place in PLACES for kind in KINDS))
DEPTHS = ("first", "middle", "last")
_CELL = ["model", "depth", "method"]


def points(directory: str | Path) -> pd.DataFrame:
    """One row per side of a studied sweep and size, 0 among them: `CASE`, `depth` of the layer
    ("first", "middle", "last"), `sign`; `PREDICTORS` ("norm" in residual norms, "kl" in nats a
    token of fixed texts, distances as the log of what they rise by); the damage to `OUTCOMES`,
    NaN where it was not measured.
    """
    found = [_of_model(model, directory) for model in studied(directory)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _of_model(model: str, directory: str | Path) -> pd.DataFrame:
    present = tables.table_names(directory)
    read = {}
    for name in ("manifold", "ceilings", "rivals", "odds"):
        if f"study_{name}_{model}" in present:
            table = tables.load_table(f"study_{name}_{model}", directory=directory)
            table.attrs = {}  # pandas copies them at every step
            read[name] = dict(iter(table.groupby(CASE[1:])))
    depth = _depths({case[1] for case in read["manifold"]})
    rows = []
    for case, seen in read["manifold"].items():
        damaged = {
            "coherence": (read["ceilings"].get(case), "coherence", -1),
            "loss": (read["rivals"].get(case), "corpus_loss", 1),
            "utility": (read.get("odds", {}).get(case), "utility", -1),
        }
        about = dict(zip(CASE, (model, *case), strict=True)) | {"depth": depth[case[1]]}
        for sign in (1, -1):
            made = _predicting(side(seen, sign))
            for name, (table, column, way) in damaged.items():
                made[name] = np.nan if table is None else _damage(table, column, way, sign, made)
            rows.append(made.assign(**about, sign=sign))
    return pd.concat(rows, ignore_index=True)


def _depths(layers: Collection[int]) -> dict[int, str]:
    """Layer -> "first", "last", or "middle" between them."""
    ends = {min(layers): "first", max(layers): "last"}
    return {layer: ends.get(layer, "middle") for layer in layers}


def _predicting(seen: pd.DataFrame) -> pd.DataFrame:
    """The predictors of one side, by size."""
    made = {}
    for place in PLACES:
        here = seen[seen["place"] == place].reset_index(drop=True)
        made |= {"norm": here["size"], "kl": here["kl"]}
        for kind in KINDS:
            made[f"{kind} {place}"] = np.log(here[kind] / here[kind].iloc[0])
    return pd.DataFrame(made)[list(PREDICTORS)]


def _damage(table: pd.DataFrame, column: str, way: int, sign: int, made: pd.DataFrame) -> Floats:
    """How far a column has moved the harmful way from its value at 0, at the sizes of `made`."""
    means = side(table, sign).groupby("size")[column].mean()
    return np.interp(made["norm"], means.index, way * (means - means.iloc[0]))


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """What laws are off by on the trait that was left out: one row per outcome, predictor, model,
    depth, method and trait, with `squares` (of what a law is off by, summed over both sides),
    `total` (of what the other traits' mean is off by) and `rho` (Spearman's, of damage and
    predictor within each side, their mean). Cells of fewer than three traits are left out.

    The norm takes few values, so that its law is the curve over them, which any vector has; what
    else a law tells must show at one size. So `squares_at` and `total_at` are the same of the size
    nearest to `NORM` alone, beside the other traits' mean there.

    frame  rows of `points`
    """
    rows = []
    for outcome in OUTCOMES:
        for cell, part in frame[frame[outcome].notna()].groupby(_CELL, sort=False):
            traits = part["trait"].unique()
            if len(traits) < 3:
                continue
            damage = part[outcome].to_numpy()
            norms = part["norm"].to_numpy()
            here = norms == norms[np.abs(norms - NORM).argmin()]
            for trait in traits:
                mine = (part["trait"] == trait).to_numpy()
                total = _squares(damage[mine], damage[~mine].mean())
                total_at = _squares(damage[mine & here], damage[~mine & here].mean())
                runs = part[mine].groupby(["seed", "sign"]).ngroup().to_numpy()
                for predictor in PREDICTORS:
                    x = part[predictor].to_numpy()
                    law = IsotonicRegression(out_of_bounds="clip").fit(x[~mine], damage[~mine])
                    row = {"outcome": outcome, "predictor": predictor, "trait": trait}
                    row |= dict(zip(_CELL, cell, strict=True))
                    row |= {"total": total, "total_at": total_at}
                    row["squares"] = _squares(damage[mine], law.predict(x[mine]))
                    row["squares_at"] = _squares(damage[mine & here], law.predict(x[mine & here]))
                    row["rho"] = _within(x[mine], damage[mine], runs)
                    rows.append(row)
    return pd.DataFrame(rows)


def _squares(values: Floats, told: Floats | float) -> float:
    return float(((values - told) ** 2).sum())


def _within(x: Floats, damage: Floats, runs: np.ndarray) -> float:
    """Spearman's correlation within each run, their mean over runs in which both vary."""
    found = []
    for run in np.unique(runs):
        ranks = rankdata(np.stack([x[runs == run], damage[runs == run]]), axis=1)
        ranks -= ranks.mean(axis=1, keepdims=True)
        sizes = np.linalg.norm(ranks, axis=1).prod()
        if sizes > 0:
            found.append(float(ranks[0] @ ranks[1] / sizes))
    return float(np.mean(found)) if found else np.nan


def held_out(
    laws: pd.DataFrame, *, by: tuple[str, ...] = ("depth", "method"), size: int = 1000
) -> pd.DataFrame:
    """R² on traits that were left out, and how much more it is than the norm's: one row per
    outcome, `by` and predictor, with 95 % intervals that resample traits and models at once. What
    laws were fitted to is not drawn anew: the intervals are of the errors, not of the laws.

    laws  rows of `judged`

    R² = 1 - squares / total; below 0 a law is worse than the mean of the other traits. Columns
    `r2`, `beyond_norm` and, at one size, `at_size`, each with `…_low`, `…_high`; `rho`, the mean
    within a side; `traits`.
    """
    rows = []
    for (outcome, *cell), part in laws.groupby(["outcome", *by], sort=False):
        counts = _draws(part, size)
        norm = _r2(part, "norm", counts, "")
        for predictor in PREDICTORS:
            own = _r2(part, predictor, counts, "")
            at_size = _r2(part, predictor, counts, "_at")
            row: dict[str, object] = {"outcome": outcome, **dict(zip(by, cell, strict=True))}
            row["predictor"] = predictor
            for name, values in (
                ("r2", own),
                ("beyond_norm", own - norm),
                ("at_size", at_size),
            ):
                found = _interval(values)
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            mine = part[part["predictor"] == predictor]
            rows.append(row | {"rho": mine["rho"].mean(), "traits": mine["trait"].nunique()})
    return pd.DataFrame(rows)


def _draws(part: pd.DataFrame, size: int) -> Mapping[str, pd.DataFrame]:
    """Of traits and of models: how often each is drawn, a row per resample; the first draws each
    once. One alone cannot be resampled."""
    rng = np.random.default_rng(0)
    made = {}
    for name in ("trait", "model"):
        values = sorted(part[name].unique())
        drawn = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=size)
        every = np.ones((1, len(values)), dtype=int)
        drawn = drawn if len(values) > 1 else np.ones((size, 1), dtype=int)
        made[name] = pd.DataFrame(np.concatenate([every, drawn]), columns=values)
    return made


def _r2(part: pd.DataFrame, predictor: str, counts: Mapping[str, pd.DataFrame], end: str) -> Floats:
    """(1 + R,) of a predictor: as it is, and of every resample."""
    mine = part[part["predictor"] == predictor]
    weights = np.ones((len(counts["trait"]), len(mine)))
    for name, drawn in counts.items():
        weights *= drawn[mine[name]].to_numpy()
    squares, total = (weights @ mine[f"{name}{end}"].to_numpy() for name in ("squares", "total"))
    return 1 - squares / np.where(total > 0, total, np.nan)


def _interval(values: Floats) -> Interval:
    able = values[1:][np.isfinite(values[1:])]
    low, high = percentiles(able, 0.95) if len(able) else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high), len(values) - 1)


def shown(found: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """The laws of one outcome over all layers and methods, in words.

    found  `held_out` of the whole, "all" its depth and method, and of every layer and method
    """
    mine = found[(found["outcome"] == outcome) & (found["depth"] == "all")]
    return pd.DataFrame(
        {
            "law of": [in_words(name) for name in mine["predictor"]],
            "R² on traits left out": [estimate(row, "r2") for _, row in mine.iterrows()],
            "beyond the norm's": [estimate(row, "beyond_norm") for _, row in mine.iterrows()],
            f"R² at {NORM:.2g} norms": [estimate(row, "at_size") for _, row in mine.iterrows()],
            "ρ within a sweep": [number(value, "+.2f") for value in mine["rho"]],
        }
    )


def verdict(found: pd.DataFrame) -> str:
    """In words, what the laws of distance are worth beside those of norm and KL; `found` as in
    `shown`."""
    said = []
    whole = found["depth"] == "all"
    for outcome, words in OUTCOMES.items():
        mine = found[whole & (found["outcome"] == outcome)].set_index("predictor")
        if mine.empty:
            continue
        apart, best = mine[mine.index.str.contains(" ")], _best(mine)
        own = found[~whole & (found["outcome"] == outcome)]
        own = own[own["predictor"].str.contains(" ")]
        ahead = int((own["beyond_norm_low"] > 0).sum())
        behind = int((own["beyond_norm_high"] < 0).sum())
        said.append(
            f"{words.capitalize()}, on traits left out: a law of the norm has an R² of "
            f"{estimate(mine.loc['norm'], 'r2')}, of KL {estimate(mine.loc['kl'], 'r2')}, of the "
            f"best of {len(apart)} distances ({in_words(best)}) "
            f"{estimate(mine.loc[best], 'r2')}. Of {len(own)} laws of distance, one per layer, "
            f"method and distance, {ahead} are "
            f"clearly ahead of the norm's and {behind} clearly behind. At one size, {NORM:.2g} "
            f"norms, where the norm tells nothing, by the laws of all sizes: KL "
            f"{estimate(mine.loc['kl'], 'at_size')}, the best distance "
            f"{estimate(apart.loc[apart['at_size'].idxmax()], 'at_size')}."
        )
    return " ".join(said)


def _best(rows: pd.DataFrame) -> str:
    """The distance whose law is best, of rows by predictor."""
    return str(rows[rows.index.str.contains(" ")]["r2"].idxmax())


def in_short(found: pd.DataFrame) -> str:
    """In a few words, of coherence."""
    mine = found[(found["outcome"] == "coherence") & (found["depth"] == "all")]
    rows = mine.set_index("predictor")
    norm, apart = rows.loc["norm"], rows.loc[_best(rows)]
    does = (
        "serves them better"
        if apart["beyond_norm_low"] > 0
        else "serves them worse"
        if apart["beyond_norm_high"] < 0
        else "serves them no better"
    )
    return (
        f"One law of the norm tells how coherent traits are that it was not fitted to (R² "
        f"{estimate(norm, 'r2')}, which is the curve over sizes alone); the best law of distance "
        f"{does} ({estimate(apart, 'r2')})."
    )
