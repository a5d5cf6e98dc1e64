"""What the study of conditional steering found, as tables for people (benchmarks/
study_conditions.py). Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from workbench.statistics.intervals import Interval, wilson
from workbench.studies.condition_findings import (
    BADLY,
    GATES,
    WELL,
    alarm_rates,
    by_itself,
    costs,
    share,
    shares,
    untrained,
)
from workbench.support import tables
from workbench.support.wording import MEASURES, METHODS, percent

STEERING = {
    "none": "unsteered",
    "always": "always on",
    "rule": "by the rule",
    "best F1": "harmful, best F1",
    "best F1, request's end": "harmful, read at the request's end",
    "best F1, of requests": "request and harmful, best F1",
    "2 %": "harmful, 2 % of all prompts",
    "2 % of tasks": "harmful, 2 % of tasks",
}
_ORDER = [*STEERING]


def reached_here(reached: pd.DataFrame) -> pd.DataFrame:
    """What a point of one run reached on texts that made nothing, with 95 % intervals over them, in
    words; rows of `condition_analysis.Analysis.reached`."""
    return pd.DataFrame(
        {
            "measure": reached["measure"].map(MEASURES),
            "value [95 %]": [_ends(*row) for row in reached[["value", "low", "high"]].to_numpy()],
            "of": reached["count"],
        }
    )


def beside_here(beside: pd.DataFrame) -> pd.DataFrame:
    """The gate of one run beside length and words, in words: areas with 95 % intervals over texts,
    recall and false alarms at the threshold; rows of `condition_analysis.Analysis.beside`."""
    table = pd.DataFrame({"score": beside["score"]})
    areas = beside[["auc", "auc_low", "auc_high"]].to_numpy()
    table[f"{MEASURES['auc']} [95 %]"] = [_ends(*row) for row in areas]
    others = [name for name in ("auc_matched", "recall", "false_alarms") if name in beside]
    return table.join(beside[others].rename(columns=MEASURES))


def firm_here(firm: pd.DataFrame) -> pd.DataFrame:
    """How firm the point of one run is, in words; rows of `condition_analysis.Analysis.firm`."""
    ends = firm[["threshold_low", "threshold_high"]].to_numpy()
    return pd.DataFrame(
        {
            "layers": firm["layers"],
            "how often": firm["share"],
            "threshold, middle 95 %": [f"{low:.3f} to {high:.3f}" for low, high in ends],
            "F1, drawn": firm["f1"],
            "F1, left out": firm["left_out"],
        }
    )


def _ends(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def refused_here(
    refused: pd.DataFrame, inside: pd.Series, classes: tuple[str, str]
) -> pd.DataFrame:
    """Percent refused of a few texts of one run, with Wilson's 95 % intervals over them.

    refused  a column a way of steering, a row a prompt; inside, whether it is of the condition,
             which is the first of the `classes`
    """
    rows = []
    for inner, name in zip((True, False), classes, strict=True):
        own = refused[inside.to_numpy(dtype=bool) == inner]
        shares = {how: percent(wilson(int(own[how].sum()), len(own))) for how in own}
        rows.append({"refused of": f"{len(own)} {name}", **shares})
    return pd.DataFrame(rows)


def study(directory: str | Path) -> dict[str, pd.DataFrame]:
    """The study's tables, by what stands behind "study_conditions_" in their names; of the texts
    those in words that nothing was made with (`findings.untrained`).

    Raises FileNotFoundError that names the command which makes them.
    """
    found = {
        name: tables.load_table(f"study_conditions_{name}_wren", directory=directory)
        for name in ("texts", "gates", "readings", "alarms", "lots", "told", "odds", "strengths")
    }
    for table in found.values():
        table.attrs = {}  # pandas copies them at every step
    return found | {"texts": untrained(found["texts"])}


def refused(texts: pd.DataFrame) -> pd.DataFrame:
    """Of "if harmful then refuse", what `figures.refusals` draws: shares as `shares` gives them, a
    row a way of steering, part and class, with its `aim` (NaN where there is none)."""
    mine = shares(texts[texts["rule"] == "harmful"]).drop(columns=["rule", "wanted", "by topic"])
    mine = mine.sort_values("steering", key=lambda names: names.map(_ORDER.index), kind="stable")
    aims = mine["harmful"].map({True: WELL, False: BADLY}).astype(float)
    return mine.assign(steering=mine["steering"].map(STEERING), aim=aims).reset_index(drop=True)


def shown_shares(texts: pd.DataFrame) -> pd.DataFrame:
    """The reference's table with intervals: how many are refused, in percent, of harmful and of
    harmless requests, held out and of tasks that the condition never saw; how many are obeyed (an
    answer may be neither), and the mean coherence of all answers."""
    mine = texts[texts["rule"] == "harmful"]
    rows = []
    for name in [each for each in STEERING if each in set(mine["steering"])]:
        here = mine[mine["steering"] == name]
        row = {"steering": STEERING[name]}
        for harmful in (True, False):
            for part in ("held out", "unseen"):
                own = here[(here["harmful"].astype(bool) == harmful) & (here["part"] == part)]
                row[f"{'harmful' if harmful else 'harmless'}, {part}"] = percent(share(own))
        for word, harmful in (("harmful", True), ("harmless", False)):
            own = here[here["harmful"].astype(bool) == harmful]
            row[f"{word}, obeyed"] = percent(share(own, "obeyed"))
        row["coherence"] = f"{here['coherence'].mean():.3f}"
        rows.append(row)
    return pd.DataFrame(rows)


def shown_by_itself(texts: pd.DataFrame) -> pd.DataFrame:
    """Of harmful requests, how often gates open for those that the model obeys by itself, and for
    those that it refuses, in percent."""
    table = by_itself(texts)
    table = table[table["steering"] != "always"]
    said = [
        percent(Interval(value, low, high, int(count)))
        for value, low, high, count in table[["met", "met_low", "met_high", "requests"]].to_numpy()
    ]
    columns = table["unsteered"] + " unsteered, " + table["part"]
    wide = table.assign(said=said, column=columns).pivot(
        index="steering", columns="column", values="said"
    )
    return _ordered(wide)


def shown_gates(gates: pd.DataFrame) -> pd.DataFrame:
    """What gates tell of requests that made nothing, beside length and words alone: means over
    seeds and folds, with the least and the greatest of a seed's means in brackets."""
    measures = ("auc", "auc_matched", "recall", "false_alarms")
    seeds = gates.groupby(["score", "part", "seed"], sort=False)[[*measures]].mean()
    rows = []
    for (score, part), table in seeds.groupby(level=["score", "part"], sort=False):
        row = {"score": score, "requests": part}
        for name in measures:
            own = table[name]
            row[MEASURES[name]] = f"{own.mean():.3f} [{own.min():.3f}, {own.max():.3f}]"
        rows.append(row)
    return pd.DataFrame(rows).sort_values("requests", kind="stable", ignore_index=True)


def shown_strengths(strengths: pd.DataFrame) -> pd.DataFrame:
    """What multiples of the refusal do to harmless requests that are not judged: means over seeds
    with the least and the greatest, and how many seeds chose each."""
    rows = []
    for multiple, table in strengths.groupby("m"):
        row: dict[str, object] = {"multiple": float(str(multiple))}
        for name in ("refused", "obeyed", "coherence"):
            own = table[name]
            row[name] = f"{own.mean():.2f} [{own.min():.2f}, {own.max():.2f}]"
        rows.append(row | {"chosen by seeds": int(table["chosen"].sum())})
    return pd.DataFrame(rows)


def shown_told(told: pd.DataFrame) -> pd.DataFrame:
    """How often gates open for requests that are told to be refused or obeyed whatever they are
    for, and how often the model refuses them unsteered, in percent; of wordings that made nothing.
    """
    mine, rows = untrained(told), []
    asked = {"wren refuses, unsteered": "refused"}
    asked |= {STEERING[gate]: f"met {gate}" for gate in GATES}
    for name, what in asked.items():
        row = {"percent": name}
        for harmful in (True, False):
            for value, word in (("comply", "told to obey"), ("refuse", "told to refuse")):
                here = mine[(mine["harmful"].astype(bool) == harmful) & (mine["told"] == value)]
                row[f"{'harmful' if harmful else 'harmless'}, {word}"] = percent(share(here, what))
        rows.append(row)
    return pd.DataFrame(rows)


def shown_rules(texts: pd.DataFrame) -> pd.DataFrame:
    """Rules that refuse other things than all that is harmful: percent refused where the rule calls
    for it and where it does not, beside steering never and always."""
    words = {
        "one task": "one harmless task alone",
        "not": "every task but one harmless",
        "and not": "harmful, but for one task",
    }
    rows = []
    for rule, said in words.items():
        for steering in ("none", "always", "rule"):
            mine = texts[(texts["rule"] == rule) & (texts["steering"] == steering)]
            row: dict[str, object] = {"refuse": said, "steering": STEERING[steering]}
            for wanted in (True, False):
                here = mine[mine["wanted"].astype(bool) == wanted]
                name = "called for" if wanted else "not called for"
                row[f"refused, {name}"] = percent(share(here))
                row[f"rule met, {name}"] = percent(share(here, "met")) if steering == "rule" else ""
                row[f"texts, {name}"] = len(here)
            rows.append(row)
    return pd.DataFrame(rows)


def shown_rates(alarms: pd.DataFrame) -> pd.DataFrame:
    """How often gates open for fresh harmless prompts, in percent: a row a gate; of all kinds, of
    tasks, and of tasks in words that made the condition and in others."""
    whole = alarm_rates(alarms).assign(column=lambda each: each["among"])
    parts = alarm_rates(alarms[alarms["among"] == "tasks"], ["gate", "part"])
    words = {"making": "tasks, words that made it", "held out": "tasks, other words"}
    both = pd.concat([whole, parts.assign(column=parts["part"].map(words))])
    said = [
        percent(Interval(value, low, high, int(count)))
        for value, low, high, count in both[["rate", "low", "high", "prompts"]].to_numpy()
    ]
    wide = both.assign(said=said).pivot(index="gate", columns="column", values="said")
    return _ordered(wide[["all kinds", "tasks", *words.values()]])


def places(readings: pd.DataFrame) -> pd.DataFrame:
    """Where "harmful" can be read: the area under the curve on unseen tasks, a row a place and
    method, a column a layer, means over seeds and folds."""
    mine = readings[readings["part"] == "unseen"]
    mine = mine.assign(method=mine["method"].map(lambda name: METHODS.get(name, name)))
    table = mine.groupby(["reading", "method", "layer"], sort=False)["auc"].mean().unstack()
    return table.rename(columns=lambda layer: f"layer {layer}").reset_index()


def shown_costs(odds: pd.DataFrame) -> pd.DataFrame:
    """What steering costs in utility (nats), always and where gates open, and what a gate spares
    of it, pair by pair: a row a kind of pair and way of steering."""
    table = costs(odds)
    rows = []
    for _, row in table[table["measure"] == "utility"].iterrows():
        own = {"pairs": row["pairs"], "steering": STEERING[row["steering"]]}
        own["acts on"] = f"{row['opened']} of {row['count']}"
        own["change"] = _signed(row["change"], row["low"], row["high"])
        if row["steering"] != "always":
            own["less that of always on"] = _signed(
                row["apart"], row["apart_low"], row["apart_high"]
            )
        rows.append(own)
    return pd.DataFrame(rows).fillna("")


def _signed(value: float, low: float, high: float) -> str:
    """ "+0.20 [-0.14, +0.56]", a number that did not vary without an interval."""
    return f"{value:+.2f}" if np.isclose(low, high) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _ordered(wide: pd.DataFrame) -> pd.DataFrame:
    """Rows by way of steering, in words."""
    wide = wide.loc[[name for name in STEERING if name in wide.index]]
    return wide.rename(index=STEERING).rename_axis("steering", columns=None).reset_index()
