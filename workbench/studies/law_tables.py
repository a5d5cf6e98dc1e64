"""What the study of laws found (benchmarks/study_laws.py), as the tables of a report.

Reads saved tables; knows nothing of models, nor of how laws are fitted. A *case* is one trait,
layer and form of steering. What the tables say in words is in law_findings.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from workbench.preference.law_shapes import KINDS
from workbench.statistics.intervals import Interval, percentiles
from workbench.support.wording import METHODS, interval, number

CASE = ["trait", "layer", "form"]
FORMS: Mapping[str, str] = MappingProxyType(
    {
        "mean_difference": f"vector, {METHODS['mean_difference']}",
        "vector": "vector, SPLIT",
        "lora": "LoRA, SPLIT",
        "local_weight": "local weight, SPLIT",
    }
)
#: What is claimed of the median over cases: the score, in words, the aim, and the score of no law.
AIMS: tuple[tuple[str, str, float, str], ...] = (
    ("in_place", "fitted in place", 0.99, ""),
    ("held_out", "carried to other pairs", 0.97, "no_law"),
    ("held_out_matched", "carried to other pairs, matched in length", 0.97, "no_law_matched"),
)
#: Below this a case is shown and explained.
LOW = 0.9
#: The reference's own R^2 (arXiv 2602.02343), on other models, pairs and coefficients.
PAPER = MappingProxyType(
    {
        "R² of": "the paper: Gemma-2-9B and Qwen2.5-7B, all forms",
        "preference": "0.98 (0.83 to 0.99)",
        "utility": "0.99 (0.96 to 0.99)",
        "preference, carried": "as low as −12",
        "utility, carried": "–",
    }
)


def studied(cases: pd.DataFrame, curves: pd.DataFrame) -> dict[str, int | str]:
    """How much the study looked at, by the name under which its page asks for it; rows of
    study_laws_cases and study_laws_curves."""
    return {
        "cases": len(cases),
        "traits": ", ".join(curves["trait"].unique()),
        "layers": ", ".join(map(str, sorted(curves["layer"].unique()))),
        "study_points": curves["ceilings"].nunique(),
        "study_pairs": int(curves.groupby(CASE)["pair"].nunique().min()),
    }


def claims(laws: pd.DataFrame) -> pd.DataFrame:
    """The paper's law by the aims: medians over cases with their interval over traits, middle half
    and least, what no law gives, and whether the aim is met."""
    own = laws[laws["law"] == "paper"]
    rows = []
    for score, words, aim, bound in AIMS:
        for kind in KINDS:
            values = own.loc[own["kind"] == kind, score]
            rows.append(
                {
                    "curve": kind,
                    "R²": words,
                    "median [95 %]": interval(over_traits(own[own["kind"] == kind], score), ".3f"),
                    "middle half": f"{values.quantile(0.25):.3f} to {values.quantile(0.75):.3f}",
                    "least": number(values.min(), ".3f"),
                    "without a law": _median(own, kind, bound) if bound else "–",
                    "aim": f"at least {aim:.2f}",
                    "met": "yes" if values.median() >= aim else "no",
                    f"cases below {LOW}": int((values < LOW).sum()),
                    "cases": len(values),
                }
            )
    return pd.DataFrame(rows)


def over_traits(cases: pd.DataFrame, score: str) -> Interval:
    """The median over cases of a score, with its 95 % bootstrap interval over traits: cases of one
    trait share their pairs."""
    groups = [part[score].to_numpy() for _, part in cases.groupby("trait")]
    drawn = np.random.default_rng(0).integers(len(groups), size=(2000, len(groups)))
    medians = [np.median(np.concatenate([groups[i] for i in row])) for row in drawn]
    low, high = percentiles(np.array(medians), 0.95)
    return Interval(float(cases[score].median()), low, high, len(groups))


def paired(laws: pd.DataFrame, kind: str, rival: str) -> Interval:
    """Beyond the range, R^2 of the paper's law less a rival's, case by case: as `over_traits`."""
    part = laws[laws["kind"] == kind].set_index([*CASE, "law"])["extrapolated"].unstack()
    apart = (part["paper"] - part[rival]).rename("apart").reset_index()
    return over_traits(apart, "apart")


def _median(own: pd.DataFrame, kind: str, column: str) -> str:
    return f"{own.loc[own['kind'] == kind, column].median():.3f}"


def summary(laws: pd.DataFrame) -> pd.DataFrame:
    """Every law: medians over cases of its scores, and of how many cases it is the best."""
    ranked = laws.assign(
        lowest=laws.groupby([*CASE, "kind"])["aicc"].transform("min"),
        furthest=laws.groupby([*CASE, "kind"])["extrapolated"].transform("max"),
    )
    rows = []
    for (kind, law), part in ranked.groupby(["kind", "law"], sort=False):
        rows.append(
            {
                "curve": kind,
                "law": law,
                "free numbers": int(part["numbers"].iloc[0]),
                "in place": part["in_place"].median(),
                "other pairs": part["held_out"].median(),
                "… matched": part["held_out_matched"].median(),
                "single pairs": part["per_pair"].median(),
                "beyond the range": part["extrapolated"].median(),
                "best by AICc": int((part["aicc"] <= part["lowest"]).sum()),
                "best beyond": int((part["extrapolated"] >= part["furthest"]).sum()),
                "random curves": part["random"].median(),
                "… beyond": part["random_extrapolated"].median(),
            }
        )
    return pd.DataFrame(rows)


def by_form(laws: pd.DataFrame) -> pd.DataFrame:
    """R^2 in the paper's shape, median and range over traits and layers, its own numbers last."""
    own = laws[laws["law"] == "paper"]
    rows = []
    for form, part in own.groupby("form", sort=False):
        row: dict[str, Any] = {"R² of": f"{part.attrs.get('model', 'wren')}: {FORMS[str(form)]}"}
        for score, suffix in (("in_place", ""), ("held_out", ", carried")):
            for kind in KINDS:
                values = part.loc[part["kind"] == kind, score]
                row[f"{kind}{suffix}"] = (
                    f"{number(values.median(), '.2f')} ({number(values.min(), '.2f')} to "
                    f"{number(values.max(), '.2f')})"
                )
        rows.append(row)
    return pd.DataFrame([*rows, dict(PAPER)])[list(PAPER)]


def samples(pairs: pd.DataFrame) -> pd.DataFrame:
    """R^2 of one mean curve for another by pairs on a side: median over cases and middle half, and
    what the spread of the pairs lets expect. One row per (kind, dealing, pairs)."""
    grouped = pairs.groupby(["kind", "dealing", "pairs"], sort=True)
    return grouped.agg(
        r2=("r2", "median"),
        low=("r2", lambda values: values.quantile(0.25)),
        high=("r2", lambda values: values.quantile(0.75)),
        expected=("expected", "median"),
        cases=("r2", "size"),
    ).reset_index()


def reaching(pairs: pd.DataFrame, kind: str, dealing: str, aim: float = 0.97) -> float:
    """The fewest pairs on a side, of those tried, at which the median over cases of R^2 without a
    law reaches `aim`; infinite where none does."""
    found = samples(pairs).query("kind == @kind and dealing == @dealing and r2 >= @aim")
    return float(found["pairs"].min()) if len(found) else float("inf")


def spreads(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per case and curve: where the variance between pairs comes from, and how many pairs
    on a side let R^2 without a law reach 0.97, dealt at random and matched in length."""
    once = pairs.groupby([*CASE, "kind", "dealing"], sort=False).first().reset_index()
    needed = once.pivot(index=[*CASE, "kind"], columns="dealing", values="needed")
    shares = once[once["dealing"] == "random"].set_index([*CASE, "kind"])
    columns = ["level", "size", "other", "length", "between", "signal"]
    return shares[columns].join(needed.add_prefix("needed_")).reset_index()


def misses(laws: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Every case and score of the paper's law below 0.9, with what can be seen of the reason."""
    known = spreads(pairs).set_index([*CASE, "kind"])
    own = laws[laws["law"] == "paper"]
    rows = []
    for score, words, _, bound in AIMS:
        for row in own[own[score] < LOW].to_dict("records"):
            about = known.loc[(row["trait"], row["layer"], row["form"], row["kind"])]
            rows.append(
                {
                    "trait": row["trait"],
                    "layer": row["layer"],
                    "form": FORMS[str(row["form"])],
                    "curve": row["kind"],
                    "R²": words,
                    "seen": number(row[score], ".2f"),
                    "without a law": number(row[bound], ".2f") if bound else "–",
                    "reason": _reason(row, score, bound, about),
                }
            )
    columns = ["trait", "layer", "form", "curve", "R²", "seen", "without a law", "reason"]
    return pd.DataFrame(rows, columns=columns)


def _reason(row: Mapping[str, Any], score: str, bound: str, about: pd.Series) -> str:
    if not bound:
        return f"the law itself: at a bound {row['at_bound'] or 'is none'}"
    if row[bound] - row[score] > 0.03:
        return "the law: one half of the pairs tells the other better without it"
    causes = {
        f"level ({about['length']:.0%} by length)": about["level"],
        "size of the effect": about["size"],
        "shape": about["other"],
    }
    first, second = sorted(causes, key=lambda name: -causes[name])[:2]
    return (
        f"pairs differ: {causes[first]:.0%} in {first}, {causes[second]:.0%} in {second}; "
        f"{fewest(about['needed_random'])} on a side for 0.97 on average"
    )


def fewest(count: float) -> str:
    """How many pairs are needed, in words."""
    return f"{count:.0f} pairs" if np.isfinite(count) else "no number of pairs"
