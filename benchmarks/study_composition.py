"""Composed properties on wren, judged exactly: language with formality, and with refusal.

    python benchmarks/study_composition.py [--quick] [--check N] [--seeds 1 2 3 4 5]

Parts are kept in the cache until all are done (keeping.py). `--quick`: one seed of formality, no
table is saved. `--check N` measures N parts again, so that code which changed no number need not
be paid for twice. Seed 0 chose what shows a property (instructions or examples) and the strengths;
those of the tables chose nothing. Queries that judge have lines that made no delta. Tables,
`study_composition_…_wren`:

texts    a row per text: seed, second (the property beside language), language_of (the target),
         value (of the second property), source, form ("per step", "averaged"; "none": prompts),
         schedule, level, label, prompt, tokens, kl (nats a token), coefficients' means, language,
         property and both (shown, exactly), coherence, whole, words, surprise (nats a token, to
         the unsteered model behind an instruction that asks for both)
choices  the same of seed 0, per step: means over texts of every setting, and of some for deltas
         of in-context examples
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import composition_cases as cases
import pandas as pd
from keeping import Again, Keeper, published, smaller

from workbench import load
from workbench.composition.blocks import Setting
from workbench.composition.queries import Source
from workbench.loading.models import LM
from workbench.studies import composition_findings as findings

SEEDS = (1, 2, 3, 4, 5)
CHOSEN: Source = "instructions"
NAMES = ("texts", "choices")
# Sums in another order; an integer may be a float in the whole table.
TOLERANCE = {"check_dtype": False, "rtol": 1e-3, "atol": 1e-4}
CODE = (
    "composition.answers", "composition.blocks", "composition.checks", "composition.compose",
    "composition.deltas", "composition.in_context", "composition.queries",
    "composition.schedules", "forward.caching", "forward.decoding", "forward.reading",
    "forward.steering", "forward.streams", "forward.tracing", "forward.visits",
    "generation.generate", "generation.sampling", "generation.scoring", "interventions.updates",
    "loading.projections", "statistics.distributions", "text.positions", "text.tokens",
    "wren.asking", "wren.automaton", "wren.frames", "wren.grammar", "wren.judge", "wren.lexicon",
    "wren.matcher", "wren.parser", "wren.planning", "wren.requests", "wren.speaker",
    "wren.traits",
)  # fmt: skip


def run(lm: LM, seeds: Sequence[int], seconds: Sequence[str]) -> pd.DataFrame:
    """The texts of seeds."""
    keeper = keeper_of(lm, seeds)
    parts = [
        keeper.parts(
            f"{second}-{seed}",
            ["texts"],
            lambda seed=seed, second=second: [
                cases.texts(lm, second, seed, CHOSEN, cases.settings())
            ],
        )[0]
        for seed, second in product(seeds, seconds)
    ]
    return smaller(pd.concat(parts, ignore_index=True))


def choices(lm: LM, seeds: Sequence[int]) -> pd.DataFrame:
    """What seed 0 chose by."""
    keeper, parts = keeper_of(lm, seeds), []
    ways: dict[Source, list[Setting]] = {
        CHOSEN: cases.settings(),
        "examples": cases.some(cases.settings()),
    }
    for second, source in product(cases.SECONDS, ways):
        parts += keeper.parts(
            f"choices-{second}-{source}",
            ["choices"],
            lambda second=second, source=source: [
                cases.texts(lm, second, 0, source, ways[source], beside=False)
            ],
        )
    keys = ["second", "source", "schedule", "level", "label"]
    what = ["both", "language", "property", "coherence", "whole", "kl"]
    means = pd.concat(parts).groupby(keys, sort=False)[what].mean().reset_index()
    return smaller(means)


def check(lm: LM, directory: Path, count: int) -> None:
    """Measure so many parts again and, if none differs, stamp the tables as those of today's code.
    Raises ValueError for tables of other weights and a part that differs."""
    names = [f"study_composition_{name}_wren" for name in NAMES]
    found = published(names, directory, lm)
    seeds = found[names[0]].attrs["settings"]["seeds"]
    parts = {f"{second} {seed}": (second, seed) for second, seed in product(cases.SECONDS, seeds)}

    def again(name: str) -> Iterator[Again]:
        second, seed = parts[name]
        new = smaller(cases.texts(lm, second, seed, CHOSEN, cases.settings()))
        old = found[names[0]].query(f"second == {second!r} and seed == {seed}")
        yield Again(names[0], new, old, TOLERANCE)

    keeper_of(lm, seeds).check(found, directory, [*parts], count, again)


def keeper_of(lm: LM, seeds: Sequence[int]) -> Keeper:
    """What keeps the study."""
    scripts = (__file__, str(cases.__file__))
    return Keeper("study_composition", lm, CODE, scripts, settings(), tuple(seeds))


def settings() -> dict[str, Any]:
    """What a rerun must share, as JSON values."""
    return {
        "new_tokens": cases.TOKENS,
        "making": cases.MAKING,
        "judging": cases.JUDGING,
        "source": CHOSEN,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Composed properties on wren.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 1 to 5")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    told = "measure N parts again and, if they are the same, stamp the tables"
    parser.add_argument("--check", type=int, metavar="N", help=told)
    parser.add_argument("--quick", action="store_true", help="one seed of formality, no table")
    args = parser.parse_args(argv)
    lm = load("wren")
    if args.quick:
        print("quick: formality of one seed; no table is saved")
        said(run(lm, SEEDS[:1], cases.SECONDS[:1]))
        return
    if args.check:
        check(lm, args.directory, args.check)
        return
    tables = {name: f"study_composition_{name}_wren" for name in NAMES}
    keeper = keeper_of(lm, args.seeds)
    if keeper.stand([*tables.values()], args.directory):
        print("study_composition: up to date")
        return
    texts = run(lm, args.seeds, cases.SECONDS)
    chosen = choices(lm, args.seeds)
    keeper.save({tables["texts"]: texts, tables["choices"]: chosen}, args.directory)
    said(texts)


def said(texts: pd.DataFrame) -> None:
    """Print what came of it."""
    with pd.option_context("display.width", 250, "display.max_rows", 400):
        print(findings.curves(texts).round(3).to_string())
        print(findings.verdict(texts))


if __name__ == "__main__":
    main()
