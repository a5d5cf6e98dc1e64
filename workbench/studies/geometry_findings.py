"""How far off ceilings by geometry are, beside rules that read more, on the same sides."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.statistics.strata import of_clusters

# `ceiling_from_geometry` as it is shipped.
RISE, BEYOND = "geometry, shipped: Rise", "geometry, shipped: Beyond"
BESIDE = ("share intact", "iso-KL", "corpus loss", "constant")


def geometry_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean |log(predicted / true ceiling)| with Student's 95 % intervals over traits, thresholds
    chosen on other traits, of the sides for which geometry was studied; the best first.

    frame  the table `detector_sides` of benchmarks/detector.py

    Columns `rule`, `error`, `low`, `high`, `sees_none` (of the sides on which a rule sees no
    ceiling, and is held to say the end of the range), `sides`. No rows where none was studied.
    """
    keys = ["model", "trait", "method", "layer", "seed", "sign"]
    geometric = frame["rule"].str.startswith("geometry")
    known = frame[geometric & frame["predicted"].notna()]
    if known.empty:
        return pd.DataFrame(columns=["rule", "error", "low", "high", "sees_none", "sides"])
    studied = known[known["rule"] == known["rule"].iloc[0]][keys]
    same = frame[geometric | frame["rule"].isin(BESIDE)].merge(studied, on=keys)
    end = frame["predicted"].max()
    rows = []
    for rule, mine in same.groupby("rule", sort=False):
        errors = np.abs(np.log(mine["predicted"] / mine["true"]))
        found = of_clusters(errors, mine["trait"])
        none = float((mine["predicted"] >= end - 1e-3).mean())
        rows.append((rule, found.value, found.low, found.high, none, len(mine)))
    names = ["rule", "error", "low", "high", "sees_none", "sides"]
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values("error", ignore_index=True)


def verdict(errors: pd.DataFrame) -> str:
    """In words, where the best geometric rule stands; empty without any."""
    chosen = ~errors["rule"].isin([RISE, BEYOND])
    geometric = errors[errors["rule"].str.startswith("geometry") & chosen]
    if geometric.empty:
        return ""
    rules, best = errors.set_index("rule"), geometric.iloc[0]

    def off(row: pd.Series) -> str:
        return f"{row['error']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"

    said = (
        f"On {best['sides']} sides of the study's sweeps the best of {len(geometric)} geometric "
        f"rules ({best['rule']}) is off by {off(best)} (mean |log(predicted / true)|, bounds from "
        f"other traits), a constant by {off(rules.loc['constant'])}, KL in rollouts by "
        f"{off(rules.loc['iso-KL'])}."
    )
    if not {RISE, BEYOND} <= set(rules.index):
        return said
    return (
        f"{said} As it is shipped, on prompts, `ceiling_from_geometry` is off by "
        f"{off(rules.loc[RISE])} with `Rise`, whose factor was chosen on these sides, and by "
        f"{off(rules.loc[BEYOND])} with `Beyond`, which sees no ceiling on "
        f"{rules.loc[BEYOND, 'sees_none']:.0%} of them."
    )
