"""The test across vectors, from tables of a made-up study where the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studied import GRID, study

from workbench.studies import manifold_findings
from workbench.studies.manifold_findings import NORM, correlations, reaches, side


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
    assert shown["sides"].tolist() == shown["of traits' vectors"].tolist() == [48] * len(shown)
    said = manifold_findings.in_short(found)
    assert said.startswith("By these distances it is not shown") != tells


def test_without_a_study_there_is_nothing(tmp_path: Path) -> None:
    assert manifold_findings.sides(tmp_path).empty


def test_a_fall_is_found_between_sizes() -> None:
    table = pd.DataFrame({"coefficient_norm": GRID, "utility": -20 - 10 * np.abs(GRID)})
    here = side(table, -1)
    assert here["size"].tolist() == [0, 0.2, 0.4, 0.8, 1.2]
    assert reaches(here, "utility", -5.0) == pytest.approx(0.5)
    assert reaches(here, "utility", -50.0) == np.inf
    assert NORM in np.round(np.geomspace(0.08, 1.6, 16), 6)
