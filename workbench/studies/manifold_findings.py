"""Whether distance from ordinary text tells across vectors how far each may be pushed.

Within one sweep distance changes with the coefficient, whatever the vector is, so that it goes with
everything else that does. The test is across vectors: of those steered by the same norm, or to the
same KL, do the ones that lie further off break earlier? Reads the tables of
benchmarks/study_manifold.py and of the studies of ceilings; runs no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.statistics.curves import reaching
from workbench.statistics.rank_correlation import rank_correlation
from workbench.studies.ceiling_findings import ceiling_of
from workbench.support import tables
from workbench.support.wording import estimate

# Settled before any correlation was looked at: the middle of the study's sizes, and a nat, which is
# the bound of iso-KL's authors, of the 95th percentile of a token's KL in rollouts.
NORM, NATS = 0.395342, 1.0
# What counts as a fall: of unrelated text in nats a token, of utility log-odds in nats.
LOSS, UTILITY = 1.0, 10.0
KINDS = ("principal", "neighbours", "raw")
PLACES = ("steered", "last")
CASE = ["model", "trait", "layer", "method", "seed"]
STRATA = ("model", "layer")
CONTROLS = ("random", "shuffled")
OUTCOMES = {
    "ceiling": "true ceiling",
    "loss_rise": "loss of unrelated text up by 1 nat a token",
    "utility_fall": "utility log-odds down by 10 nats",
}
WORDS = {
    "principal": "distance (principal components)",
    "neighbours": "distance (nearest neighbours)",
    "clusters": "distance (mixture of Gaussians)",
    "raw": "distance (streams in their own length)",
    "kl": "KL",
    "kl_fixed": "KL of fixed texts",
    "norm": "norm",
    "cos_top": "|cos| to the first 8 components",
    "steered": "steered layer",
    "last": "last layer",
}
_WORDS = {0: "none", 1: "one", 2: "two", 3: "three"}


def studied(directory: str | Path) -> list[str]:
    """The models whose distances were studied."""
    begins = "study_manifold_"
    names = tables.table_names(directory)
    return [name.removeprefix(begins) for name in names if name.startswith(begins)]


def sides(directory: str | Path) -> pd.DataFrame:
    """One row per side of a studied sweep: `CASE`, `sign`; the outcomes (`OUTCOMES`, coefficients
    in residual norms, infinite beyond the range); at the norm `NORM` (`norm:`) and at the KL `NATS`
    (`kl:`) the rise of every distance, log of it by what it is unsteered, such as
    "norm:principal steered", and "norm:kl", "kl:norm"; `cos_top`. KL is of rollouts on the prompts
    whose texts define the true ceiling; "norm:kl_fixed" the mean one of the fixed texts.

    Raises FileNotFoundError for a model whose ceilings are not there.
    """
    found = [_of_model(model, directory) for model in studied(directory)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _of_model(model: str, directory: str | Path) -> pd.DataFrame:
    read = {
        name: tables.load_table(f"study_{name}_{model}", directory=directory)
        for name in ("manifold", "directions", "ceilings", "rivals")
    }
    if f"study_odds_{model}" in tables.table_names(directory):
        read["odds"] = tables.load_table(f"study_odds_{model}", directory=directory)
    cases = {}
    for name, table in read.items():
        table.attrs = {}  # pandas copies them at every step
        cases[name] = dict(iter(table.groupby(CASE[1:])))
    rows = []
    for case, seen in cases["manifold"].items():
        about = dict(zip(CASE, (model, *case), strict=True))
        for sign in (1, -1):
            beside = side(cases["rivals"][case], sign)
            row: dict[str, object] = {
                **about,
                "sign": sign,
                "cos_top": float(cases["directions"][case]["cos_top"].iloc[0]),
                "ceiling": ceiling_of(cases["ceilings"][case], sign),
                "loss_rise": reaches(beside, "corpus_loss", LOSS),
                **_matched(side(seen, sign), beside),
            }
            if case in cases.get("odds", {}):
                row["utility_fall"] = reaches(side(cases["odds"][case], sign), "utility", -UTILITY)
            rows.append(row)
    return pd.DataFrame(rows)


def _matched(seen: pd.DataFrame, beside: pd.DataFrame) -> dict[str, float]:
    """What a side shows at the norm, and at the KL."""
    at_kl = reaches(beside.assign(kl_95=np.maximum.accumulate(beside["kl_95"])), "kl_95", NATS)
    kl = np.interp(NORM, beside["size"], beside["kl_95"])
    row = {"norm:kl": float(kl), "kl:norm": at_kl}
    fixed = seen[seen["place"] == "steered"]
    row["norm:kl_fixed"] = float(np.interp(NORM, fixed["size"], fixed["kl"]))
    for place in PLACES:
        here = seen[seen["place"] == place]
        for kind in KINDS:
            rise = np.log(here[kind].to_numpy() / here[kind].iloc[0])
            for name, size in (("norm", NORM), ("kl", at_kl)):
                known = np.isfinite(size) and size <= here["size"].max()
                value = np.interp(size, here["size"], rise) if known else np.nan
                row[f"{name}:{kind} {place}"] = float(value)
    return row


def side(table: pd.DataFrame, sign: int) -> pd.DataFrame:
    """One side of a case from 0 outwards, with `size`."""
    sizes = (sign * table["coefficient_norm"].astype(float)).round(6)
    return table.assign(size=sizes)[sizes >= 0].sort_values("size", ignore_index=True)


def reaches(table: pd.DataFrame, column: str, change: float) -> float:
    """The size at which a column first has changed so much from its first value, on a line between
    two sizes; infinite where it never has."""
    moved = (table[column] - table[column].iloc[0]).to_numpy(dtype=float) * np.sign(change)
    return reaching(table["size"].to_numpy(dtype=float), moved, abs(change))


def correlations(
    frame: pd.DataFrame, *, outcomes: Sequence[str] = ("ceiling", "loss_rise", "utility_fall")
) -> pd.DataFrame:
    """Rank correlations with where each side breaks, with 95 % intervals over traits and models.

    frame  rows of `sides`

    One row per outcome, `matched` ("norm" or "kl") and `predictor`: `alone` and `beside`, given the
    others that need no distance (KL or norm, and |cos|), within layers of a model; `own` and
    `own_beside`, the same of vectors of traits, without random and shuffled-label ones; `pooled`,
    over all. Each with `…_low`, `…_high`. `sides` and `own_sides`: how many.
    """
    rows, own = [], frame[~frame["method"].isin(CONTROLS)]
    for outcome in outcomes:
        if outcome not in frame or frame[outcome].notna().sum() == 0:
            continue
        for matched, other in (("norm", "norm:kl"), ("kl", "kl:norm")):
            distances = [f"{matched}:{kind} {place}" for place in PLACES for kind in KINDS]
            fixed = ["norm:kl_fixed"] if matched == "norm" else []
            for predictor in [other, *fixed, "cos_top", *distances]:
                kl = [] if predictor in (other, *fixed) else [other]
                given = [*kl, *([] if predictor == "cos_top" else ["cos_top"])]
                row: dict[str, object] = {
                    "outcome": outcome,
                    "matched": matched,
                    "predictor": predictor.removeprefix(f"{matched}:"),
                }
                for name, table, strata, others in (
                    ("own", own, STRATA, []),
                    ("own_beside", own, STRATA, given),
                    ("alone", frame, STRATA, []),
                    ("beside", frame, STRATA, given),
                    ("pooled", frame, (), []),
                ):
                    found = rank_correlation(table, outcome, predictor, strata=strata, given=others)
                    row["own_sides" if table is own else "sides"] = found.count
                    row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
                rows.append(row)
    return pd.DataFrame(rows)


def shown(found: pd.DataFrame, outcome: str = "ceiling") -> pd.DataFrame:
    """The correlations of one outcome in words, with their intervals."""
    mine = found[found["outcome"] == outcome]
    table = pd.DataFrame(
        {
            "at the same": mine["matched"].map({"norm": "norm", "kl": "KL"}),
            "predictor": [in_words(name) for name in mine["predictor"]],
        }
    )
    for name, words in (
        ("alone", "within layers"),
        ("beside", "given the others"),
        ("own", "traits' vectors"),
        ("own_beside", "traits' vectors, given the others"),
        ("pooled", "over all layers"),
    ):
        table[words] = [estimate(row, name) for _, row in mine.iterrows()]
    table["sides"] = mine["sides"].to_numpy()
    if "own_sides" in mine:  # tables made before it was counted lack it
        table["of traits' vectors"] = mine["own_sides"].to_numpy()
    return table.reset_index(drop=True)


def in_words(predictor: str) -> str:
    """A predictor's name for readers; a part of it that has no words stays as it is."""
    return ", ".join(WORDS.get(part, part) for part in predictor.split(" "))


def verdict(found: pd.DataFrame, *, outcome: str = "ceiling") -> str:
    """In words, whether distance tells across vectors who breaks first, and whether it adds to what
    needs no distance. Lower ceilings at greater distance are negative correlations."""
    said = []
    for matched, words in (("norm", "the same norm"), ("kl", "the same KL")):
        mine = found[(found["outcome"] == outcome) & (found["matched"] == matched)]
        apart = mine[mine["predictor"].str.contains(" ")]
        if apart.empty:
            continue
        tells, against = told(apart)
        own_tells, own_against = told(apart, "own_beside")
        primary = apart[apart["predictor"] == "principal steered"].iloc[0]
        known = "KL" if matched == "norm" else "norm"
        said.append(
            f"At {words} the rise in distance at the steered layer correlates with the "
            f"{OUTCOMES[outcome]} by {estimate(primary, 'alone')} within layers of a model, and by "
            f"{estimate(primary, 'beside')} once {known} and |cos| are known. "
            f"Of {len(apart)} distances {tells} tell beside these, clear of zero, that what lies "
            f"further off breaks earlier, and {against} the opposite; among vectors of traits "
            f"alone {own_tells} and {own_against}."
        )
    return " ".join(said)


def in_short(found: pd.DataFrame) -> str:
    """The whole test across vectors in a few words: how many tests, what chance alone would give,
    what came of them, and what does tell."""
    every = found[found["predictor"].str.contains(" ")]
    norm = found[(found["outcome"] == "ceiling") & (found["matched"] == "norm")]
    kl = norm.set_index("predictor").loc["kl"]
    tells, against = told(every)
    begin = "Shown." if 2 * tells >= len(every) else "Not shown, nor refuted."
    count = every["outcome"].nunique()
    outcomes = f"{_WORDS.get(count, count)} outcome{'s' if count > 1 else ''}"
    chance = round(0.05 * len(every))
    return (
        f"{begin} Of {len(every)} tests across vectors (six distances, at one norm and at one KL, "
        f"of {outcomes}) {tells} tell, clear of zero, "
        f"that what leads further off breaks earlier, and {against} the opposite; by chance alone "
        f"about {_WORDS.get(chance, chance)} of {len(every)} miss zero. What needs no "
        f"distance does {'' if kl['alone_high'] < 0 else 'not '}tell: the KL of rollouts at one "
        f"norm correlates with the true ceiling by {estimate(kl, 'alone')}."
    )


def told(rows: pd.DataFrame, name: str = "beside") -> tuple[int, int]:
    """How many correlations are clearly negative, and how many clearly positive."""
    return int((rows[f"{name}_high"] < 0).sum()), int((rows[f"{name}_low"] > 0).sum())


def picture(name: str, caption: str) -> str:
    """A figure of the report's folder in Markdown, linked to its page."""
    return f"[![{name}](figures/{name}.png)](figures/{name}.html)\n\n*{caption}*"
