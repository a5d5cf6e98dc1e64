"""Errors of ceilings by geometry, on the sides for which it was studied."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.studies import geometry_findings


def test_all_rules_are_judged_on_the_sides_that_geometry_knows() -> None:
    rows = []
    for trait in ("a", "b", "c"):
        for seed in (0, 1):
            about = {"model": "m", "trait": trait, "method": "x", "layer": 0, "seed": seed}
            said = {
                "constant": 0.5,
                "iso-KL": 0.4,
                "geometry, steered layer": 1.6 if seed == 0 else np.nan,
                "geometry, shipped: Rise": 0.4 if seed == 0 else np.nan,
                "geometry, shipped: Beyond": 1.6 if seed == 0 else np.nan,
                # On sides that were not studied nobody is asked.
                "share intact": 0.4 if seed == 0 else 1.6,
            }
            for rule, predicted in said.items():
                row = {"sign": 1, "true": 0.4, "rule": rule, "predicted": predicted}
                rows.append(about | row)
    found = geometry_findings.geometry_errors(pd.DataFrame(rows)).set_index("rule")
    assert set(found["sides"]) == {3}
    assert found.loc["share intact", "error"] == pytest.approx(0)
    assert found.loc["geometry, steered layer", "error"] == pytest.approx(np.log(4))
    assert found.loc["geometry, steered layer", "sees_none"] == 1
    said = geometry_findings.verdict(found.reset_index())
    assert "is off by 1.39 [1.39, 1.39]" in said
    assert "is off by 0.00 [0.00, 0.00] with `Rise`" in said
    assert "sees no ceiling on 100% of them" in said


def test_without_a_study_nothing_is_said() -> None:
    frame = pd.DataFrame({"rule": ["constant"], "predicted": [0.5], "true": [0.5]})
    found = geometry_findings.geometry_errors(frame)
    assert found.empty
    assert geometry_findings.verdict(found) == ""
