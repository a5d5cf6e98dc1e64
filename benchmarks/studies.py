"""What the studies over many vectors share: the cases, the models, and how one is run and resumed.

A case is one vector: of a trait, at a layer, by a method, from one split of the pairs (`seed`). The
middle layer also has random and shuffled-label directions, which steer nothing. Finished cases are
kept in the cache, so that a stopped study goes on where it was, and those that the tables in the
directory already hold, made by the same code on the same weights, are taken from there. Code that
changed without changing a number need not be paid for with hours: `--check N` measures some cases
again.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
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
from workbench.tables import (
    code_fingerprint,
    file_fingerprint,
    load_table,
    save_table,
    stale,
    table_names,
    to_json,
    write_parquet,
)
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
    modules   of the package, whose code decides the numbers; that of the scripts counts besides
    """

    tables: Sequence[str]
    measure: Callable[[LM, Case], Sequence[pd.DataFrame]]
    settings: Mapping[str, Any]
    modules: tuple[str, ...]
    methods: Sequence[str] | None = None

    def run(self, name: str, directory: Path, seeds: Sequence[int] = SEEDS) -> None:
        """Write the tables of one model."""
        lm = model(name)
        made = f"{code_fingerprint(*self.modules)} {to_json(self.shared(()))}".encode()
        folder = cache_directory() / f"study_{self.tables[0]}"
        folder /= f"{lm.fingerprint[:16]}-{hashlib.sha256(made).hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        known = self.published(name, lm, directory)
        todo = [c for c in cases(lm.layers, seeds) if not self.methods or c.method in self.methods]
        found: dict[Case, Sequence[pd.DataFrame]] = {}
        began, fresh = time.time(), 0
        for number, case in enumerate(todo, 1):
            paths = [folder / f"{case}.{table}.parquet" for table in self.tables]
            if case in known:
                found[case] = known[case]
                continue
            if not all(path.is_file() for path in paths):
                for path, frame in zip(paths, self.measure(lm, case), strict=True):
                    write_parquet(frame, path)
                fresh += 1
                left = (time.time() - began) / fresh * (len(todo) - number) / 60
                print(f"{name} {number}/{len(todo)} {case}: {left:.0f} min left", flush=True)
            found[case] = [smaller(pd.read_parquet(path)) for path in paths]
        self._save(name, lm, directory, found, seeds)

    def check(self, name: str, directory: Path, count: int) -> None:
        """Measure so many of a model's published cases again and, if none of them differs by more
        than rounding, stamp its tables as those of today's code.

        Raises ValueError for a model without tables, tables of other weights, and a case that
        differs.
        """
        lm, tables = model(name), self._load(name, directory)
        if not tables or tables[0].attrs["weights"] != lm.fingerprint:
            raise ValueError(f"no tables of these weights of {name!r} in {directory}; run it first")
        seeds, known = tables[0].attrs["settings"]["seeds"], _by_case(tables)
        # Other cases for other code, the same when asked again.
        rng = np.random.default_rng(int(code_fingerprint(*self.modules)[:8], 16))
        chosen = [list(known)[i] for i in rng.choice(len(known), count, replace=False)]
        for case in chosen:
            for new, old in zip(self.measure(lm, case), known[case], strict=True):
                again = smaller(new).reset_index(drop=True)
                try:
                    pd.testing.assert_frame_equal(
                        again, old.reset_index(drop=True)[list(again)], rtol=1e-4, atol=1e-4
                    )
                except AssertionError as error:
                    raise ValueError(f"{name} {case} differs: {error}") from None
            print(f"{name} {case}: the same", flush=True)
        self._save(name, lm, directory, known, seeds, checked=[str(case) for case in chosen])

    def published(self, name: str, lm: LM, directory: Path) -> dict[Case, list[pd.DataFrame]]:
        """The cases of the tables in a directory, if today's code and weights would make them."""
        tables = self._load(name, directory)
        for label, table in zip(self._names(name), tables, strict=bool(tables)):
            made = table.attrs["settings"]
            old = stale(label, directory=directory, weights=lm.fingerprint)
            other = table.attrs["code"]["modules"] != list(self.modules)
            if old or other or made != self.shared(made["seeds"]):
                return {}
        return _by_case(tables)

    def shared(self, seeds: Sequence[int]) -> dict[str, Any]:
        """What a rerun must share."""
        script = inspect.getsourcefile(self.measure)
        assert script is not None
        return {
            **self.settings,
            "coefficients": COEFFICIENTS.round(6).tolist(),
            "seeds": [*seeds],
            "pairs_sha256": {t: pairs.load(f"wren-{t}").fingerprint[:16] for t in TRAITS},
            "scripts_sha256": file_fingerprint(__file__, script, root=Path(__file__).parents[1]),
        }

    def _names(self, name: str) -> list[str]:
        return [f"study_{table}_{name}" for table in self.tables]

    def _load(self, name: str, directory: Path) -> list[pd.DataFrame]:
        """The tables of a model, none where one is missing."""
        names = self._names(name)
        if not set(names) <= set(table_names(directory)):
            return []
        return [load_table(each, directory=directory) for each in names]

    def _save(
        self,
        name: str,
        lm: LM,
        directory: Path,
        found: Mapping[Case, Sequence[pd.DataFrame]],
        seeds: Sequence[int],
        **more: Any,
    ) -> None:
        settings = self.shared(seeds)
        provenance = {"model": lm.name, "weights": lm.fingerprint, "settings": settings, **more}
        for place, label in enumerate(self._names(name)):
            parts = [
                frames[place].assign(**vars(case), sweep=number)
                for number, (case, frames) in enumerate(found.items())
            ]
            save_table(
                pd.concat(parts, ignore_index=True),
                label,
                directory=directory,
                provenance=provenance,
                modules=self.modules,
                compact=True,
            )

    def main(self, about: str, argv: Sequence[str] | None = None) -> None:
        """The command line of the study."""
        parser = argparse.ArgumentParser(description=about)
        parser.add_argument("models", nargs="*", default=["wren", *SIBLINGS])
        parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="default: 0 and 1")
        parser.add_argument("--directory", type=Path, default=Path("reports"))
        parser.add_argument(
            "--check",
            type=int,
            metavar="N",
            help="measure N published cases again and, if they are the same, stamp the tables",
        )
        args = parser.parse_args(argv)
        for name in args.models:
            if args.check:
                self.check(name, args.directory, args.check)
            else:
                self.run(name, args.directory, args.seeds)


def _by_case(tables: Sequence[pd.DataFrame]) -> dict[Case, list[pd.DataFrame]]:
    found: dict[Case, list[pd.DataFrame]] = {}
    for table in tables:
        table.attrs = {}  # pandas copies them at every step
        for key, part in table.groupby(ABOUT, sort=False):
            found.setdefault(Case(*key), []).append(part.drop(columns=[*ABOUT, "sweep"]))
    return found


def smaller(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with half the bytes: 7 digits are more than any of this is worth."""
    floats = frame.select_dtypes("float64").columns
    return frame.astype({**dict.fromkeys(floats, "float32")})
