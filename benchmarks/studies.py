"""What the studies over many vectors share: the cases, the models, and how one is run and resumed.

A case is one vector: of a trait, at a layer, by a method, from one split of the pairs (`seed`). The
middle layer also has random and shuffled-label directions, which steer nothing. Finished cases are
kept in the cache, so that a stopped study goes on where it was, and those that the tables in the
directory already hold, made by the same code on the same weights, are taken from there.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from workbench import extract, load, pairs, positions, random_like
from workbench.models import LM
from workbench.pairs import Splits
from workbench.store import cache_directory
from workbench.tables import code_fingerprint, load_table, save_table, stale, table_names
from workbench.vectors import SteeringVector
from workbench.wren.siblings import SIBLINGS, sibling

TRAITS = ("mood", "formality", "verbosity", "italian", "power", "refusal")
METHODS = ("mean_difference", "pca_center", "logistic")
CONTROLS = ("random", "shuffled")
SEEDS = (0, 1)
SIDE = np.geomspace(0.08, 1.6, 16)
# In residual norms of the steered layer.
COEFFICIENTS = np.concatenate([-SIDE[::-1], [0.0], SIDE])
TRAINED = Path(__file__).parent / "siblings"


@dataclass(frozen=True)
class Case:
    """One vector of the studies."""

    trait: str
    layer: int
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.trait}-{self.layer}-{self.method}-{self.seed}"

    @property
    def pairs(self) -> Splits:
        """The pairs of the trait, dealt out by the seed."""
        return pairs.load(f"wren-{self.trait}").split(seed=self.seed)


ABOUT = [field.name for field in fields(Case)]


def cases(depth: int, seeds: Sequence[int] = SEEDS) -> Iterator[Case]:
    """Every trait, seed and method at the first, the middle and the last layer; controls in the
    middle."""
    layers = sorted({0, depth // 2, depth - 1})
    for seed, trait in itertools.product(seeds, TRAITS):
        for layer, method in itertools.product(layers, METHODS):
            yield Case(trait, layer, method, seed)
        for control in CONTROLS:
            yield Case(trait, depth // 2, control, seed)


def model(name: str) -> LM:
    """wren, one of its siblings, whose weights lie beside this script, or any other model."""
    return load(sibling(name, trained=TRAINED) if name in SIBLINGS else name)


def direction(lm: LM, case: Case) -> SteeringVector:
    """The vector of a case, from the pairs that make vectors."""
    shuffled = case.method == "shuffled"
    vector = extract(
        lm,
        case.pairs.extract,
        case.method if case.method in METHODS else "mean_difference",
        positions=positions.generated,
        held_out=0,
        layer=case.layer,
        shuffle_labels=case.seed if shuffled else None,
        quiet=True,
    )
    return random_like(vector, case.seed) if case.method == "random" else vector


@dataclass(frozen=True)
class Study:
    """What is measured of every case.

    tables    their names; of model M the table NAME is `study_NAME_M`
    measure   of a model and a case, one frame for each table
    settings  what a rerun must share beside the seeds, JSON values
    methods   the cases of these alone, None: of all
    modules   whose code decides the numbers
    """

    tables: Sequence[str]
    measure: Callable[[LM, Case], Sequence[pd.DataFrame]]
    settings: Mapping[str, Any]
    modules: tuple[str, ...]
    methods: Sequence[str] | None = None

    def run(self, name: str, directory: Path, seeds: Sequence[int] = SEEDS) -> None:
        """Write the tables of one model."""
        lm = model(name)
        folder = cache_directory() / f"study_{self.tables[0]}"
        folder /= f"{lm.fingerprint[:16]}-{code_fingerprint(*self.modules)[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        known = self.published(name, lm, directory)
        todo = [c for c in cases(lm.layers, seeds) if not self.methods or c.method in self.methods]
        found: list[list[pd.DataFrame]] = [[] for _ in self.tables]
        began, fresh = time.time(), 0
        for number, case in enumerate(todo, 1):
            paths = [folder / f"{case}.{table}.parquet" for table in self.tables]
            if not paths[-1].is_file():
                frames = known.get(case)
                if frames is None:
                    frames = self.measure(lm, case)
                    fresh += 1
                    left = (time.time() - began) / fresh * (len(todo) - number)
                    print(
                        f"{name} {number}/{len(todo)} {case}: {left / 60:.0f} min left", flush=True
                    )
                for path, frame in zip(paths, frames, strict=True):
                    frame.to_parquet(path)
            about = {**vars(case), "sweep": number - 1}
            for path, parts in zip(paths, found, strict=True):
                parts.append(pd.read_parquet(path).assign(**about))
        provenance = {"model": lm.name, "weights": lm.fingerprint, "settings": self.shared(seeds)}
        for table, parts in zip(self.tables, found, strict=True):
            save_table(
                smaller(pd.concat(parts, ignore_index=True)),
                f"study_{table}_{name}",
                directory=directory,
                provenance=provenance,
                modules=self.modules,
                compact=True,
            )

    def published(self, name: str, lm: LM, directory: Path) -> dict[Case, list[pd.DataFrame]]:
        """The cases of the tables in a directory, if today's code and weights would make them."""
        names = [f"study_{table}_{name}" for table in self.tables]
        if not set(names) <= set(table_names(directory)):
            return {}
        frames = [load_table(each, directory=directory) for each in names]
        for each, frame in zip(names, frames, strict=True):
            made = frame.attrs["settings"]
            if stale(each, directory=directory, weights=lm.fingerprint):
                return {}
            if made != self.shared(made["seeds"]):
                return {}
        found: dict[Case, list[pd.DataFrame]] = {}
        for frame in frames:
            for key, part in frame.groupby(ABOUT, sort=False):
                found.setdefault(Case(*key), []).append(part.drop(columns=[*ABOUT, "sweep"]))
        return found

    def shared(self, seeds: Sequence[int]) -> dict[str, Any]:
        """What a rerun must share."""
        return {**self.settings, "coefficients": COEFFICIENTS.round(6).tolist(), "seeds": [*seeds]}

    def main(self, about: str, argv: Sequence[str] | None = None) -> None:
        """The command line of the study."""
        parser = argparse.ArgumentParser(description=about)
        parser.add_argument("models", nargs="*", default=["wren", *SIBLINGS])
        parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 0 and 1")
        parser.add_argument("--directory", type=Path, default=Path("reports"))
        args = parser.parse_args(argv)
        for name in args.models:
            self.run(name, args.directory, args.seeds)


def smaller(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with half the bytes: 7 digits are more than any of this is worth."""
    floats = frame.select_dtypes("float64").columns
    return frame.astype({**dict.fromkeys(floats, "float32")})
