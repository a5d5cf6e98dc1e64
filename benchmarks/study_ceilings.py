"""Sweeps whose every text has its exact coherence: what a detector of the ceiling is judged on.

    python benchmarks/study_ceilings.py [MODEL ...] [--seeds 0 1] [--directory reports]

For each model (wren; its siblings, whose weights lie beside this script or are trained): traits x
layers x methods x seeds, each a sweep of both signs. The middle layer also has random and
shuffled-label directions, which steer nothing. Finished sweeps are kept in the cache, so that a
stopped study goes on where it was, and those that the tables in the directory already hold, made
by the same code on the same weights, are taken from there. Two tables a model:

study_ceilings_MODEL  one row per text: what `workbench.sweep` logs, and the exact judge's columns
study_rivals_MODEL    one row per coefficient: what rival rules need and a sweep does not log

Columns beyond a sweep's: `shown`, the exact score of the trait (`trait` names it); `kept`, the
share of the text before it falls apart for good (1 if it does not); `kl_95` and `kl_first`, the
95th percentile over tokens, and the mean at the first token, of KL(steered || unsteered) in greedy
rollouts; `corpus_loss`, nats a token of texts that others wrote, under the steered model.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import torch

from workbench import (
    extract,
    generate,
    judges,
    load,
    logprobs,
    pairs,
    positions,
    random_like,
    sweep,
)
from workbench.models import LM
from workbench.store import cache_directory
from workbench.tables import code_fingerprint, load_table, save_table, stale, table_names
from workbench.vectors import SteeringVector
from workbench.wren.siblings import SIBLINGS, sibling

TRAITS = ("mood", "formality", "verbosity", "italian", "power", "refusal")
METHODS = ("mean_difference", "pca_center", "logistic")
CONTROLS = ("random", "shuffled")
SEEDS = (0, 1)
SIDE = np.geomspace(0.08, 1.6, 16)
COEFFICIENTS = np.concatenate([-SIDE[::-1], [0.0], SIDE])
PROMPTS, NEW_TOKENS = 16, 48
ROLLOUTS, ROLLED = 8, 16  # of the rival rules: prompts, greedy tokens
CORPUS = 8
TOGETHER = 11  # coefficients of one batch

KEPT = (
    "prompt_index",
    "coefficient_norm",
    "tokens",
    "logprob_unsteered",
    "logprob_steered",
    "excess",
    "drift",
    "drift_from",
    "alert",
    "entropy",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "longest_repeat",
    "repeat_from",
    "empty",
    "coherence",
    "kept",
    "shown",
)
TRAINED = Path(__file__).parent / "siblings"
CODE = (
    "controls",
    "distributions",
    "drift",
    "extract",
    "generate",
    "judges.exact",
    "measures",
    "methods",
    "reading",
    "running",
    "sampling",
    "scoring",
    "steering",
    "sweep",
    "tracing",
    "updates",
    "vectors",
    "wren.judge",
)


@dataclass(frozen=True)
class Case:
    """One sweep of the study."""

    trait: str
    layer: int
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.trait}-{self.layer}-{self.method}-{self.seed}"


ABOUT = tuple(field.name for field in fields(Case))


def cases(depth: int, seeds: Sequence[int] = SEEDS) -> Iterator[Case]:
    """Every trait, seed and method at the first, the middle and the last layer; controls in the
    middle."""
    layers = sorted({0, depth // 2, depth - 1})
    for seed, trait in itertools.product(seeds, TRAITS):
        for layer, method in itertools.product(layers, METHODS):
            yield Case(trait, layer, method, seed)
        for control in CONTROLS:
            yield Case(trait, depth // 2, control, seed)


def direction(lm: LM, making: Any, case: Case) -> SteeringVector:
    """The vector of a case, from the pairs that make vectors."""
    shuffled = case.method == "shuffled"
    vector = extract(
        lm,
        making,
        case.method if case.method in METHODS else "mean_difference",
        positions=positions.generated,
        held_out=0,
        layer=case.layer,
        shuffle_labels=case.seed if shuffled else None,
        quiet=True,
    )
    return random_like(vector, case.seed) if case.method == "random" else vector


def texts(lm: LM, vector: SteeringVector, prompts: Sequence[Any], case: Case) -> pd.DataFrame:
    """The sweep of a case, a row per text."""
    frame = sweep(
        lm,
        vector,
        prompts,
        COEFFICIENTS,
        new_tokens=NEW_TOKENS,
        temperature=1.0,
        seed=case.seed,
        trait=case.trait,
        judges=[judges.exact],
        kl=False,
        progress=False,
    )
    length = frame["text"].str.len().clip(lower=1)
    kept = (frame["breaks_at"] / length).fillna(1.0).mask(frame["empty"], 0.0)
    return frame.assign(kept=kept, shown=frame["trait"])[list(KEPT)]


def rivals(
    lm: LM, vector: SteeringVector, prompts: Sequence[Any], corpus: Sequence[str]
) -> pd.DataFrame:
    """What rules need that look at steered distributions, a row per coefficient."""
    some, rows = list(prompts[:ROLLOUTS]), []
    for part in np.array_split(COEFFICIENTS, -(-len(COEFFICIENTS) // TOGETHER)):
        count = len(part)
        rolled = generate(
            lm,
            some * count,
            steer(vector, part, len(some)),
            new_tokens=ROLLED,
            score=False,
            kl=True,
        ).kl
        assert rolled is not None
        read = logprobs(lm, list(corpus) * count, steer(vector, part, len(corpus)))
        for c, kl, likely in zip(part, rolled.chunk(count), read.chunk(count), strict=True):
            rows.append(
                {
                    "coefficient_norm": c,
                    "kl_95": float(torch.quantile(kl[~kl.isnan()], 0.95)),
                    "kl_first": float(kl[:, 0].mean()),
                    "corpus_loss": -float(likely.nanmean()),
                }
            )
    return pd.DataFrame(rows)


def steer(vector: SteeringVector, coefficients: np.ndarray, rows: int) -> Any:
    """Each coefficient for so many rows of a batch."""
    return vector.at(torch.from_numpy(np.repeat(coefficients, rows)).float(), unit="norm")


def run(name: str, directory: Path, seeds: Sequence[int] = SEEDS) -> None:
    """Both tables of one model."""
    lm = load(sibling(name, trained=TRAINED) if name in SIBLINGS else name)
    folder = cache_directory() / "study_ceilings" / f"{lm.fingerprint[:16]}-{code()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    known = published(name, lm, directory)
    todo, found, beside = list(cases(lm.layers, seeds)), [], []
    began, fresh = time.time(), 0
    for number, case in enumerate(todo, 1):
        whole, side = folder / f"{case}.parquet", folder / f"{case}.rivals.parquet"
        if not side.is_file() and case in known:
            for path, frame in zip((whole, side), known[case], strict=True):
                frame.to_parquet(path)
        if not side.is_file():
            parts = pairs.load(f"wren-{case.trait}").split(seed=case.seed)
            vector = direction(lm, parts.extract, case)
            prompts = parts.select.prompts[:PROMPTS]
            corpus = [pair.full[index % 2] for index, pair in enumerate(parts.report[:CORPUS])]
            texts(lm, vector, prompts, case).to_parquet(whole)
            rivals(lm, vector, prompts, corpus).to_parquet(side)
            fresh += 1
            left = (time.time() - began) / fresh * (len(todo) - number)
            print(f"{name} {number}/{len(todo)} {case}: {left / 60:.0f} min left", flush=True)
        about = {**vars(case), "sweep": number - 1}
        found.append(pd.read_parquet(whole).assign(**about))
        beside.append(pd.read_parquet(side).assign(**about))
    provenance = {"model": lm.name, "weights": lm.fingerprint, "settings": settings(seeds)}
    for table, frames in (("ceilings", found), ("rivals", beside)):
        save_table(
            smaller(pd.concat(frames, ignore_index=True)),
            f"study_{table}_{name}",
            directory=directory,
            provenance=provenance,
            modules=CODE,
            compact=True,
        )


def published(name: str, lm: LM, directory: Path) -> dict[Case, tuple[pd.DataFrame, pd.DataFrame]]:
    """The cases of the tables in a directory, if today's code and weights would make them."""
    tables = [f"study_{table}_{name}" for table in ("ceilings", "rivals")]
    if not all(table in table_names(directory) for table in tables):
        return {}
    frames = [load_table(table, directory=directory) for table in tables]
    for table, frame in zip(tables, frames, strict=True):
        made = frame.attrs["settings"]
        if stale(table, directory=directory, weights=lm.fingerprint) or made != settings(
            made["seeds"]
        ):
            return {}
    whole, side = (
        {
            Case(*key): part.drop(columns=[*ABOUT, "sweep"])
            for key, part in frame.groupby(list(ABOUT), sort=False)
        }
        for frame in frames
    )
    return {case: (whole[case], side[case]) for case in whole}


def smaller(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with half the bytes: 7 digits are more than any of this is worth."""
    floats = frame.select_dtypes("float64").columns
    return frame.astype({**dict.fromkeys(floats, "float32")})


def settings(seeds: Sequence[int]) -> dict[str, Any]:
    """What a rerun must share."""
    return {
        "coefficients": COEFFICIENTS.round(6).tolist(),
        "prompts": PROMPTS,
        "new_tokens": NEW_TOKENS,
        "seeds": list(seeds),
    }


def code() -> str:
    """The fingerprint of what decides the texts and their numbers."""
    return code_fingerprint(*CODE)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Sweeps whose every text is judged exactly.")
    parser.add_argument("models", nargs="*", default=["wren", *SIBLINGS])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 0 and 1")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    for name in args.models:
        run(name, args.directory, args.seeds)


if __name__ == "__main__":
    main()
