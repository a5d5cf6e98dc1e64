"""Preference and utility over the coefficient, for every form of steering, and how well laws fit.

    python benchmarks/study_laws.py [MODEL] [--seed 0] [--directory reports] [--check N]

Traits x layers x forms (difference of means; vector, LoRA and local weight trained by SPLIT). Each
case is steered at 33 coefficients, to one and a half of its own *true ceilings* on either side:
where, by the exact coherence of sampled texts, half of the texts are lost. Coefficients of all
forms are in residual norms (`vectors/relative_size.py`). No pair that is measured made what steers.
Finished cases are kept in the cache, so that a stopped study goes on where it was. `--check N`
measures and fits N cases again, so that code which changed no number need not be paid for. Tables:

study_laws_cases    one row per case: its ceilings, its size, what training gave
study_laws_curves   one row per (case, pair, m): the log-odds, as `workbench.odds` gives them
study_laws          one row per (case, kind, law): fits in place, on held-out pairs, beyond the
                    range, as `workbench.preference.law_comparison.compare` gives them
study_laws_pairs    one row per (case, kind, dealing, pairs): R^2 of one mean curve for another
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import law_cases
import numpy as np
import pandas as pd
from keeping import Again, Keeper, published, smaller  # puts the checkout on the path
from law_cases import MEASURED, TRAITS, Case, cases, measure, of_case, settings

from workbench import load
from workbench.contrast import pairs
from workbench.loading.models import LM
from workbench.preference import law_comparison
from workbench.preference.law_quantities import curves
from workbench.preference.law_sampling import DEALINGS, halves, lengths, no_law, spread
from workbench.preference.law_shapes import KINDS

# Halvings of the pairs, random curves, pairs with a fit of their own.
FITS = {"splits": 16, "random": 5, "singles": 12}
SIZES, DEALT = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96), 100
FITTED = tuple(
    f"preference.{name}"
    for name in ("law_comparison", "law_quantities", "law_sampling", "law_shapes", "laws")
)
KEPT = [
    "pair",
    "m",
    "ceilings",
    "preference",
    "utility",
    "likelihood",
    "unrelated",
    "tokens_positive",
    "tokens_negative",
]
SCRIPTS = (law_cases.__file__, __file__)  # what measures, and what fits
TABLES = ("study_laws_cases", "study_laws_curves", "study_laws", "study_laws_pairs")


def by_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """R^2 of one mean curve for another, without a law, by pairs on a side; and what the spread of
    the pairs lets expect."""
    rows = []
    tokens = lengths(frame)
    for kind in KINDS:
        _, table = curves(frame, kind)
        known = spread(table, tokens)
        for dealing in DEALINGS:
            for count in (each for each in SIZES if 2 * each <= len(table)):
                dealt = halves(tokens, DEALT, dealing=dealing, size=count, seed=count)
                found = no_law(table, dealt)
                rows.append(
                    {
                        "kind": kind,
                        "dealing": dealing,
                        "pairs": count,
                        "r2": float(np.median(found)),
                        "expected": known.expected(count, dealing),
                        "needed": known.needed(0.97, dealing),
                        **asdict(known),
                    }
                )
    return pd.DataFrame(rows)


def compared(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every law on the pairs of the data set, half of which are held out; each case has halvings of
    its own."""
    return law_comparison.compare(frame, dealings=DEALINGS, seed=seed, **FITS)


def run(lm: LM, directory: Path, seed: int) -> None:
    """All tables: first every case is measured, then its curves are fitted."""
    splits, todo = dealt(seed), [*cases(lm.layers, seed)]
    known = [
        Keeper("study_laws", lm, MEASURED, SCRIPTS[:1], of_case(case, lm.layers)).parts(
            str(case),
            ("case", "curves"),
            lambda case=case: case_of(lm, case, splits),
            place=f"{number}/{len(todo)}",
        )
        for number, case in enumerate(todo, 1)
    ]
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for number, (case, (about, frame)) in enumerate(zip(todo, known, strict=True), 1):
        decided = {**of_case(case, lm.layers), **FITS}
        keeper = Keeper("study_laws", lm, (*MEASURED, *FITTED), SCRIPTS, decided)
        fitted = keeper.parts(
            str(case),
            ("laws", "pairs"),
            lambda f=frame, c=case, n=number: fits_of(f, splits[c.trait], n),
            place=f"{number}/{len(todo)} fitted",
        )
        for name, part in zip(TABLES, (about, frame, *fitted), strict=True):
            found[name].append(part.assign(**vars(case))[[*vars(case), *part.columns]])
    tables = {name: smaller(pd.concat(parts, ignore_index=True)) for name, parts in found.items()}
    keeper_of(lm, seed).save(tables, directory)


def check(lm: LM, directory: Path, seed: int, count: int) -> None:
    """Measure and fit so many cases of the tables again and, if they are the same, stamp the tables
    as those of today's code. Raises ValueError for tables of other weights and for a case that
    differs by more than rounding (fits: by a thousandth of an R^2)."""
    found, splits = published(TABLES, directory, lm), dealt(seed)
    todo = [*cases(lm.layers, seed)]

    def again(case: Case) -> Iterator[Again]:
        about, frame = case_of(lm, case, splits)
        fitted = fits_of(frame, splits[case.trait], todo.index(case) + 1)
        for name, new in zip(TABLES, (about, frame, *fitted), strict=True):
            rows = (found[name][list(vars(case))] == pd.Series(vars(case))).all(axis=1)
            apart = {"rtol": 1e-4, "atol": 1e-3 if name in TABLES[2:] else 1e-4}
            yield Again(name, bounded(smaller(new)), bounded(found[name][rows]), apart)

    keeper_of(lm, seed).check(found, directory, todo, count, again)


def bounded(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose laws beyond the range, where they miss by more than tenfold, miss by ten: by
    how much more hangs on the last digit of what they were fitted to."""
    if "extrapolated" not in table:
        return table
    far = table["extrapolated"] < -10
    return table.assign(
        extrapolated=table["extrapolated"].clip(lower=-10),
        error_outside=table["error_outside"].mask(far),
    )


def dealt(seed: int) -> dict[str, pairs.Splits]:
    """The pairs of every trait, by role."""
    return {trait: pairs.load(f"wren-{trait}").split(seed=seed) for trait in TRAITS}


def case_of(
    lm: LM, case: Case, splits: Mapping[str, pairs.Splits]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is known of a case, and its curves."""
    other = splits[TRAITS[TRAITS.index(case.trait) - 1]].select
    frame, known = measure(lm, case, splits[case.trait], other, lm.layers)
    return pd.DataFrame([known]), frame[KEPT]


def fits_of(
    frame: pd.DataFrame, parts: pairs.Splits, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The laws of a case, on the pairs of the data set, and what pairs say of one another."""
    own = frame[frame["pair"] < len(parts.select) + len(parts.report)]
    return compared(own, seed), by_pairs(frame)


def keeper_of(lm: LM, seed: int) -> Keeper:
    """What stamps the tables."""
    decided = {**settings(seed), **FITS}
    return Keeper("study_laws", lm, (*MEASURED, *FITTED), SCRIPTS, decided, (seed,))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How well laws fit, for every form of steering.")
    parser.add_argument("model", nargs="?", default="wren")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    said = "measure N cases again and, if they are the same, stamp the tables"
    parser.add_argument("--check", type=int, metavar="N", help=said)
    args = parser.parse_args(argv)
    lm = load(args.model)
    if args.check:
        check(lm, args.directory, args.seed, args.check)
    elif keeper_of(lm, args.seed).stand(TABLES, args.directory):
        print("study_laws: up to date")
    else:
        run(lm, args.directory, args.seed)


if __name__ == "__main__":
    main()
