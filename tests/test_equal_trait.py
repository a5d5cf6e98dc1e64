"""Ways of steering compared at equal trait, from made-up curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.studies import equal_trait
from workbench.studies.equal_trait import compare_at

GRID = np.linspace(0, 1, 11)
GIVEN, HELD = np.tile(GRID, (6, 1)), np.tile(1 - GRID, (6, 1))


def test_coherence_is_read_where_each_way_gives_as_much() -> None:
    curves = {"plain": (GIVEN, HELD), "kind": (GIVEN, 0 * HELD + 1), "none": (0 * GIVEN, HELD)}
    table = compare_at(curves, GRID, size=20).set_index(["way", "share"])
    assert table.loc[("plain", 0.5), "coherence"] == pytest.approx(0.5)
    assert table.loc[("kind", 0.5), "more"] == pytest.approx(0.5)
    assert table.loc[("kind", 0.5), "lost"] == pytest.approx(0.5)
    assert np.isnan(table.loc[("none", 0.5), "coherence"])
    assert table.loc[("none", 0.5), "reached"] == 0


def test_what_a_coarse_grid_cannot_tell_is_not_said() -> None:
    """All of the trait at the first coefficient: the coherence there is another text's."""
    curves = {"plain": (np.minimum(20 * GIVEN, 1), HELD), "slow": (GIVEN, HELD)}
    table = compare_at(curves, GRID, size=5).set_index(["way", "share"])
    assert table.loc["plain", "coherence"].isna().all()
    assert table.loc["slow", "more"].isna().all()
    assert table.loc["slow", "coherence"].notna().all()


def test_coefficients_must_rise_from_zero() -> None:
    for wrong in (GRID[:2], GRID + 0.1, GRID[::-1]):
        with pytest.raises(ValueError, match="rising from 0"):
            compare_at({"plain": (GIVEN, HELD)}, wrong)


def test_over_traits_the_clear_ones_are_counted() -> None:
    rng = np.random.default_rng(0)
    tables = []
    for index in range(5):
        noise = 0.01 * rng.standard_normal((40, 11))
        given = np.tile(GRID, (40, 1))
        held = 1 - given**2 + noise
        curves = {
            "plain": (given, held),
            "kinder": (given, held + 0.2 * given + 0.02 * index * given),
            "same": (given, held),
        }
        tables.append(compare_at(curves, GRID, size=50).assign(trait=f"trait {index}"))
    found = equal_trait.over_traits(pd.concat(tables))
    kinder = found[(found["way"] == "kinder") & (found["share"] == 0.75)].iloc[0]
    assert kinder["more_low"] > 0
    assert (kinder["ahead"], kinder["behind"], kinder["traits"]) == (5, 0, 5)
    said = equal_trait.verdict(found)
    assert "kinder: more coherent by" in said
    assert "same: not clearly, at any share (intervals from +0.00 to +0.00)" in said
    assert found[found["way"] == "same"]["same"].tolist() == [5] * 4
    assert set(equal_trait.shown(found)["way"]) == {"kinder", "same"}
