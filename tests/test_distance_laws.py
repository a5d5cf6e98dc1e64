"""Laws of distance on traits left out, from made-up studies where it is known what decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studied import GRID, study

from workbench import figures
from workbench.studies import distance_laws
from workbench.studies.distance_laws import held_out, judged, points


@pytest.fixture
def laws(tmp_path: Path) -> pd.DataFrame:
    """Of a study in which a vector breaks where distance has risen so far, whichever it is."""
    study(tmp_path, tells=True, alone=True)
    return judged(points(tmp_path))


def test_points_are_of_both_sides_and_begin_undamaged(tmp_path: Path) -> None:
    study(tmp_path, tells=True)
    found = points(tmp_path)
    assert len(found) == 2 * 6 * 2 * 2 * 5
    at_zero = found[found["norm"] == 0]
    assert (at_zero[["coherence", "loss", "utility", "principal steered"]] == 0).all(axis=None)
    assert sorted(found["norm"].unique()) == sorted(set(np.abs(GRID)))
    assert (found["loss"] >= 0).all()
    assert (found["utility"] >= 0).all()


def test_one_law_of_what_decides_serves_traits_left_out(laws: pd.DataFrame) -> None:
    found = held_out(laws, by=()).set_index(["outcome", "predictor"])
    for outcome in ("loss", "utility"):
        decides, norm = found.loc[outcome, "principal steered"], found.loc[outcome, "norm"]
        assert decides["r2"] > 0.97
        assert decides["beyond_norm_low"] > 0
        assert decides["r2_low"] <= decides["r2"] <= decides["r2_high"]
        # Whatever rises with the coefficient goes with the damage within a sweep.
        assert norm["rho"] == pytest.approx(1)
        assert norm["beyond_norm"] == 0


def test_a_law_of_what_does_not_decide_falls_behind(tmp_path: Path) -> None:
    study(tmp_path, tells=False)
    found = held_out(judged(points(tmp_path)), by=()).set_index(["outcome", "predictor"])
    kl, distance = found.loc["loss", "kl"], found.loc["loss", "principal steered"]
    assert kl["r2"] > 0.97
    assert kl["beyond_norm_low"] > 0
    assert distance["r2"] < kl["r2_low"]


def test_a_law_is_not_fitted_to_the_trait_that_judges_it() -> None:
    """Damage that is another for every trait: in place a law is perfect, on others worthless."""
    rows = [
        {"trait": f"t{i}", "norm": size, "coherence": size * (-1) ** i}
        for i in range(4)
        for size in (0.0, 1.0, 2.0)
    ]
    frame = pd.DataFrame(rows).assign(model="a", depth="first", method="one", seed=0, sign=1)
    for name in distance_laws.PREDICTORS:
        frame[name] = frame["norm"]
    frame[["loss", "utility"]] = np.nan
    found = held_out(judged(frame), by=())
    assert set(found["outcome"]) == {"coherence"}
    assert (found["r2"] < 0).all()


def test_two_traits_judge_no_law(laws: pd.DataFrame, tmp_path: Path) -> None:
    few = points(tmp_path).query("trait in ['t0', 't1']")
    assert judged(few).empty
    assert not laws.empty


def test_words_and_figures(laws: pd.DataFrame, tmp_path: Path) -> None:
    cells = held_out(laws)
    every = held_out(laws, by=()).assign(depth="all", method="all")
    found = pd.concat([every, cells], ignore_index=True)
    words = distance_laws.verdict(found)
    assert "Loss of unrelated text, on traits left out: a law of the norm" in words
    # Two methods at one layer; all six distances decide in this study.
    assert "Of 12 laws of distance" in words
    assert "12 are clearly ahead" in words
    shown = distance_laws.shown(found, "loss")
    assert len(shown) == len(distance_laws.PREDICTORS)
    figure = figures.distance_laws(cells)
    assert len([trace for trace in figure.data if trace.x is not None]) == 15


def test_what_lies_below_the_axis_is_drawn_at_its_foot_and_gaps_are_named() -> None:
    rows = [
        {"outcome": outcome, "predictor": "norm", "depth": depth, "method": method}
        | {"r2": -3.0, "r2_low": -5.0, "r2_high": 0.5}
        for outcome, method in (("coherence", "logistic"), ("loss", "logistic"), ("loss", "random"))
        for depth in ("first", "middle")
    ]
    figure = figures.distance_laws(pd.DataFrame(rows))
    assert list(figure.layout.yaxis.ticktext) == ["logistic probe", "random"]
    norm = next(trace for trace in figure.data if trace.name == "norm")
    assert norm.x[0] == -0.2
    assert (norm.error_x.arrayminus[0], norm.error_x.array[0]) == pytest.approx((0, 0.7))
    gaps = [(n.xref, n.y) for n in figure.layout.annotations if n.text == "not measured"]
    assert gaps == [("x", 1)]
    both = figures.distance_laws(pd.DataFrame(rows), depths=["first", "middle"])
    assert len(both.layout.yaxis.ticktext) == 4
    with pytest.raises(ValueError, match=r"no laws of the depths \['last'\]"):
        figures.distance_laws(pd.DataFrame(rows), depths=["last"])


def test_the_law_of_all_says_how_well_it_fits(tmp_path: Path) -> None:
    study(tmp_path, tells=True, alone=True)
    frame = points(tmp_path).query("model == 'a'")
    figure = figures.distance_collapse(frame, outcome="loss")
    laws = [trace for trace in figure.data if trace.name == "one law for all"]
    assert len(laws) == 3
    assert all((np.diff(trace.y) >= 0).all() for trace in laws)
    # Distances are drawn as how many times the unsteered one, so that 1 is no steering.
    assert min(laws[2].x) == pytest.approx(np.exp(frame["principal steered"].min()))
    missed = sum(
        ((mine["loss"] - mine["loss"].mean()) ** 2).sum() for _, mine in frame.groupby("norm")
    )
    total = ((frame["loss"] - frame["loss"].mean()) ** 2).sum()
    # Mean losses rise with the norm here, so that its law is that of the means.
    assert figure.layout.annotations[0].text == f"R² {1 - missed / total:.2f}"
