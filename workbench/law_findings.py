"""What the study of laws found (benchmarks/study_laws.py), as the tables of a report.

Reads saved tables; knows nothing of models, nor of how laws are fitted. A *case* is one trait,
layer and form of steering. What the tables say in words is in law_words.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from workbench import coupling
from workbench.law_shapes import KINDS
from workbench.wording import number

CASE = ["trait", "layer", "form"]
FORMS: Mapping[str, str] = MappingProxyType(
    {
        "mean_difference": "vector, difference of means",
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


def claims(laws: pd.DataFrame) -> pd.DataFrame:
    """The paper's law by the aims: medians over cases with their middle half and least, what no law
    gives, and whether the aim is met."""
    own = laws[laws["law"] == "paper"]
    rows = []
    for score, words, aim, bound in AIMS:
        for kind in KINDS:
            values = own.loc[own["kind"] == kind, score]
            rows.append(
                {
                    "curve": kind,
                    "R²": words,
                    "median": f"{values.median():.3f}",
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
        f"{fewest(about['needed_random'])} on a side for 0.97"
    )


def fewest(count: float) -> str:
    """How many pairs are needed, in words."""
    return f"{count:.0f} pairs" if np.isfinite(count) else "no number of pairs"


def hidden(frame: pd.DataFrame, *, at: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """What becomes of the answers from m = 0 to the last coefficient within so many true ceilings,
    split as in `coupling.survives`: one row per form, medians over traits, layers and sides.

    frame  study_laws_curves: one row per (case, pair, m)
    """
    rows = []
    near = frame[frame["ceilings"].abs() <= at + 1e-6]
    for case, part in near.groupby(CASE, sort=False):
        found = coupling.survives(with_losses(part), seed=seed)
        rows.append(found.assign(**dict(zip(CASE, case, strict=True))))
    changes = pd.concat(rows, ignore_index=True)
    table = changes.pivot_table(
        index="form", columns="part", values="value", aggfunc="median", sort=False
    )[list(dict.fromkeys(changes["part"]))]
    utility = changes[changes["part"] == "utility"]
    falls = utility.assign(falls=utility["high"] < 0).groupby("form", sort=False)["falls"].mean()
    table["utility falls (share)"] = falls
    table.index = pd.Index([FORMS[str(form)] for form in table.index], name="form")
    return table.reset_index().rename_axis(columns=None)


def with_losses(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `loss_positive` and `loss_negative` out of preference and likelihood."""
    of_positive, of_negative = frame["tokens_positive"], frame["tokens_negative"]
    both = -2 * frame["likelihood"] - frame["preference"] / of_negative
    positive = both / (1 / of_positive + 1 / of_negative)
    return frame.assign(loss_positive=positive, loss_negative=positive + frame["preference"])


def relative_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean curve of every case as the change from m = 0, in shares of its largest.

    frame  study_laws_curves: one row per (case, pair, m)

    One row per (case, kind, m): `ceilings` (m by the true ceiling of its side), `mean`, and `low`
    and `high`, 1.96 standard errors over pairs to either side, all in shares of the largest change.
    """
    rows = []
    for case, part in frame.groupby(CASE, sort=False):
        for kind in KINDS:
            wide = part.pivot(index="pair", columns="ceilings", values=kind)
            change = wide.sub(wide[0.0], axis=0)
            mean = change.mean()
            error = change.std(ddof=1) / np.sqrt(change.count())
            scale = float(mean.abs().max())
            rows.append(
                pd.DataFrame(
                    {
                        **dict(zip(CASE, case, strict=True)),
                        "kind": kind,
                        "ceilings": mean.index.to_numpy(dtype=float),
                        "m": part.groupby("ceilings")["m"].first().to_numpy(dtype=float),
                        "mean": mean.to_numpy() / scale,
                        "low": (mean - 1.96 * error).to_numpy() / scale,
                        "high": (mean + 1.96 * error).to_numpy() / scale,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def shapes(relative: pd.DataFrame) -> pd.DataFrame:
    """One row per case, kind and side of `relative_curves`:

    half      the change at half of a coefficient just below the true ceiling, by that there
    turned    by how much the change at the end of the range is less than its furthest on that side,
              in shares of that; 0 where it is furthest there
    rightly   whether it is on the side that it should be: preference rises with m, utility falls
    top       where the curve is highest, in true ceilings, of both sides together
    """
    rows = []
    for key, part in relative.groupby([*CASE, "kind"], sort=False):
        curve = part.sort_values("ceilings")
        top = float(curve.loc[curve["mean"].idxmax(), "ceilings"])
        for sign in (1, -1):
            side = curve[sign * curve["ceilings"] >= 0].sort_values("ceilings", key=np.abs)
            values = side["mean"].to_numpy()
            near = np.flatnonzero(side["ceilings"].abs() <= 1 + 1e-6)[-1] // 2 * 2
            way = sign if key[-1] == "preference" else -1
            along = way * values
            furthest = float(along.max())
            rows.append(
                {
                    **dict(zip([*CASE, "kind"], key, strict=True)),
                    "side": sign,
                    "half": float(values[near // 2] / values[near]),
                    "turned": float(1 - along[-1] / furthest) if furthest > 0 else np.nan,
                    "rightly": bool(along[near] > 0),
                    "top": top,
                }
            )
    return pd.DataFrame(rows)
