"""One side of a sweep of the studies, as rules that look for its ceiling read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import keeping  # noqa: F401 - puts the checkout on the path
import numpy as np
import pandas as pd

from workbench.preference.law_shapes import KINDS
from workbench.statistics.intervals import Floats
from workbench.studies.manifold_findings import KINDS as DISTANCES
from workbench.studies.manifold_findings import side

BEYOND = float("inf")


@dataclass(frozen=True, eq=False)
class Curves:
    """One side of a sweep: K coefficients from 0 outwards, P prompts.

    grid    (K,) sizes of the coefficients, in residual norms
    texts   column -> (P, K)
    rivals  column -> (K,) what a sweep does not log, see study_ceilings.py
    halves  kind -> half-life of its law, see study_odds.py; empty where that was not studied
    geometry  "KIND PLACE" -> (K,) distance of fixed texts' tokens from ordinary text, in shares of
            what 95 % of ordinary tokens keep within, see study_manifold.py; empty likewise
    shipped  rule -> what `ceiling_from_geometry` says as it is shipped, see there; empty likewise
    """

    grid: Floats
    texts: Mapping[str, Floats]
    rivals: Mapping[str, Floats]
    halves: Mapping[str, float] = field(default_factory=dict)
    geometry: Mapping[str, Floats] = field(default_factory=dict)
    shipped: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        texts: pd.DataFrame,
        rivals: pd.DataFrame,
        sign: int,
        halves: pd.DataFrame | None = None,
        distances: pd.DataFrame | None = None,
        shipped: pd.DataFrame | None = None,
    ) -> Curves:
        """One side of a sweep of study_ceilings.py, with its half-lives of study_odds.py, and of
        study_manifold.py its ceilings by geometry and its distances, which are on fewer
        coefficients: between them on a line."""
        mine = texts[sign * texts["coefficient_norm"] >= 0]
        mine = mine.assign(size=mine["coefficient_norm"].abs()).sort_values(
            ["prompt_index", "size"]
        )
        grid = np.sort(mine["size"].unique()).astype(float)
        beside = rivals[sign * rivals["coefficient_norm"] >= 0]
        beside = beside.assign(size=beside["coefficient_norm"].abs()).sort_values("size")
        columns = [*mine.select_dtypes("number").columns, "empty"]
        shape = (-1, len(grid))
        return cls(
            grid,
            {name: mine[name].to_numpy(dtype=float).reshape(shape) for name in columns},
            {name: beside[name].to_numpy(dtype=float) for name in RIVAL_COLUMNS},
            {}
            if halves is None
            else {
                kind: float(halves.set_index("sign")[kind].fillna(BEYOND)[sign]) for kind in KINDS
            },
            {} if distances is None else distances_on(grid, distances, sign),
            {}
            if shipped is None
            else shipped[shipped["sign"] == sign].set_index("rule")["ceiling"].to_dict(),
        )

    def of_prompts(self, rows: Sequence[int]) -> Curves:
        """The same for some prompts, which may stand twice. What rivals read (`rivals`, `halves`,
        `geometry`, `shipped`) was measured on texts of its own and stays."""
        return replace(self, texts={k: v[rows] for k, v in self.texts.items()})


def distances_on(grid: Floats, table: pd.DataFrame, sign: int) -> dict[str, Floats]:
    """Distances of one side of a case, on the sweep's grid; beyond the last one they stay."""
    found = {}
    for place, mine in table.groupby("place"):
        here = side(mine, sign)
        for kind in DISTANCES:
            found[f"{kind} {place}"] = np.interp(grid, here["size"], here[kind])
    return found


RIVAL_COLUMNS = ("kl_95", "kl_first", "corpus_loss")
