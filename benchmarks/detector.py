"""How well rules find the ceiling, on sweeps whose every text has its exact coherence.

    python benchmarks/detector.py [--quick] [--directory reports]

Reads the tables of study_ceilings.py and, where they are, of study_odds.py. The *true ceiling* of
one side of a sweep is where the share of texts that hold (coherence of at least a half), among the
prompts whose unsteered text holds, falls below a half: made to fall by isotonic regression,
interpolated between coefficients. Its noise floor is how far it moves when prompts are resampled.

Each rule is judged with its authors' threshold and with the best one of the *other* traits (and,
where several models are there, of the other models): never with one that saw the sweeps it is
judged on. Intervals are over traits, as sweeps of one trait are not
independent, in whatever model.
What `find_ceiling` says beside the ceiling is in answers.py. `--quick` takes every sixth sweep and
cuts the prompts in two once; it saves no table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timing  # puts the checkout on the path
from answers import (
    HALVINGS,
    Known,
    breaking,
    cluster_interval,
    coverage,
    effects,
    no_collapse,
)
from detectors import CHOICES, PUBLISHED, RIVALS, RULES, Curves, Rule, sought
from numpy.typing import NDArray
from recommendations import recommended
from studies import ABOUT, CONTROLS
from timing import at_least, at_most

from workbench import tables
from workbench.intervals import Floats
from workbench.judges import HOLDS
from workbench.study import true_ceiling

SHIPPED = "share intact"
RESAMPLES = 200
TOLERANCE = 0.2  # the default of `workbench.seek`

TARGETS = {
    "error_of_best_rival": at_most(0.5),
    "difference_low": at_least(0),
    "models": at_least(3),
    "apart_below_half": at_most(0.1),
    "captured": at_least(0.9),
    "covered": at_least(0.9),
    "no_collapse_short": at_least(0.95),
    "no_effect": at_least(0.95),
    "sought_share_of_texts": at_most(0.5),
    "sought_error_more_high": at_most(0.005),
}


@dataclass(frozen=True, eq=False)
class Truth:
    """One side of one sweep, and where its texts really fall apart (infinite: nowhere)."""

    model: str
    trait: str
    method: str
    sweep: pd.DataFrame
    sign: int
    curves: Curves
    ceiling: float
    floor: float

    @property
    def end(self) -> float:
        """The largest coefficient that was swept."""
        return float(self.curves.grid[-1])


def truth_of(curves: Curves) -> float:
    """The true ceiling of one side of a sweep."""
    return true_ceiling(curves.grid, curves.texts["coherence"] >= HOLDS)


def noise_floor(curves: Curves, ceiling: float, rng: np.random.Generator) -> float:
    """Mean |log| of the ceiling over that of resampled prompts, those without one left out."""
    prompts = len(curves.texts["coherence"])
    drawn = np.array(
        [
            truth_of(curves.of_prompts(rng.integers(prompts, size=prompts).tolist()))
            for _ in range(RESAMPLES)
        ]
    )
    known = drawn[np.isfinite(drawn) & (drawn > 0)]
    return float(np.abs(np.log(known / ceiling)).mean()) if len(known) else float("nan")


def sides(directory: Path, step: int = 1) -> Iterator[Truth]:
    """Both sides of every sweep, or every so manieth, of every model that was studied."""
    rng = np.random.default_rng(0)
    for path in sorted((directory / "tables").glob("study_ceilings_*.parquet")):
        model = path.stem.removeprefix("study_ceilings_")
        texts = tables.load_table(path.stem, directory=directory)
        rivals = tables.load_table(f"study_rivals_{model}", directory=directory)
        beside = dict(iter(rivals.groupby("sweep")))
        halves = half_lives(model, directory)
        texts.attrs = rivals.attrs = {}  # pandas copies them at every step
        for number, sweep in list(texts.groupby("sweep"))[::step]:
            for sign in (1, -1):
                curves = Curves.of(sweep, beside[number], sign, halves.get(case_of(sweep)))
                ceiling = truth_of(curves)
                floor = noise_floor(curves, ceiling, rng) if np.isfinite(ceiling) else np.nan
                first = sweep.iloc[0]
                about = (model, first["trait"], first["method"], sweep, sign)
                yield Truth(*about, curves, ceiling, floor)


def half_lives(model: str, directory: Path) -> dict[tuple[Any, ...], pd.DataFrame]:
    """The half-lives of every case that study_odds.py studied."""
    name = f"study_halves_{model}"
    if name not in tables.table_names(directory):
        return {}
    table = tables.load_table(name, directory=directory)
    return {case_of(part): part for _, part in table.groupby("sweep")}


def case_of(table: pd.DataFrame) -> tuple[Any, ...]:
    """What the first row says of its case."""
    return tuple(table.iloc[0][ABOUT])


# ---- errors -------------------------------------------------------------------------------------


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
            _, low, high = cluster_interval(values, clusters)
            row |= {kind: np.nanmean(values), f"{kind}, low": low, f"{kind}, high": high}
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


def ahead(table: pd.DataFrame, known: Sequence[Truth]) -> Mapping[str, Any]:
    """The rule of `find_ceiling`, which is settled beforehand, against the best rival, which is
    chosen by the very errors, of those that were asked about every side: so the comparison leans
    the rival's way. Its interval is Student's
    over traits."""
    clusters = [each.trait for each in known]
    ours = table[table["rule"] == SHIPPED].iloc[0]
    heard = table["rule"].isin(list(RIVALS)) & (table["sides"] == len(known))
    rival = table[heard].sort_values("other traits").iloc[0]
    gap, low, high = cluster_interval(rival["each"] - ours["each"], clusters)
    return {
        "ours": SHIPPED,
        "rival": rival["rule"],
        "error": ours["other traits"],
        "error_of_best_rival": ours["other traits"] / rival["other traits"],
        "difference": gap,
        "difference_low": low,
        "difference_high": high,
    }


def cost(known: Sequence[Truth]) -> dict[str, Any]:
    """What `workbench.seek` writes and errs beside the whole grid, of the rule of `find_ceiling`.

    Its texts are those of the grid's points next to what it asks for: so it can do no better than
    the grid. The unsteered texts count once for both signs.
    """
    rise = PUBLISHED[SHIPPED]
    assert rise is not None
    rows = []
    for each in known:
        found, count = sought(each.curves, rise, TOLERANCE)
        whole = RULES[SHIPPED](each.curves, rise)
        said = np.clip([found, whole], 1e-3, each.end)
        rows.append((*np.abs(np.log(said / each.ceiling)), count + 0.5))
    search, grid, texts = np.array(rows).T
    more = cluster_interval(search - grid, [each.trait for each in known])
    per_side = np.mean([len(each.curves.grid) - 0.5 for each in known])
    return {
        "sought_share_of_texts": texts.mean() / per_side,
        "sought_error": search.mean(),
        "grid_error": grid.mean(),
        "sought_error_more": more[0],
        "sought_error_more_low": more[1],
        "sought_error_more_high": more[2],
    }


def answers(every: Sequence[Truth], quick: bool) -> dict[str, Any]:
    """Intervals, non-answers, recommendations and break points, see answers.py."""
    sweeps: dict[int, list[Truth]] = {}
    for each in every:
        sweeps.setdefault(id(each.sweep), []).append(each)
    known = [
        Known(
            sides[0].model,
            sides[0].trait,
            sides[0].method,
            sides[0].sweep,
            {each.sign: each.ceiling for each in sides},
        )
        for sides in sweeps.values()
    ]
    made = [each for each in known if each.method not in CONTROLS]
    dealt = [each for each in known if each.method in CONTROLS]
    halvings = 1 if quick else HALVINGS
    return {
        **coverage(made, halvings),
        **no_collapse(made),
        **effects(made, dealt),
        **recommended(made, halvings),
        **breaking(made),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = timing.parser("How well rules find the ceiling.")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    studied = list(sides(args.directory, 6 if args.quick else 1))
    every = [each for each in studied if each.method not in CONTROLS]
    known = [each for each in every if np.isfinite(each.ceiling) and each.ceiling > 0]
    if not known:
        print("no study tables: run `python benchmarks/study_ceilings.py` first")
        return 1
    table = compare(known)
    shown = table.drop(columns=["each", "said"])
    timing.show("mean |log(predicted / true ceiling)|", list(shown), shown.values.tolist())
    figures: dict[str, Any] = {
        "sides": len(every),
        "without_ceiling": len(every) - len(known),
        "models": len({each.model for each in known}),
        "noise_floor": float(np.nanmean([each.floor for each in known])),
        **ahead(table, known),
        **cost(known),
        **answers(studied, args.quick),
    }
    if not args.quick:
        tables.save_table(shown, "detectors", directory=args.directory, provenance=figures)
        sides_table = each_side(table, known).round(4)
        tables.save_table(sides_table, "detector_sides", directory=args.directory, compact=True)
    return timing.finish("detector", figures, TARGETS, {"quick": args.quick})


if __name__ == "__main__":
    sys.exit(main())
