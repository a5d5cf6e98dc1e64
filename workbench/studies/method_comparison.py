"""Methods side by side: trait, coherence and their harmonic mean, and whether SPLIT wins.

Reads the texts that benchmarks/study_methods.py reports on. Each trait and seed is a *cell*: its
own pairs, training, prompts and sampling, shared by all methods. A value is the mean over traits of
the mean over a trait's cells of the mean over a cell's prompts. Methods are compared within cells.
Settings were chosen once a trait, so that the intervals speak of other seeds on these traits, and
of no others (strata.py); where a difference is of one sign on some traits and of the other on
others, that is said in place of a mean that says nothing. Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from workbench.statistics.harmonic import OUTCOMES, scored
from workbench.statistics.strata import LEVEL, holm, of_strata

RULES = ("recommended", "best")
#: Methods and forms as tables and figures call them, in their order.
METHODS = {
    "vanilla": "unsteered",
    "prompting": "asked in the prompt",
    "difference of means": "difference of means",
    "sft": "SFT",
    "reps": "RePS",
    "split": "SPLIT",
}
FORMS = {"": "–", "vector": "vector", "lora": "LoRA", "local_weight": "local weight"}
_CELL = ["trait", "seed"]
_FEWEST = 3  # seeds of a trait
_WAY = ["method", "form"]


def cells(texts: pd.DataFrame, rule: str = "recommended") -> pd.DataFrame:
    """One row per trait, seed, method and form: means over prompts.

    texts  rows of study_methods_texts
    rule   how coefficients were chosen: "recommended", by the detector, or "best", by the highest
           mean harmonic mean on the prompts that choose

    Columns: trait, seed, method, form, `score` (of the trait, 0 to 1), `coherence`, `harmonic`, `m`
    and `unit` (of the coefficient), `prompts`. Raises ValueError for another rule, and for methods
    that lack a cell which others have.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is unknown; choose one of {', '.join(RULES)}")
    own = scored(texts[texts["rule"] == rule])
    grouped = own.groupby([*_CELL, *_WAY], sort=False)
    found = grouped[list(OUTCOMES)].mean()
    found = found.join(grouped[["m", "unit"]].first()).assign(prompts=grouped.size()).reset_index()
    counts = found.groupby(_WAY)[_CELL[1]].count()
    if counts.nunique() > 1:
        few = counts.idxmin()
        raise ValueError(
            f"{few} has {counts.min()} cells where others have {counts.max()}: finish the study "
            "with `make study`, or leave the others' cells out"
        )
    return found


def table(texts: pd.DataFrame, rule: str = "recommended") -> pd.DataFrame:
    """The results: one row per method and form, in the published order.

    method, form      as in the texts
    score, coherence, harmonic, each with _low and _high: mean over cells and its 95 % interval
                      (strata.of_strata)
    m, m_low, m_high  median, least and greatest coefficient of the cells that steer, in `unit`
    idle              cells in which the rule steers with 0 (of "recommended": the detector saw no
                      effect, or no coefficient at which nine in ten texts hold)
    cells             trait and seed
    """
    rows = []
    found = cells(texts, rule)
    for method, form in ways_of(found):
        own = found[(found["method"] == method) & (found["form"] == form)]
        row: dict[str, object] = {"method": method, "form": form}
        for outcome in OUTCOMES:
            mean = of_strata(own.set_index(_CELL)[outcome])
            ends = np.clip([mean.low, mean.high], 0, 1)
            row |= {outcome: mean.value, f"{outcome}_low": ends[0], f"{outcome}_high": ends[1]}
        steers = own.loc[own["m"] != 0, "m"]
        row |= {"m": steers.median(), "m_low": steers.min(), "m_high": steers.max()}
        row |= {"unit": own["unit"].iloc[0], "idle": int((own["m"] == 0).sum()) if form else 0}
        rows.append({**row, "cells": len(own)})
    return pd.DataFrame(rows)


def at_the_end(
    texts: pd.DataFrame, trials: pd.DataFrame, rule: str = "recommended"
) -> pd.DataFrame:
    """One row per method and form that steers: in how many `cells` the coefficient is the `largest`
    that was tried, so that more of it might have given more.

    trials  rows of study_methods_trials
    """
    tried = {
        (row["method"], row["form"]): max(json.loads(row["coefficients"]))
        for row in trials[trials["form"] != ""].to_dict("records")
    }
    found = cells(texts, rule)
    rows = []
    for (method, form), end in tried.items():
        own = found[(found["method"] == method) & (found["form"] == form)]
        largest = int((own["m"] >= end - 1e-6).sum())
        rows.append({"method": method, "form": form, "largest": largest, "cells": len(own)})
    return pd.DataFrame(rows)


def differences(
    texts: pd.DataFrame, rule: str = "recommended", winner: str = "split"
) -> pd.DataFrame:
    """A method less each rival, within cells: one row per form of it, rival and outcome.

    Rivals are the other trained methods in the same form, difference of means, asking and nothing.

    form, rival, outcome      what is compared
    difference, low, high     mean over traits and its 95 % interval, seeds being drawn (strata.py),
                              positive where `winner` is higher
    p, by_trait               p values of "no difference" and "the same difference on every trait",
                              each times what Holm asks for all rows of the outcome
    least, most               the least and the greatest mean of a trait
    traits_ahead, traits      traits on whose mean it is higher, of how many
    cells, fewest             how many, and of the trait that has fewest
    verdict                   "differs by trait" where by_trait <= 0.05 and signs differ; else
                              "ahead" or "behind" where p <= 0.05, or "not told apart"; "too few
                              seeds" where a trait has fewer than three
    """
    found = cells(texts, rule)
    rows = []
    for outcome in OUTCOMES:
        wide = found.pivot_table(index=_CELL, columns=_WAY, values=outcome)
        block = []
        for form, (rival, other) in _rivals(found, winner):
            apart = wide[winner, form] - wide[rival, other]
            block.append(_compared(apart) | {"form": form, "rival": rival, "outcome": outcome})
        told = [holm([float(row[name]) for row in block]) for name in ("p", "by_trait")]
        for row, p, differ in zip(block, *told, strict=True):
            rows.append({**row, "p": p, "by_trait": differ, "verdict": _verdict(row, p, differ)})
    columns = ["form", "rival", "outcome", "difference", "low", "high", "p", "verdict"]
    result = pd.DataFrame(rows)
    return result[[*columns, *result.columns.difference(columns, sort=False)]]


def _compared(apart: pd.Series) -> dict[str, object]:
    """What the differences of all cells, indexed by trait and seed, say together."""
    mean = of_strata(apart)
    by_trait = apart.groupby("trait").mean()
    return {
        "difference": mean.value,
        "low": mean.low,
        "high": mean.high,
        "p": mean.p,
        "by_trait": mean.alike,
        "least": float(by_trait.min()),
        "most": float(by_trait.max()),
        "traits_ahead": int((by_trait > 0).sum()),
        "traits": len(by_trait),
        "cells": len(apart),
        "fewest": int(apart.groupby("trait").size().min()),
    }


def _verdict(row: dict[str, Any], p: float, differ: float) -> str:
    if row["fewest"] < _FEWEST:
        return "too few seeds"
    if differ <= 1 - LEVEL and row["least"] < 0 < row["most"]:
        return "differs by trait"
    if p <= 1 - LEVEL:
        return "ahead" if row["difference"] > 0 else "behind"
    return "not told apart"


def ways_of(found: pd.DataFrame) -> list[tuple[str, str]]:
    """Methods and forms, those without a form first, then form by form."""
    present = set(map(tuple, found[_WAY].to_numpy()))
    return [(m, f) for f in FORMS for m in METHODS if (m, f) in present]


def _rivals(found: pd.DataFrame, winner: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each form of a method with every rival and its form."""
    ways = ways_of(found)
    for method, form in ways:
        if method != winner:
            continue
        for rival, other in ways:
            trained_elsewhere = other != form and (rival, form) in ways
            if rival != winner and not trained_elsewhere:
                yield form, (rival, other)
