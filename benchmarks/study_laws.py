"""Preference and utility over the coefficient, for every form of steering, and how well laws fit.

    python benchmarks/study_laws.py [MODEL] [--seed 0] [--directory reports]

Traits x layers x forms (difference of means; vector, LoRA and local weight trained by SPLIT). Each
case is steered at 33 coefficients, to one and a half of its own *true ceilings* on either side:
where, by the exact coherence of sampled texts, half of the texts are lost. Coefficients of all
forms are in residual norms: the mean length, over the tokens of texts, of what is added to the
stream after the layer, by the median length of that stream. No pair that is measured made what
steers. Finished cases are kept in the cache, so that a stopped study goes on where it was. Tables:

study_laws_cases    one row per case: its ceilings, its size, what training gave
study_laws_curves   one row per (case, pair, m): the log-odds, as `workbench.odds` gives them
study_laws          one row per (case, kind, law): fits in place, on held-out pairs, beyond the
                    range, as `workbench.law_comparison.compare` gives them
study_laws_pairs    one row per (case, kind, dealing, pairs): R^2 of one mean curve for another
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import torch

from workbench import extract, generate, judges, law_comparison, load, odds, pairs, positions, train
from workbench.judges import HOLDS
from workbench.law_quantities import curves
from workbench.law_sampling import DEALINGS, halves, lengths, no_law, spread
from workbench.law_shapes import KINDS
from workbench.models import LM
from workbench.pairs import Pairs, Splits
from workbench.reading import residual_norms
from workbench.splits import require_disjoint
from workbench.store import cache_directory, write_atomically
from workbench.study import true_ceiling
from workbench.tables import code_fingerprint, save_table, to_json
from workbench.tokens import encode
from workbench.tracing import read
from workbench.trained import Trained, loss_history
from workbench.updates import Intervention
from workbench.vectors import SteeringVector
from workbench.wren.contrast import trait_pairs

TRAITS = ("power", "mood", "formality", "verbosity")
FORMS = ("mean_difference", "vector", "lora", "local_weight")
# Coefficients of the sweep that finds the ceilings, in residual norms, of either sign.
SIDE = np.geomspace(0.1, 3.2, 11)
PROMPTS, NEW_TOKENS = 16, 48
# Shares of the true ceilings, on either side, at which log-odds are measured.
SHARES = np.linspace(-1.5, 1.5, 33)
UNRELATED = 4  # texts of another trait
MEMORY = 1 << 25  # bytes of logits at once: few enough for a processor's caches
# Of training by SPLIT, beside its defaults.
TRAINING: dict[str, dict[str, Any]] = {
    "vector": {"epochs": 1, "batch": 4, "learning_rate": 0.3},
    "lora": {"epochs": 1, "batch": 4, "learning_rate": 0.03},
    "local_weight": {"epochs": 1, "batch": 4, "learning_rate": 0.004},
}
# Halvings of the pairs, random curves, pairs with a fit of their own.
FITS = {"splits": 16, "random": 5, "singles": 12}
SIZES, DEALT = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96), 100
MORE = 128  # further pairs of the cases of difference of means at the middle layer

# What computes the numbers; what checks, keeps and reports them may change.
MEASURED = (
    "distributions",
    "extract",
    "generate",
    "judges.exact",
    "logodds",
    "methods",
    "multiples",
    "objectives",
    "reading",
    "sampling",
    "steering",
    "tracing",
    "trainable",
    "updates",
    "weight_updates",
    "wren.judge",
)
FITTED = ("law_comparison", "law_quantities", "law_sampling", "law_shapes", "laws")
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


@dataclass(frozen=True)
class Case:
    """One thing that steers, at one layer."""

    trait: str
    layer: int
    form: str
    seed: int

    def __str__(self) -> str:
        return f"{self.trait}-{self.layer}-{self.form}-{self.seed}"


def cases(depth: int, seed: int) -> Iterator[Case]:
    """Every trait and form at the first, the middle and the last layer."""
    layers = sorted({0, depth // 2, depth - 1})
    for trait, form, layer in itertools.product(TRAITS, FORMS, layers):
        yield Case(trait, layer, form, seed)


# ---- one case -----------------------------------------------------------------------------------


def make(lm: LM, making: Pairs, case: Case) -> Trained:
    """What steers, from the pairs that make vectors."""
    if case.form == "mean_difference":
        return extract(
            lm,
            making,
            positions=positions.generated,
            held_out=0,
            layer=case.layer,
            quiet=True,
        )
    return train(
        lm,
        making,
        "split",
        case.form,
        layers=case.layer,
        held_out=0,
        seed=case.seed,
        progress=False,
        quiet=True,
        **TRAINING[case.form],
    )


def steer(made: Trained, coefficient: Any) -> tuple[Intervention, ...]:
    """The interventions at multiples of the thing as it is."""
    return (
        made.at(coefficient, unit="raw")
        if isinstance(made, SteeringVector)
        else made.at(coefficient)
    )


def size(lm: LM, made: Trained, layer: int, texts: Sequence[str]) -> float:
    """Length of what a multiple of 1 adds to the stream, in residual norms (see the module)."""
    batch = encode(lm, texts)
    before, after = (
        read(lm, batch, [layer], positions.everything, pool=None, interventions=steered)
        for steered in ((), steer(made, 1.0))
    )
    moved = [(b - a)[1:, 0].norm(dim=-1) for a, b in zip(before, after, strict=True)]
    return float(torch.cat(moved).mean()) / residual_norms(lm, batch, [layer])[layer]


def ceilings(
    lm: LM, made: Trained, unit: float, prompts: Sequence[Any], trait: str, seed: int
) -> dict[int, float]:
    """Sign -> the true ceiling, in residual norms; the end of the range where none lies within."""
    grid = np.concatenate([-SIDE[::-1], [0.0], SIDE])
    rows = torch.from_numpy(np.repeat(grid / unit, len(prompts))).float()
    written = generate(
        lm,
        list(prompts) * len(grid),
        steer(made, rows),
        new_tokens=NEW_TOKENS,
        temperature=1.0,
        seed=seed,
        streams=list(range(len(prompts))) * len(grid),
        score=False,
    )
    ends = np.where(written.lengths.numpy() < NEW_TOKENS, "end", "length")
    coherence = judges.score(
        written.texts, list(prompts) * len(grid), trait, by=judges.exact, finish=ends.tolist()
    )["coherence"]
    holds = (coherence.to_numpy() >= HOLDS).reshape(len(grid), len(prompts)).T
    middle = len(SIDE)
    sides = {1: holds[:, middle:], -1: holds[:, middle::-1]}
    steps = np.concatenate([[0.0], SIDE])
    return {sign: min(true_ceiling(steps, side), SIDE[-1]) for sign, side in sides.items()}


def measure(
    lm: LM, case: Case, parts: Splits, other: Pairs, depth: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The log-odds of a case, m in residual norms, and what is known of it besides."""
    made = make(lm, parts.extract, case)
    texts = [pair.full[index % 2] for index, pair in enumerate(parts.select[:8])]
    unit = size(lm, made, case.layer, texts)
    ends = ceilings(lm, made, unit, parts.select.prompts[:PROMPTS], case.trait, case.seed)
    steps = np.where(SHARES < 0, ends[-1], ends[1]) * SHARES
    frame = odds(
        lm,
        list(steer(made, 1.0)),
        measured(parts, case, depth),
        steps / unit,
        unrelated=[pair.full[0] for pair in other[:UNRELATED]],
        memory=MEMORY,
        quiet=True,
    )
    order = np.searchsorted(np.sort(steps / unit), frame["m"])
    frame = frame.assign(m=np.sort(steps)[order], ceilings=SHARES[order])
    losses = None if case.form == "mean_difference" else loss_history(made)["loss"]
    about = {
        "ceiling_plus": ends[1],
        "ceiling_minus": ends[-1],
        "beyond_plus": ends[1] >= SIDE[-1],
        "beyond_minus": ends[-1] >= SIDE[-1],
        "size": unit,
        "undefined": frame.attrs["undefined"],
        "loss_first": np.nan if losses is None else float(losses[:5].mean()),
        "loss_last": np.nan if losses is None else float(losses[-5:].mean()),
    }
    return frame, about


def measured(parts: Splits, case: Case, depth: int) -> Pairs:
    """The pairs of a case: all that made nothing and, of some cases, further ones out of the
    grammar."""
    given = (*parts.select, *parts.report)
    if further(case, depth):
        known = set(parts.extract.texts) | {key for pair in given for key in pair.texts}
        drawn = (
            pairs.Pair(positive, negative, prompt)
            for prompt, positive, negative in trait_pairs(case.trait, 4 * MORE, 10**6 + case.seed)
        )
        new = [pair for pair in drawn if not known & set(pair.texts)]
        given = (*given, *new[:MORE])
    found = replace(parts.report, pairs=given, name=f"wren-{case.trait}/measured")
    require_disjoint({"what made the vector": parts.extract.texts, found.name: found.texts})
    return found


def further(case: Case, depth: int) -> bool:
    """Whether a case has further pairs."""
    return case.form == "mean_difference" and case.layer == depth // 2


# ---- tables -------------------------------------------------------------------------------------


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


def put(frame: pd.DataFrame, path: Path) -> None:
    bare = frame.copy()
    bare.attrs = {}
    write_atomically(path, bare.to_parquet(index=False))


def kept(path: Path, make_it: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A frame out of the cache, made first where it is missing."""
    if not path.is_file():
        put(make_it(), path)
    return pd.read_parquet(path)


def run(name: str, directory: Path, seed: int) -> None:
    """All tables of one model: first every case is measured, then its curves are fitted."""
    lm = load(name)
    folder = cache_directory() / "study_laws" / f"{lm.fingerprint[:16]}-{fingerprint(MEASURED)}"
    splits = {trait: pairs.load(f"wren-{trait}").split(seed=seed) for trait in TRAITS}
    places = {
        case: folder / f"{case}-{digest(of_case(case, lm.layers))}"
        for case in cases(lm.layers, seed)
    }
    began, fresh = time.time(), 0
    for number, (case, place) in enumerate(places.items(), 1):
        if (place / "case.parquet").is_file():
            continue
        other = splits[TRAITS[TRAITS.index(case.trait) - 1]].select
        frame, known = measure(lm, case, splits[case.trait], other, lm.layers)
        put(frame[KEPT], place / "curves.parquet")
        put(pd.DataFrame([known]), place / "case.parquet")
        fresh += 1
        left = (time.time() - began) / fresh * (len(places) - number)
        print(f"{name} {number}/{len(places)} {case}: {left / 60:.0f} min left", flush=True)
    fitted = f"{fingerprint(FITTED)}-{digest({**settings(seed), **FITS})}"
    tables: dict[str, list[pd.DataFrame]] = {"cases": [], "curves": [], "": [], "pairs": []}
    for number, (case, place) in enumerate(places.items(), 1):
        frame = pd.read_parquet(place / "curves.parquet")
        parts = splits[case.trait]
        own = frame[frame["pair"] < len(parts.select) + len(parts.report)]
        found = {
            "cases": pd.read_parquet(place / "case.parquet"),
            "curves": frame,
            "": kept(place / f"laws-{fitted}.parquet", lambda f=own, n=number: compared(f, n)),
            "pairs": kept(place / f"pairs-{fitted}.parquet", lambda f=frame: by_pairs(f)),
        }
        for table, part in found.items():
            tables[table].append(part.assign(**vars(case))[[*vars(case), *part.columns]])
        print(f"{name} {number}/{len(places)} {case}: fitted", flush=True)
    for table, frames in tables.items():
        save_table(
            smaller(pd.concat(frames, ignore_index=True)),
            "_".join(filter(None, ("study_laws", table))),
            directory=directory,
            provenance={
                "model": lm.name,
                "weights": lm.fingerprint,
                "settings": {**settings(seed), **FITS},
            },
            modules=MEASURED if table in ("cases", "curves") else (*MEASURED, *FITTED),
            compact=True,
        )


def compared(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Every law on the pairs of the data set, half of which are held out; each case has halvings of
    its own."""
    return law_comparison.compare(frame, dealings=DEALINGS, seed=seed, **FITS)


def smaller(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with half the bytes: 7 digits are more than any of this is worth."""
    floats = frame.select_dtypes("float64").columns
    return frame.astype(dict.fromkeys(floats, "float32"))


def settings(seed: int) -> dict[str, Any]:
    """What a rerun must share, of all cases."""
    return {
        "shares": SHARES.round(6).tolist(),
        "side": SIDE.round(6).tolist(),
        "prompts": PROMPTS,
        "new_tokens": NEW_TOKENS,
        "unrelated": UNRELATED,
        "training": TRAINING,
        "more": MORE,
        "seed": seed,
    }


def of_case(case: Case, depth: int) -> dict[str, Any]:
    """What a rerun of one case must share."""
    found = settings(case.seed)
    training = found.pop("training")
    if case.form in training:
        found["training"] = training[case.form]
    if not further(case, depth):
        del found["more"]
    return found


def digest(value: Any) -> str:
    return hashlib.sha256(to_json(value).encode()).hexdigest()[:12]


def fingerprint(modules: Sequence[str]) -> str:
    return code_fingerprint(*modules)[:12]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How well laws fit, for every form of steering.")
    parser.add_argument("model", nargs="?", default="wren")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    run(args.model, args.directory, args.seed)


if __name__ == "__main__":
    main()
