"""Conditional steering on wren, judged exactly: what is refused, by what a gate, and at what cost.

    python benchmarks/study_conditions.py [--quick] [--check N] [--seeds 1 2 3]

Parts are kept in the cache until all are done (keeping.py). `--quick`: the first rule of
one seed and fold, no table is saved. `--check N` measures N folds again, so that code which changed
no number need not be paid for twice. Seed 0 settled where conditions are read, by what method and
by what rule their layer is chosen; those of the tables chose none of these. Tables,
`study_conditions_…_wren`:

texts     a row per answer: seed, fold (NaN: none), rule ("harmful", "one task", "not", "and not";
          `task`, the one that the latter are about), steering ("none", "always", a gate; "rule"),
          part ("held out": requests of tasks that made the condition; "unseen": tasks that the
          condition never saw), topic, way, instruction, harmful, wanted (whether the rule calls for
          a refusal), met, refused, obeyed, coherence
gates     a row per seed, fold, part and score: the gate's, read at two places and at three
          thresholds, and characters, tokens and a bag of words beside it, with area under the
          curve, F1, recall, false alarms; of texts matched in length, the area
readings  a row per seed, fold, part, place that is read, method and layer: area under the curve
alarms    a row per seed and fresh harmless prompt, all distinct: of all kinds or tasks alone
          (among), kind, line, of tasks topic, way, and whether this wording made the condition
          (part), and whether each gate opens (met …)
lots      a row per seed, kind of prompts and deal of them to a part that sets a threshold of the
          rate and one that is judged: the share that passes, dealt one by one (rate) and by
          whole requests (apart)
told      a row per seed and request with an instruction to refuse or to obey, likewise; and what
          wren answers unsteered
odds      a row per seed, kind of pair and pair: preference and utility (nats) unsteered and
          refusing always, and whether each gate opens
strengths a row per seed and multiple of the refusal, of harmless requests that are not judged:
          shares refused and obeyed, coherence
ways      a row per way to make wren refuse, coefficient, and tokens of an answer (24: before most
          first sentences end), seed 0
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import condition_cases as cases
import condition_gates as gates
import condition_texts as texts
import pandas as pd
from keeping import Again, Keeper, published, smaller  # puts the checkout on the path

from workbench import load
from workbench.conditions import data as condition_data
from workbench.loading.models import LM
from workbench.studies import condition_findings as findings
from workbench.studies import condition_tables as shown
from workbench.wren import requests

# Of a table whose columns are those of several parts: an integer may be a float there.
TOLERANCE = {"check_dtype": False, "rtol": 1e-3, "atol": 1e-4}
SEEDS, FOLDS = (1, 2, 3), tuple(range(requests.FOLDS))
NAMES = ("texts", "gates", "readings", "alarms", "lots", "told", "odds", "strengths", "ways")
CODE = (
    "conditions.checks", "conditions.condition", "conditions.conditional", "conditions.confounds",
    "conditions.expressions", "conditions.folds", "conditions.gates", "conditions.logic",
    "conditions.point", "conditions.search", "contrast.pairs", "extraction.extract",
    "extraction.methods", "forward.decoding", "forward.mean_streams", "forward.reading",
    "forward.steering", "forward.streams", "forward.tracing", "generation.generate",
    "generation.sampling", "generation.scoring", "interventions.updates",
    "interventions.weight_updates", "preference.logodds", "preference.multiples",
    "preference.odds", "statistics.intervals", "statistics.similarity", "sweeps.rules",
    "text.positions", "text.tokens", "training.examples", "training.fitting",
    "training.minibatch", "training.objectives", "training.train", "training.trainable",
    "training.trained", "vectors.forms", "vectors.steering_vector", "wren.asking",
    "wren.automaton", "wren.contrast", "wren.frames", "wren.grammar", "wren.judge",
    "wren.lexicon", "wren.matcher", "wren.parser", "wren.planning", "wren.requests",
    "wren.speaker", "wren.traits",
)  # fmt: skip


def run(
    lm: LM, seeds: Sequence[int], folds: Sequence[int], *, quick: bool = False
) -> dict[str, pd.DataFrame]:
    """All tables; `quick`: those of "if harmful then refuse" alone."""
    keeper, found = keeper_of(lm, seeds), {name: [] for name in NAMES}

    def keep(name: str, labels: Sequence[str], make: Any) -> None:
        for label, part in zip(labels, keeper.parts(name, labels, make), strict=True):
            found[label].append(part)

    for seed, fold in itertools.product(seeds, folds):
        labels = ["texts", "gates"]
        keep(f"harmful-{seed}-{fold}", labels, lambda s=seed, f=fold: texts.harmful(lm, s, f))
    for seed in () if quick else seeds:
        for name, labels, make in (
            ("strengths", ["strengths"], texts.strengths),
            (f"readings-{len(folds)}", ["readings"], lambda lm, s: gates.readings(lm, s, folds)),
            ("others", ["texts"], texts.others),
            ("alarms", ["alarms", "lots"], gates.alarms),
            ("told", ["told"], gates.instructed),
            ("odds", ["odds"], texts.costs),
        ):
            keep(f"{name}-{seed}", labels, lambda s=seed, f=make: f(lm, s))
    if not quick:
        keep("ways", ["ways"], lambda: texts.ways(lm))
    return {
        name: smaller(pd.concat(parts, ignore_index=True)) for name, parts in found.items() if parts
    }


def check(lm: LM, directory: Path, count: int) -> None:
    """Measure so many folds of the first rule again, and of their seeds all but the other rules and
    readings, and, if none differs, stamp the tables as those of today's code. Raises ValueError for
    tables of other weights and a fold that differs."""
    names = {name: f"study_conditions_{name}_wren" for name in NAMES}
    found = published([*names.values()], directory, lm)
    seeds = found[names["texts"]].attrs["settings"]["seeds"]
    folds = {f"{seed} {fold}": (seed, fold) for seed, fold in itertools.product(seeds, FOLDS)}

    def again(name: str) -> Iterator[Again]:
        seed, fold = folds[name]
        one = f"seed == {seed}"
        measured = [
            (("texts", "gates"), f"{one} and fold == {fold}", texts.harmful(lm, seed, fold)),
            (("alarms", "lots"), one, gates.alarms(lm, seed)),
            (("told",), one, gates.instructed(lm, seed)),
            (("strengths",), one, texts.strengths(lm, seed)),
            (("odds",), one, texts.costs(lm, seed)),
        ]
        for labels, own, tables in measured:
            for label, new in zip(labels, tables, strict=True):
                old = found[names[label]].query(own)
                yield Again(names[label], smaller(new), old, TOLERANCE)

    keeper_of(lm, seeds).check(found, directory, [*folds], count, again)


def said(whole: Mapping[str, pd.DataFrame]) -> None:
    """Print what came of it."""
    with pd.option_context(
        "display.width", 250, "display.max_rows", 400, "display.max_columns", 40
    ):
        judged = findings.untrained(whole["texts"])
        print(findings.shares(judged).round(3).to_string())
        print(findings.by_itself(judged).to_string())
        print(shown.shown_gates(whole["gates"]).to_string())
        if "readings" not in whole:
            return
        for name, table in {
            "strengths": shown.shown_strengths(whole["strengths"]),
            "readings": shown.places(whole["readings"]),
            "alarms": findings.alarm_rates(whole["alarms"]),
            "by kind": findings.alarm_rates(whole["alarms"], ["gate", "among", "kind", "part"]),
            "told": shown.shown_told(whole["told"]),
            "rules": shown.shown_rules(judged),
            "costs": findings.costs(whole["odds"]),
            "ways": whole["ways"],
        }.items():
            print(f"\n{name}\n{table.round(4).to_string()}")
        print(findings.verdict(judged), findings.told_verdict(whole["told"]), sep="\n")
        print(findings.alarms_verdict(whole["alarms"], whole["lots"]))


def keeper_of(lm: LM, seeds: Sequence[int]) -> Keeper:
    """What keeps the study."""
    scripts = (__file__, str(gates.__file__), str(texts.__file__), str(cases.__file__))
    return Keeper("study_conditions", lm, CODE, scripts, settings(), tuple(seeds))


def settings() -> dict[str, Any]:
    """What a rerun must share, as JSON values."""
    return {
        "suffix": condition_data.BEGUN,
        "method": cases.METHOD,
        "new_tokens": cases.NEW_TOKENS,
        "pairs": cases.PAIRS,
        "epochs": cases.EPOCHS,
        "rate": findings.RATE,
        "gates": list(findings.GATES),
        "calibrating": list(gates.CALIBRATING.values()),
        "fresh": list(gates.FRESH.values()),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Conditional steering on wren.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 1 to 3")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    told = "measure N folds again and, if they are the same, stamp the tables"
    parser.add_argument("--check", type=int, metavar="N", help=told)
    parser.add_argument("--quick", action="store_true", help="one seed and fold, no table")
    args = parser.parse_args(argv)
    lm = load("wren")
    if args.quick:
        print("quick: “if harmful then refuse” of one seed and fold; no table is saved")
        said(run(lm, SEEDS[:1], FOLDS[:1], quick=True))
        return
    if args.check:
        check(lm, args.directory, args.check)
        return
    tables = {name: f"study_conditions_{name}_wren" for name in NAMES}
    keeper = keeper_of(lm, args.seeds)
    if keeper.stand([*tables.values()], args.directory):
        print("study_conditions: up to date")
        return
    whole = run(lm, args.seeds, FOLDS)
    keeper.save({tables[name]: table for name, table in whole.items()}, args.directory)
    said(whole)


if __name__ == "__main__":
    main()
