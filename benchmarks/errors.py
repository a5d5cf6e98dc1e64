"""How far off each rule is, at thresholds that never saw the sweeps they are judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from detectors import CHOICES, PUBLISHED, RULES, Rule
from numpy.typing import NDArray
from truth import Truth, truth_of

from workbench.statistics.intervals import Floats
from workbench.statistics.strata import of_clusters


def predictions(known: Sequence[Truth]) -> dict[str, Floats]:
    """What every rule says with every threshold of its choice: rule -> (sides, thresholds).

    A rule that sees no ceiling says the end of the range.
    """
    found = {}
    for name, rule in RULES.items():
        said = [[rule(each.curves, float(t)) for t in CHOICES[name]] for each in known]
        ends = np.array([[each.end] for each in known])
        found[name] = np.clip(np.array(said), 1e-3, ends)
    return found


def held_out_choice(
    errors: Floats, groups: Sequence[tuple[str, str]], alike: int
) -> NDArray[np.int64]:
    """For each side (N,) the threshold with the least mean error over the other groups, as a column
    of `errors` (N, thresholds). `alike` 0 leaves out the model, 1 the trait."""
    names = np.array([group[alike] for group in groups])
    chosen = np.empty(len(errors), dtype=np.int64)
    for name in np.unique(names):
        mine = names == name
        chosen[mine] = np.argmin(np.nanmean(errors[~mine], axis=0))
    return chosen


def compare(known: Sequence[Truth]) -> pd.DataFrame:
    """One row per rule: mean |log(predicted / true)| with Student's 95 % intervals over traits; the
    mean distance in residual norms (`in norms`), at the threshold of the other traits; `sides`: of
    how many sides there is what the rule reads; `sees none`: the share of those where it sees no
    ceiling in the range."""
    truth = np.array([[each.ceiling] for each in known])
    groups = [(each.model, each.trait) for each in known]
    clusters = [trait for _, trait in groups]
    models = len({model for model, _ in groups})
    said = predictions(known)
    rows = []
    for name in RULES:
        errors = np.abs(np.log(said[name] / truth))
        if np.isnan(errors).all():  # of a study that was not made
            continue
        row: dict[str, Any] = {"rule": name, "sides": int(np.isfinite(errors[:, 0]).sum())}
        everyone = np.arange(len(known))
        columns = {"other traits": held_out_choice(errors, groups, 1)}
        if models > 1:
            columns["other models"] = held_out_choice(errors, groups, 0)
        kinds = {kind: errors[everyone, column] for kind, column in columns.items()}
        kinds["other prompts"] = on_other_prompts(known, RULES[name], CHOICES[name], columns)
        if (published := PUBLISHED.get(name)) is not None:
            fixed = np.array([[RULES[name](each.curves, published)] for each in known])
            fixed = np.clip(fixed, 1e-3, np.array([[each.end] for each in known]))
            kinds["published"] = np.abs(np.log(fixed / truth))[:, 0]
        for kind, values in kinds.items():
            over = of_clusters(values, clusters)
            row |= {kind: np.nanmean(values)}
            row |= {f"{kind}, low": over.low, f"{kind}, high": over.high}
        chosen = said[name][everyone, columns["other traits"]]
        row["in norms"] = float(np.nanmean(np.abs(chosen - truth[:, 0])))
        # A rule that sees no ceiling says the end of the range.
        ends = np.array([each.end for each in known])
        row["sees none"] = float((chosen >= ends)[np.isfinite(chosen)].mean())
        row["each"] = kinds["other traits"]
        row["said"] = chosen
        rows.append(row)
    return pd.DataFrame(rows)


def on_other_prompts(
    known: Sequence[Truth],
    rule: Rule,
    thresholds: Floats,
    columns: Mapping[str, NDArray[np.int64]],
) -> Floats:
    """|log| of what a rule says of half of the prompts, at the other traits' threshold, by the true
    ceiling of the other half: (sides,), NaN where that half has none. Here the noise of the prompts
    counts, as it does for whoever steers on prompts of their own. (What a rule reads beside the
    texts, such as a KL, comes from prompts of its own and stays.)"""
    errors = np.full(len(known), np.nan)
    for place, (each, column) in enumerate(zip(known, columns["other traits"], strict=True)):
        prompts = np.random.default_rng(0).permutation(len(each.curves.texts["coherence"]))
        first, second = np.array_split(prompts, 2)
        truth = truth_of(each.curves.of_prompts(second.tolist()))
        if np.isfinite(truth) and truth > 0:
            said = rule(each.curves.of_prompts(first.tolist()), float(thresholds[column]))
            errors[place] = abs(np.log(np.clip(said, 1e-3, each.end) / truth))
    return errors


def each_side(table: pd.DataFrame, known: Sequence[Truth]) -> pd.DataFrame:
    """What every rule says of every side, at the other traits' threshold, beside the truth."""
    about = pd.DataFrame(
        {
            "model": [each.model for each in known],
            "trait": [each.trait for each in known],
            "method": [each.method for each in known],
            "layer": [each.sweep["layer"].iloc[0] for each in known],
            "seed": [each.sweep["seed"].iloc[0] for each in known],
            "sign": [each.sign for each in known],
            "true": [each.ceiling for each in known],
        }
    )
    return pd.concat(
        [about.assign(rule=row["rule"], predicted=row["said"]) for _, row in table.iterrows()],
        ignore_index=True,
    )
