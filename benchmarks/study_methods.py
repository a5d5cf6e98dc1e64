"""Ways of steering side by side on wren, where trait and coherence of every text are exact.

    python benchmarks/study_methods.py [--seeds 0 1 2 3 4] [--directory reports]

Unsteered, asked for the trait in the prompt, difference of means (a vector), and SFT, RePS and
SPLIT, each as vector, LoRA and local weight (ways.py): traits x seeds. A way's settings are chosen
once a trait, by as many trials for every way, on a draw that no seed uses: the trial is kept whose
best coefficient has the highest mean harmonic mean of trait and coherence, of equals the one that
is higher over all coefficients. The coefficient is chosen for every seed anew, on prompts that do
not report.

Finished parts are kept in the cache, so that a stopped study goes on where it was; where the tables
in the directory are of today's code, weights and settings, nothing is run. `--check N` measures N
cases again, so that code which changed no number need not be paid for twice. Two tables:

study_methods_texts   one row per report text: trait, seed, method, form, rule, m, unit,
                      prompt_index, shown (exact score of the trait, -1 to 1; NaN where the text
                      shows it neither way), coherence (0 to 1). rule: "recommended", the
                      detector's coefficient, which knows nothing of coherence; "best", that of the
                      highest mean harmonic mean on the prompts that choose. m is 0 where the
                      detector recommends none.
study_methods_trials  one row per trial: trait, method, form, settings, coefficients and their mean
                      harmonic means, the best of these and their mean, CPU seconds, whether it
                      was chosen
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import ways
from keeping import Again, Keeper, published  # puts the checkout on the path
from ways import PROMPTING, TUNING, WAYS, Settings, Way, draw, make

from workbench import find_ceiling, judges, load, sweep
from workbench.loading.models import LM
from workbench.statistics.harmonic import scored
from workbench.vectors.steerable import Steerable

TRAITS = ("power", "callous", "mood", "formality")
SEEDS = (0, 1, 2, 3, 4)
TUNED, NEW_TOKENS = 12, 48  # prompts of a trial; tokens of a text
TABLES = ("study_methods_texts", "study_methods_trials")
CODE = (
    "extraction.extract", "extraction.methods", "forward.decoding", "forward.reading",
    "forward.steering", "forward.tracing", "generation.generate", "generation.measures",
    "generation.sampling", "generation.scoring", "interventions.updates",
    "interventions.weight_updates", "judges.exact", "statistics.crossings",
    "statistics.distributions", "statistics.drift", "statistics.effects", "statistics.harmonic",
    "sweeps.breakage", "sweeps.ceiling", "sweeps.movement", "sweeps.running", "sweeps.sweep",
    "text.positions", "text.tokens", "training.examples", "training.fitting",
    "training.minibatch", "training.objectives", "training.train", "training.trainable",
    "vectors.controls", "vectors.forms", "vectors.steering_vector", "wren.contrast", "wren.judge",
)  # fmt: skip

Rows = list[dict[str, Any]]


def texts(
    lm: LM, way: Way, steered: Steerable, where: Sequence[float], seed: int, **how: Any
) -> pd.DataFrame:
    """A sweep, with `m`, the coefficient as it was asked for, and the columns of `scored`."""
    frame = sweep(
        lm,
        steered,
        coefficients=where,
        unit=way.unit,
        new_tokens=NEW_TOKENS,
        temperature=1.0,
        seed=seed,
        judges=[judges.exact],
        kl=False,
        progress=False,
        **how,
    )
    m = frame["coefficient_norm" if way.unit == "norm" else "coefficient"]
    return scored(frame.assign(m=m.fillna(0.0), shown=frame["trait"]))


def own(frame: pd.DataFrame, way: Way) -> pd.DataFrame:
    """The texts that are a way's: of prompting those of the prompts that ask."""
    return frame[frame["vector"] == ("prompted" if way == PROMPTING else "vector")]


def trials(lm: LM, trait: str, way: Way) -> Rows:
    """The trials of a way."""
    given, found = draw(trait, TUNING), []
    for settings in way.trials:
        began = time.process_time()
        steered = make(lm, way, settings, given.pairs, TUNING)
        frame = texts(
            lm,
            way,
            steered,
            way.coefficients,
            TUNING,
            trait=trait,
            prompts=given.choosing[:TUNED],
            prompted=_asking(given, way, settings)[0][:TUNED],
        )
        means = own(frame, way).groupby("m")["harmonic"].mean()
        found.append(
            {
                "trait": trait,
                "method": way.method,
                "form": way.form,
                "settings": json.dumps(settings),
                "coefficients": json.dumps(means.index.tolist()),
                "harmonic": json.dumps(means.round(4).tolist()),
                "best": float(means.max()),
                "mean": float(means.mean()),
                "seconds": round(time.process_time() - began, 1),
            }
        )
    return found


def case(lm: LM, trait: str, way: Way, seed: int, settings: Settings) -> Rows:
    """The report texts of a way, by both rules; those of m = 0 are the unsteered ones."""
    given = draw(trait, seed)
    choosing, reporting = _asking(given, way, settings)
    steered = make(lm, way, settings, given.pairs, seed)
    first = texts(
        lm,
        way,
        steered,
        way.coefficients,
        seed,
        trait=trait,
        prompts=given.choosing,
        prompted=choosing,
    )
    chosen = {
        "recommended": recommended(first) if way.form else 0.0,
        "best": float(own(first, way).groupby("m")["harmonic"].mean().idxmax()),
    }
    frame = texts(
        lm,
        way,
        steered,
        sorted(set(chosen.values())),
        seed,
        trait=trait,
        prompts=given.reporting,
        prompted=reporting,
        apart_from=first,
    )
    about = {"trait": trait, "seed": seed, "method": way.method, "form": way.form}
    columns = ["m", "prompt_index", "shown", "coherence"]
    rows = own(frame, way)[columns].to_dict("records")
    return [
        {**about, "rule": rule, "unit": way.unit, **row}
        for rule, m in chosen.items()
        for row in rows
        if row["m"] == m
    ]


def _asking(given: ways.Draw, way: Way, settings: Settings) -> tuple[Any, Any]:
    """The prompts that ask for the trait, by role; none but of prompting."""
    if way != PROMPTING:
        return (), ()
    return given.asking[settings["place"], settings["times"]]


def recommended(frame: pd.DataFrame) -> float:
    """The detector's coefficient as it was asked for, 0 where it recommends none."""
    found = find_ceiling(frame)[1].recommended.raw.value
    if math.isnan(found):
        return 0.0
    return float(frame.loc[(frame["coefficient"] - found).abs().idxmin(), "m"])


def run(lm: LM, directory: Path, seeds: Sequence[int]) -> None:
    """Both tables."""
    keeper, tried, found = keeper_of(lm, seeds), [], []
    for trait, way in itertools.product(TRAITS, WAYS):
        (tries,) = keeper.parts(
            f"{trait}-{way}", ["trials"], lambda t=trait, w=way: [pd.DataFrame(trials(lm, t, w))]
        )
        # Of equals the one that is higher over all coefficients.
        place = int(
            tries.assign(best=tries["best"].round(6))
            .sort_values(["best", "mean"], ascending=False, kind="stable")
            .index[0]
        )
        tried.append(tries.assign(chosen=tries.index == place))
        for seed in seeds:
            (part,) = keeper.parts(
                f"{trait}-{way}-{place}-{seed}",
                ["texts"],
                lambda t=trait, w=way, s=seed, p=place: [
                    pd.DataFrame(case(lm, t, w, s, w.trials[p]))
                ],
            )
            found.append(part)
    whole = (pd.concat(parts, ignore_index=True) for parts in (found, tried))
    keeper.save(dict(zip(TABLES, whole, strict=True)), directory)


def check(lm: LM, directory: Path, count: int) -> None:
    """Measure so many cases of the tables again and, if none of them differs, stamp the tables as
    those of today's code. Raises ValueError for tables of other weights and a case that differs."""
    found = published(TABLES, directory, lm)
    texts_of, tried = found.values()
    seeds = texts_of.attrs["settings"]["seeds"]

    cases = {f"{t} {w} {s}": (t, w, s) for t, w, s in itertools.product(TRAITS, WAYS, seeds)}

    def again(name: str) -> Iterator[Again]:
        trait, way, seed = cases[name]
        own = f"trait == {trait!r} and method == {way.method!r} and form == {way.form!r}"
        (best,) = tried.query(f"{own} and chosen")["settings"].map(json.loads)
        new = pd.DataFrame(case(lm, trait, way, seed, best))
        yield Again(TABLES[0], new, texts_of.query(f"{own} and seed == {seed}"))

    keeper_of(lm, seeds).check(found, directory, [*cases], count, again)


def keeper_of(lm: LM, seeds: Sequence[int]) -> Keeper:
    """What keeps the study."""
    scripts = (__file__, ways.__file__)
    return Keeper("study_methods", lm, CODE, scripts, settings(), tuple(seeds))


def settings() -> dict[str, Any]:
    """What a rerun must share, as JSON values."""
    return {
        "traits": list(TRAITS),
        "pairs": ways.PAIRS,
        "prompts": {"trial": TUNED, "choosing": ways.CHOOSING, "reporting": ways.REPORTING},
        "new_tokens": NEW_TOKENS,
        "shares": list(ways.SHARES),
        "untrained": ways.UNTRAINED,
        "trials": {method: [dict(t) for t in given] for method, given in ways.TRIALS.items()},
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Ways of steering side by side, judged exactly.")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 0 to 4")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    said = "measure N cases again and, if they are the same, stamp the tables"
    parser.add_argument("--check", type=int, metavar="N", help=said)
    args = parser.parse_args(argv)
    lm = load("wren")
    if args.check:
        check(lm, args.directory, args.check)
    elif keeper_of(lm, args.seeds).stand(TABLES, args.directory):
        print("study_methods: up to date")
    else:
        run(lm, args.directory, args.seeds)


if __name__ == "__main__":
    main()
