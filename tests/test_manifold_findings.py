"""The test across vectors, from tables of a made-up study where the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studied import GRID, study

from workbench.studies import manifold_findings, manifold_page
from workbench.studies.manifold_findings import NORM, correlations, reaches, side
from workbench.support import tables


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
    assert said.startswith("Shown." if tells else "Not shown, nor refuted.")
    assert "Of 24 tests across vectors" in said
    assert "of two outcomes) " in said
    assert "by chance alone about one of 24 miss zero" in said
    page = manifold_page.across(tmp_path)
    assert (page.page, page.drawn) == (manifold_page.NOT_STUDIED, {})
    for name, table in (("manifold_across", found), ("manifold_sides", frame)):
        tables.save_table(table, name, directory=tmp_path)
    page = manifold_page.across(tmp_path)
    assert page.short == said
    assert page.verdict.startswith(f"{said}\n\n")
    assert len(page.drawn["05_across"]) == len(frame)
    assert page._repr_markdown_().count("distance (nearest neighbours), last layer") == 2


def test_forms_are_compared_where_they_were_read_alone() -> None:
    rows = [("one", 0.0, 0.0, 0.8, 0.0, True), ("one", 0.2, 0.03, 0.8, -0.08, True),
            ("one", 0.2, 0.03, 9.0, -0.08, False), ("one", 0.4, 0.3, 0.9, 2.0, True),
            ("two", 2.0, 0.04, 0.9, 5.24, True), ("two", 4.0, 2.0, 1.5, 80.0, True)]  # fmt: skip
    seen = pd.DataFrame(rows, columns=["way", "m", "kl", "distance", "fall", "steered"])
    said = manifold_page.forms(seen)
    assert (
        "at a KL of 0.03 to 0.04 nats the steered layer lies at a distance of 0.80 to 0.90" in said
    )
    assert "utility has fallen by −0.1 to 5.2 nats (2 forms, 2 coefficients)" in said
    assert "0.30" not in said
    assert manifold_page.forms(seen[seen["way"] == "one"]).startswith("At none of the KLs")


def test_without_a_study_there_is_nothing(tmp_path: Path) -> None:
    for part in (manifold_page.laws, manifold_page.across, manifold_page.parts):
        assert part(tmp_path).verdict == manifold_page.NOT_STUDIED
    here = pd.DataFrame({"rule": ["Rise"], "+": [0.5]})
    assert "| Rise | 0.5 |" in manifold_page.ceilings(tmp_path, here).page
    assert manifold_findings.sides(tmp_path).empty


def test_a_fall_is_found_between_sizes() -> None:
    table = pd.DataFrame({"coefficient_norm": GRID, "utility": -20 - 10 * np.abs(GRID)})
    here = side(table, -1)
    assert here["size"].tolist() == [0, 0.2, 0.4, 0.8, 1.2]
    assert reaches(here, "utility", -5.0) == pytest.approx(0.5)
    assert reaches(here, "utility", -50.0) == np.inf
    assert NORM in np.round(np.geomspace(0.08, 1.6, 16), 6)
