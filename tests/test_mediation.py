"""Parts of a vector, made up so that one gains and the other costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.studies import mediation
from workbench.support import tables

GRID = np.concatenate([-np.geomspace(0.1, 0.9, 5)[::-1], [0], np.geomspace(0.1, 0.9, 5)])


def made_up(traits: int = 4) -> pd.DataFrame:
    """Inside: 10 nats of preference a norm, KL c². Outside: utility falls by 20 c², KL 4 c²."""
    rows, rng = [], np.random.default_rng(0)
    for trait in range(traits):
        more = 1 + 0.1 * rng.standard_normal()
        for part, gain, cost, kl in (
            ("whole", 10, 20, 5),
            ("inside", 10, 0, 1),
            ("outside", 0, 20, 4),
            ("random inside", 0, 5, 1),
            ("random outside", 0, 5, 1),
        ):
            for c in GRID:
                rows.append(
                    {
                        "trait": f"trait {trait}",
                        "layer": 1,
                        "method": "mean_difference",
                        "seed": 0,
                        "part": part,
                        "coefficient_norm": c,
                        "preference": 3 + gain * more * c,
                        "utility": -20 - cost * more * c * c,
                        "both": -30 - cost * more * c * c,
                        "kl": kl * c * c,
                        "share": 0.5,
                    }
                )
    return pd.DataFrame(rows)


def test_who_gains_and_who_costs_is_said(tmp_path: Path) -> None:
    tables.save_table(made_up(), "study_parts_small", directory=tmp_path, compact=True)
    table = mediation.studied(tmp_path)
    assert set(table["model"]) == {"small"}
    rows = mediation.matched(mediation.curves(table))
    assert set(rows["sign"]) == {1, -1}
    found = mediation.compared(rows)
    half = found[(found["at"] == "norm") & (found["level"] == mediation.NORMS[1])]
    half = half.set_index("part")
    assert half.loc["inside", "gain"] == pytest.approx(10 * 0.395342, rel=0.15)
    assert half.loc["outside", "gain"] == pytest.approx(0, abs=1e-9)
    assert half.loc["inside − outside", "gain_low"] > 0
    assert half.loc["inside − outside", "cost_high"] < 0
    assert half.loc["inside − outside", "both_high"] < 0
    assert half.loc["inside − outside", ["gain_above", "both_above", "clusters"]].tolist() == [
        4,
        0,
        4,
    ]
    assert half.loc["random inside − outside", "both"] == pytest.approx(0, abs=1e-9)
    assert half.loc["whole", "sides"] == 8
    said = mediation.verdict(found)
    assert "At equal norm (0.27, 0.4 and 0.59 norms) the part along the tangent gains more" in said
    assert "in 4, 4 and 4 of 4 traits" in said
    assert "of a random direction the parts differ by +0.0 [+0.0, +0.0]" in said
    shown = mediation.shown(found)
    assert set(shown["at"]) == {"0.4 norms", "KL 0.3 nats"}
    assert "random, off" in set(shown["part"])


def test_at_the_same_kl_each_part_is_read_at_its_own_norm() -> None:
    rows = mediation.matched(mediation.curves(made_up(2).assign(model="small")), nats=[0.3, 50.0])
    sizes = rows[(rows["at"] == "kl") & (rows["level"] == 0.3)].groupby("part")["size"].mean()
    assert sizes["inside"] == pytest.approx(np.sqrt(0.3), rel=0.1)
    assert sizes["outside"] == pytest.approx(np.sqrt(0.3) / 2, rel=0.1)
    never = rows[rows["level"] == 50.0]
    assert never[["size", "gain", "cost"]].isna().all(axis=None)
    assert "–" in mediation.verdict(mediation.compared(rows))


def test_without_a_study_there_is_nothing(tmp_path: Path) -> None:
    assert mediation.studied(tmp_path).empty
