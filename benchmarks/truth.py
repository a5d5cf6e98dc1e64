"""Where the texts of the study's sweeps really fall apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from detectors import Curves
from studies import ABOUT

from workbench.judges import HOLDS
from workbench.studies.ceiling_findings import true_ceiling
from workbench.support import tables

RESAMPLES = 200


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
        halves = by_case(f"study_halves_{model}", directory)
        distances = by_case(f"study_manifold_{model}", directory)
        shipped = by_case(f"study_geometric_{model}", directory)
        texts.attrs = rivals.attrs = {}  # pandas copies them at every step
        for number, sweep in list(texts.groupby("sweep"))[::step]:
            for sign in (1, -1):
                case = case_of(sweep)
                more = halves.get(case), distances.get(case), shipped.get(case)
                curves = Curves.of(sweep, beside[number], sign, *more)
                ceiling = truth_of(curves)
                floor = noise_floor(curves, ceiling, rng) if np.isfinite(ceiling) else np.nan
                first = sweep.iloc[0]
                about = (model, first["trait"], first["method"], sweep, sign)
                yield Truth(*about, curves, ceiling, floor)


def by_case(name: str, directory: Path) -> dict[tuple[Any, ...], pd.DataFrame]:
    """The rows of every case of a study, none where it was not made."""
    if name not in tables.table_names(directory):
        return {}
    table = tables.load_table(name, directory=directory)
    table.attrs = {}  # pandas copies them at every step
    return {case_of(part): part for _, part in table.groupby("sweep")}


def case_of(table: pd.DataFrame) -> tuple[Any, ...]:
    """What the first row says of its case."""
    return tuple(table.iloc[0][ABOUT])
