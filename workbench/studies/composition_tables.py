"""What the study of composed properties found, as tables for people and for figures (benchmarks/
study_composition.py). Knows nothing of models.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.statistics.intervals import Interval
from workbench.statistics.over_seeds import of_seeds, percent_over_seeds
from workbench.studies.composition_findings import (
    DYNAMIC,
    FAMILIES,
    FIXED,
    LANGUAGES,
    PROMPTS,
    WORDS,
    chosen,
    curves,
    equal_kl,
    marked,
)
from workbench.support.wording import points


def tradeoffs(texts: pd.DataFrame) -> pd.DataFrame:
    """What `figures.composed_tradeoffs` draws: a row of panels of all languages together, with ends
    over seeds, then one each; a column a second property."""
    kept = ("fixed", "fixed pair", "start", "diminishing", "capped", "bounded", "budget")
    shown = {name: WORDS[name] for name in (*PROMPTS, *kept, *DYNAMIC)}
    mine = texts[texts["form"].isin(["per step", "none"]) & texts["schedule"].isin(shown)]
    alone = curves(mine, ["language_of"])
    ends = ["both low", "both high", "coherence low", "coherence high"]
    parts = [
        curves(mine).assign(row="all languages"),
        alone.assign(row=alone["language_of"].map(LANGUAGES), **dict.fromkeys(ends, np.nan)),
    ]
    found = pd.concat(parts, ignore_index=True)
    found["schedule"] = found["schedule"].map(shown)
    found["column"] = "language × " + found["second"]
    columns = ["row", "column", "schedule", "level", "label", "both", "coherence", *ends, "kl"]
    return found[columns]


def drawn_equal(texts: pd.DataFrame) -> pd.DataFrame:
    """What `figures.composed_equal_kl` draws."""
    found = equal_kl(texts)
    kept = [name for name in WORDS if name not in (*PROMPTS, *FIXED, "capped, by p")]
    found = found[found["schedule"].isin(kept)].dropna(subset=["both"])
    return found.assign(
        schedule=found["schedule"].map(WORDS), panel="language × " + found["second"]
    ).reset_index(drop=True)


def shown_equal(texts: pd.DataFrame) -> pd.DataFrame:
    """The same in words, of every family but fixed: points more than fixed coefficients of the
    same KL."""
    found = equal_kl(texts)
    return pd.DataFrame(
        {
            "with language": found["second"],
            "schedule": found["schedule"].map(WORDS),
            "level": found["level"],
            "KL": found["kl"],
            **{
                name: [
                    "spends more" if np.isnan(row[column]) else points(
                        Interval(row[column], row[f"{column} low"], row[f"{column} high"], 0)
                    )
                    for _, row in found.iterrows()
                ]
                for name, column in (("both", "both"), ("coherence", "coherence"),
                                     ("both, unbroken", "good"))
            },
        }
    )  # fmt: skip


def best(texts: pd.DataFrame, by: str = "both") -> pd.DataFrame:
    """A row per second property and family at its best strength (`chosen`), and of prompts: percent
    of texts with both properties, each alone, and that are good; coherence, KL a token, added
    perplexity; in words."""
    rows = []
    texts = marked(texts)
    per_step = texts[texts["form"] == "per step"]
    parts = {WORDS[name]: texts[texts["schedule"] == name] for name in PROMPTS}
    parts |= {name: chosen(per_step, names, by) for name, names in FAMILIES.items()}
    for second in dict.fromkeys(texts["second"]):
        for name, part in parts.items():
            own = part[part["second"] == second]
            if not len(own):
                continue
            rows.append(
                {
                    "with language": second,
                    "schedule": name,
                    "both": percent_over_seeds(own, "both"),
                    "language": percent_over_seeds(own, "language"),
                    "the other": percent_over_seeds(own, "property"),
                    "coherence": percent_over_seeds(own, "coherence"),
                    "both, unbroken": percent_over_seeds(own, "good"),
                    "KL": own["kl"].mean(),
                    "perplexity": own["perplexity"].median(),
                    "strength": _strengths(own),
                }
            )
    return pd.DataFrame(rows)


def forms(texts: pd.DataFrame) -> pd.DataFrame:
    """Deltas of every step beside their average: rows of `curves` of the settings with both."""
    found = curves(texts)
    averaged = found.loc[found["form"] == "averaged", "schedule"]
    return found[found["schedule"].isin(set(averaged))].reset_index(drop=True)


def drawn_forms(texts: pd.DataFrame) -> pd.DataFrame:
    """What `figures.step_forms` draws."""
    found = forms(texts)
    panel = "language × " + found["second"]
    return found.assign(panel=panel, schedule=found["schedule"].map(WORDS))


def shown_forms(texts: pd.DataFrame) -> pd.DataFrame:
    """Per-step deltas and their average, each at its best strength."""
    rows = []
    texts = marked(texts)
    averaged = texts[texts["form"] == "averaged"]
    for name in dict.fromkeys(averaged["schedule"]):
        both = chosen(texts, (name,))
        for second in dict.fromkeys(texts["second"]):
            row: dict[str, object] = {"with language": second, "schedule": WORDS[name]}
            own = both[both["second"] == second]
            for form in ("per step", "averaged"):
                mine = own[own["form"] == form]
                row |= {
                    f"both, {form}": percent_over_seeds(mine, "both"),
                    f"coherence, {form}": percent_over_seeds(mine, "coherence"),
                }
            wide = own.groupby(["seed", "form"])["both"].mean().unstack()
            more = of_seeds(wide["per step"] - wide["averaged"])
            row["both, per step more"] = points(more)
            rows.append(row)
    return pd.DataFrame(rows)


def _strengths(own: pd.DataFrame) -> str:
    """The settings that were taken, most often first."""
    if own["schedule"].iloc[0] in PROMPTS:
        return "–"
    labels = own["label"].where(own["label"] != "", own["level"].map("{:g}".format))
    if own["schedule"].nunique() > 1:
        labels = own["schedule"].map(WORDS).str.removeprefix("dynamic, ") + " " + labels
    return "; ".join(str(each) for each in labels.value_counts().index)
