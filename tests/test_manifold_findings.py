"""The test across vectors, from tables of a made-up study where the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench import manifold_findings, tables
from workbench.manifold_findings import NORM, correlations, reaches, side

GRID = np.array([-1.2, -0.8, -0.4, -0.2, 0, 0.2, 0.4, 0.8, 1.2])


def study(directory: Path, *, tells: bool) -> None:
    """Two models, six traits, two vectors each. A vector's strength decides its KL and ceiling; how
    far it leads off decides the ceiling too, or nothing."""
    rng = np.random.default_rng(0)
    for model in ("a", "b"):
        tabled: dict[str, list[pd.DataFrame]] = {}
        for trait in range(6):
            for method in ("one", "two"):
                strength, off = np.exp(0.4 * rng.standard_normal(2))
                ceiling = 0.5 / strength / (off if tells else 1.0)
                case = {"trait": f"t{trait}", "layer": 0, "method": method, "seed": 0}
                sizes = np.abs(GRID)
                seen = pd.DataFrame({"coefficient_norm": GRID})
                for kind in manifold_findings.KINDS:
                    seen[kind] = 0.8 * np.exp(off * sizes)
                parts = {
                    "manifold": pd.concat(
                        [seen.assign(place=place) for place in ("steered", "last")]
                    ),
                    "directions": pd.DataFrame({"cos_top": [rng.uniform()]}),
                    "rivals": pd.DataFrame(
                        {
                            "coefficient_norm": GRID,
                            "kl_95": 8 * (strength * sizes) ** 2,
                            "corpus_loss": 0.5 + 2 * sizes / ceiling,
                        }
                    ),
                    "odds": pd.DataFrame(
                        {"coefficient_norm": GRID, "utility": -20 - 15 * sizes / ceiling}
                    ),
                    "ceilings": pd.DataFrame(
                        {
                            "prompt_index": np.repeat(range(6), len(GRID)),
                            "coefficient_norm": np.tile(GRID, 6),
                            "coherence": np.concatenate(
                                [sizes < ceiling * (1 + 0.05 * i) for i in range(6)]
                            ).astype(float),
                        }
                    ),
                }
                for name, table in parts.items():
                    tabled.setdefault(name, []).append(table.assign(**case))
        for name, every in tabled.items():
            whole = pd.concat(every, ignore_index=True)
            tables.save_table(whole, f"study_{name}_{model}", directory=directory, compact=True)


def primary(found: pd.DataFrame) -> pd.Series:
    rows = found[(found["matched"] == "norm") & (found["predictor"] == "principal steered")]
    return rows[rows["outcome"] == "loss_rise"].iloc[0]


@pytest.mark.parametrize("tells", [True, False])
def test_distance_tells_only_where_it_was_made_to(tmp_path: Path, tells: bool) -> None:
    study(tmp_path, tells=tells)
    assert manifold_findings.studied(tmp_path) == ["a", "b"]
    frame = manifold_findings.sides(tmp_path)
    assert len(frame) == 2 * 6 * 2 * 2
    assert frame["norm:kl"].notna().all()
    found = correlations(frame, outcomes=["ceiling", "loss_rise"])
    row = primary(found)
    assert (row["beside_high"] < 0) == tells
    kl = found[(found["predictor"] == "kl") & (found["outcome"] == "loss_rise")].iloc[0]
    assert kl["alone_high"] < 0
    words = manifold_findings.verdict(found, outcome="loss_rise")
    assert f"Of 6 distances {6 if tells else 0} tell beside these" in words
    shown = manifold_findings.shown(found)
    assert "distance (nearest neighbours), last layer" in shown["predictor"].tolist()


def test_without_a_study_there_is_nothing(tmp_path: Path) -> None:
    assert manifold_findings.sides(tmp_path).empty


def test_a_fall_is_found_between_sizes() -> None:
    table = pd.DataFrame({"coefficient_norm": GRID, "utility": -20 - 10 * np.abs(GRID)})
    here = side(table, -1)
    assert here["size"].tolist() == [0, 0.2, 0.4, 0.8, 1.2]
    assert reaches(here, "utility", -5.0) == pytest.approx(0.5)
    assert reaches(here, "utility", -50.0) == np.inf
    assert NORM in np.round(np.geomspace(0.08, 1.6, 16), 6)
