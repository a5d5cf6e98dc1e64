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
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from keeping import Again, Keeper, published, smaller  # puts the checkout on the path

from workbench import extract, load, random_like
from workbench.contrast import pairs
from workbench.contrast.pairs import Splits
from workbench.loading.models import LM
from workbench.support.tables import load_table, table_names
from workbench.text import positions
from workbench.vectors.steering_vector import SteeringVector
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
    seeds     which are studied unless told
    modules   of the package, whose code decides the numbers; that of the scripts counts besides
    """

    tables: Sequence[str]
    measure: Callable[[LM, Case], Sequence[pd.DataFrame]]
    settings: Mapping[str, Any]
    modules: tuple[str, ...]
    methods: Sequence[str] | None = None
    seeds: Sequence[int] = SEEDS

    def run(self, name: str, directory: Path, seeds: Sequence[int] | None = None) -> None:
        """Write the tables of one model."""
        lm, seeds = model(name), seeds or self.seeds
        keeper, known = self.keeper(lm, seeds), self.standing(name, lm, directory)
        todo = [c for c in cases(lm.layers, seeds) if not self.methods or c.method in self.methods]
        found: dict[Case, Sequence[pd.DataFrame]] = {}
        for number, case in enumerate(todo, 1):
            found[case] = known.get(case) or keeper.parts(
                str(case),
                self.tables,
                lambda case=case: [smaller(each) for each in self.measure(lm, case)],
                place=f"{name} {number}/{len(todo)}",
            )
        keeper.save(self._whole(name, found), directory)

    def check(self, name: str, directory: Path, count: int) -> None:
        """Measure so many of a model's published cases again and, if none of them differs by more
        than rounding, stamp its tables as those of today's code.

        Random controls are not drawn: their noise is keyed by the vector's bits, whose last ones
        hang on the processor, so that another machine has other random vectors.

        Raises ValueError for a model without tables, tables of other weights, and a case that
        differs.
        """
        lm = model(name)
        tables = published(self._names(name), directory, lm)
        keeper = self.keeper(lm, next(iter(tables.values())).attrs["settings"]["seeds"])
        known = _by_case(list(tables.values()))

        def again(case: Case) -> Iterator[Again]:
            for table, new, old in zip(tables, self.measure(lm, case), known[case], strict=True):
                yield Again(table, smaller(new), old, {"rtol": 1e-4, "atol": 1e-4})

        drawn = [case for case in known if case.method != "random"]
        keeper.check(tables, directory, drawn, count, again)

    def standing(self, name: str, lm: LM, directory: Path) -> dict[Case, list[pd.DataFrame]]:
        """The cases of the tables in a directory, if today's code and weights would make them."""
        tables = self._load(name, directory)
        if not tables:
            return {}
        keeper = self.keeper(lm, tables[0].attrs["settings"]["seeds"])
        return _by_case(tables) if keeper.stand(self._names(name), directory) else {}

    def keeper(self, lm: LM, seeds: Sequence[int]) -> Keeper:
        """What keeps the study of one model."""
        script = inspect.getsourcefile(self.measure)
        assert script is not None
        settings = {
            **self.settings,
            "coefficients": COEFFICIENTS.round(6).tolist(),
            "pairs_sha256": {t: pairs.load(f"wren-{t}").fingerprint[:16] for t in TRAITS},
        }
        study = f"study_{self.tables[0]}"
        return Keeper(study, lm, self.modules, (__file__, script), settings, tuple(seeds))

    def _names(self, name: str) -> list[str]:
        return [f"study_{table}_{name}" for table in self.tables]

    def _load(self, name: str, directory: Path) -> list[pd.DataFrame]:
        """The tables of a model, none where one is missing."""
        names = self._names(name)
        if not set(names) <= set(table_names(directory)):
            return []
        return [load_table(each, directory=directory) for each in names]

    def _whole(
        self, name: str, found: Mapping[Case, Sequence[pd.DataFrame]]
    ) -> dict[str, pd.DataFrame]:
        """The tables of all cases."""
        rows = [
            [frame.assign(**vars(case), sweep=number) for frame in frames]
            for number, (case, frames) in enumerate(found.items())
        ]
        return {
            label: pd.concat(parts, ignore_index=True)
            for label, parts in zip(self._names(name), zip(*rows, strict=True), strict=True)
        }

    def main(self, about: str, argv: Sequence[str] | None = None) -> None:
        """The command line of the study."""
        parser = argparse.ArgumentParser(description=about)
        parser.add_argument("models", nargs="*", default=["wren", *SIBLINGS])
        said = f"default: {' '.join(map(str, self.seeds))}"
        parser.add_argument("--seeds", type=int, nargs="+", default=self.seeds, help=said)
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
