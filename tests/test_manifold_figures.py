"""Figures of the manifold, from made-up frames and from a random model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from architectures import SENTENCES
from made_up import made_up
from test_geometry import manifolds as manifolds  # the fixture

from workbench import figures
from workbench.contrast.pairs import Pairs
from workbench.geometry import displacement as geometry
from workbench.geometry import manifold_checks, manifold_views, projection
from workbench.geometry.manifold import Manifolds
from workbench.loading.models import LM
from workbench.statistics.intervals import wilson

GRID = [-0.5, 0.0, 0.5]
TEXTS = list(SENTENCES[:4])


@pytest.fixture(scope="module")
def points(tiny: LM, manifolds: Manifolds) -> tuple[pd.DataFrame, dict[str, float]]:
    pairs = Pairs.from_lists(TEXTS[:3], TEXTS[1:4], ["A: "] * 3, name="small", trait="made up")
    vector = made_up(tiny)
    found = projection.projected(
        tiny, vector, manifolds, list(SENTENCES), pairs, GRID, points=20, trails=3
    )
    return found, projection.axes(vector, manifolds)[1]


def test_the_axes_are_at_right_angles_and_share_the_variance(
    tiny: LM, manifolds: Manifolds
) -> None:
    rows, shares = projection.axes(made_up(tiny), manifolds)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows[2:] @ rows[2:].T, np.eye(3), atol=1e-6)
    assert rows[0] @ rows[1] == pytest.approx(0, abs=1e-6)
    assert shares["first"] >= max(shares.values()) - 1e-9
    assert sum(shares[name] for name in ("target", "across", "next")) <= 1 + 1e-9


def test_trails_begin_in_ordinary_text_and_follow_the_target(
    points: tuple[pd.DataFrame, dict[str, float]],
) -> None:
    frame, _ = points
    assert set(frame["group"]) == {"ordinary", "positive", "negative", "steered", "mean", "target"}
    mean = frame[frame["group"] == "mean"].sort_values("coefficient_norm")
    assert (np.diff(mean["target"]) > 0).all()
    ends = frame[frame["group"] == "target"]
    np.testing.assert_allclose(ends["across"], 0, atol=1e-6)
    assert frame[frame["group"] == "steered"]["point"].nunique() == 3


def test_planes_and_space_name_their_axes_with_shares(
    points: tuple[pd.DataFrame, dict[str, float]],
) -> None:
    frame, shares = points
    plane = figures.manifold_plane(frame, shares=shares)
    assert f"({shares['target']:.1%} of the variance)" in plane.layout.xaxis2.title.text
    assert plane.layout.yaxis.scaleanchor == "x"
    space = figures.manifold_space(frame, shares=shares)
    assert [each.name for each in space.frames] == ["-0.50", "+0.00", "+0.50"]
    assert len(space.layout.sliders[0].steps) == 3
    assert space.layout.meta["function"] == "manifold_space"


def test_distance_has_a_panel_a_layer_and_a_line_a_route(tiny: LM, manifolds: Manifolds) -> None:
    vector = made_up(tiny)
    frames = [
        geometry.displacement(tiny, vector, TEXTS, GRID, manifolds),
        geometry.asked(tiny, vector, TEXTS, manifolds, new_tokens=6),
    ]
    seen = pd.concat([manifold_views.relative(each) for each in frames], ignore_index=True)
    kind = manifolds.kinds[0]
    layer = seen["layer"].iloc[0]
    bound = manifolds.at(layer, kind).threshold()
    first = seen.iloc[0]
    assert first[f"relative_{kind}"] == pytest.approx(first[f"distance_{kind}"] / bound)
    figure = figures.distance_by_layer(seen, kind=kind)
    titles = {each.text for each in figure.layout.annotations}
    assert {f"layer {each}" for each in seen["layer"].unique()} <= titles
    assert {trace.name for trace in figure.data if trace.showlegend} == {
        "fixed texts, steered",
        "asked in the prompt",
    }


def test_maps_show_falls_from_no_steering() -> None:
    frame = pd.DataFrame(
        [(k, c, 1 + abs(c), -20 - 100 * c * c) for k in (0, 1) for c in GRID],
        columns=["layer", "coefficient_norm", "distance", "utility"],
    )
    figure = figures.layer_maps(frame)
    falls = np.array(figure.data[1].customdata)
    np.testing.assert_allclose(falls, [[25, 0, 25]] * 2)
    # Colours reach from the middle of the bound to the farthest.
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0.5, 1.5)
    near = figures.layer_maps(frame.assign(distance=0.8))
    assert (near.data[0].zmin, near.data[0].zmax) == (0.5, 1.0)


def test_three_measures_stand_over_one_axis() -> None:
    odds = pd.DataFrame(
        {"pair": [0, 0, 1, 1], "m": [0.0, 0.5] * 2, "utility": [-9.0, -30, -8, -20]}
    )
    texts = pd.DataFrame(
        {"prompt_index": [0, 0], "coefficient_norm": [0.0, 0.5], "coherence": [1.0, 0.3]}
    )
    seen = pd.DataFrame(
        {"text": [0, 0], "coefficient_norm": [0.0, 0.5], "relative_principal": [0.8, 1.1]}
    )
    frame = manifold_views.linked(odds, texts, seen)
    assert frame.groupby("measure").size().to_dict() == {
        "coherence": 2,
        "distance": 2,
        "utility": 4,
    }
    figure = figures.distance_link(frame)
    assert figure.layout.yaxis3.title.text.startswith("Distance")


def test_texts_that_all_score_0_leave_room_for_others() -> None:
    frame = pd.DataFrame(
        [(p, c, 0.0) for p in range(6) for c in (0.0, 0.5)],
        columns=["prompt_index", "coefficient_norm", "value"],
    )
    every = [frame.assign(measure=name) for name in ("utility", "coherence", "distance")]
    figure = figures.distance_link(pd.concat(every))
    for axis, highest in (("y", 0.0), ("y2", wilson(0, 6).high), ("y3", 0.0)):
        (shade,) = [each for each in figure.data if each.fill == "toself" and each.yaxis == axis]
        assert max(shade.y) == pytest.approx(highest)


def test_without_a_judge_the_share_of_intact_texts_stands_where_coherence_would() -> None:
    odds = pd.DataFrame({"pair": [0, 0], "m": [0.0, 0.5], "utility": [-9.0, -30]})
    texts = pd.DataFrame(
        {
            "prompt_index": [0, 0, 1, 1],
            "vector": "vector",
            "coefficient": [0.0, 0.5] * 2,
            "coefficient_norm": [0.0, 0.5] * 2,
            "text": "some words",
            "tokens": 40,
            "excess": [0.0, 3.0, 0.1, 0.1],
            "distinct_2": 1.0,
            "longest_repeat": 1,
        }
    )
    seen = pd.DataFrame(
        {"text": [0, 0], "coefficient_norm": [0.0, 0.5], "relative_principal": [0.8, 1.1]}
    )
    frame = manifold_views.linked(odds, texts, seen)
    shares = frame[frame["measure"] == "intact"].groupby("coefficient_norm")["value"].mean()
    assert shares.to_dict() == {0.0: 1.0, 0.5: 0.5}
    figure = figures.distance_link(frame)
    assert figure.layout.yaxis2.title.text.startswith("Intact")


def test_sensitivity_has_a_panel_a_way_to_spoil() -> None:
    frame = pd.DataFrame(
        [
            (k, kind, way, 0.8, 0.7, 0.9)
            for k in (0, 1)
            for kind in ("a", "b")
            for way in ("x", "y")
        ],
        columns=["layer", "kind", "spoiled", "auc", "low", "high"],
    )
    figure = figures.distance_sensitivity(frame)
    assert [each.text for each in figure.layout.annotations][:2] == ["x", "y"]


def test_the_test_across_vectors_is_a_row_a_predictor_within_layers() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "model": np.repeat(["a", "b"], 20),
            "layer": 0,
            "trait": np.tile(["x", "y", "z", "w"], 10),
            "method": "logistic",
            "norm:kl": rng.uniform(size=40),
            "cos_top": rng.uniform(size=40),
        }
    )
    frame["ceiling"] = 1 - frame["norm:kl"]
    frame["ceiling"] += frame["model"].map({"a": 0.0, "b": 9.0})  # which tells nothing of a vector
    figure = figures.across_vectors(frame)
    assert list(figure.layout.yaxis.ticktext) == ["KL", "|cos| to the first 8 components"]
    alone = {
        trace.name: trace
        for trace in figure.data
        if trace.marker.color != "white" and trace.x[0] is not None and trace.xaxis == "x"
    }
    assert alone["norm:kl"].x[0] == pytest.approx(-1)
    ranks = frame.groupby("model")[["ceiling", "cos_top"]].rank()
    rho = np.corrcoef(ranks.to_numpy().T)[0, 1]  # models are alike in size, and so in mean ranks
    assert alone["cos_top"].x[0] == pytest.approx(rho)
    bars = alone["cos_top"].error_x
    assert bars.array[0] > 0 < bars.arrayminus[0]
    # Given KL, which tells all, a cosine has nothing to add.
    (beside,) = [t for t in figure.data if t.name == "cos_top" and t.marker.color == "white"]
    assert beside.y[0] > alone["cos_top"].y[0]
    assert np.isnan(beside.x[0]) or abs(beside.x[0]) < 1e-6


def test_spoiled_texts_are_of_the_same_words_or_length(tiny: LM) -> None:
    found = manifold_checks.spoiled(tiny, TEXTS)
    assert set(found) == {"shuffled words", "loops", "random tokens"}
    for before, after in zip(TEXTS, found["shuffled words"], strict=True):
        assert sorted(before.split(" ")) == sorted(after.split(" "))
    assert manifold_checks.spoiled(tiny, TEXTS) == found


def test_a_layer_map_steers_at_every_layer(tiny: LM, manifolds: Manifolds) -> None:
    vector = made_up(tiny)
    both = replace(
        vector,
        directions={1: vector.directions[1], 2: vector.directions[1]},
        residual_norm={1: 30.0, 2: 30.0},
    )
    pairs = Pairs.from_lists(["yes", "good"], ["no", "bad"], ["A: ", "B: "], name="p", trait="t")
    found = manifold_views.layer_map(tiny, both, pairs, TEXTS[:2], GRID, manifolds, layers=[1, 2])
    assert len(found) == 6
    assert found["distance"].gt(0).all()


def test_forms_are_compared_over_kl() -> None:
    rows = [
        {"way": way, "m": m, "layer": 1, "kl": abs(m), "distance": 1 + abs(m), "fall": 3 * m}
        for way in ("vector <b>", "LoRA")
        for m in (-2.0, -1.0, 0.0, 1.0, 2.0)
    ]
    frame = pd.DataFrame(rows).assign(steered=True)
    figure = figures.distance_by_form(frame)
    drawn = [trace for trace in figure.data if len(trace.x) > 1]
    assert len(drawn) == 8  # two ways, two signs, two measures
    signs = [trace.name for trace in figure.data if len(trace.x) == 1]
    assert signs == ["coefficient &gt; 0", "coefficient &lt; 0"]
    below = [trace for trace in drawn if trace.line.dash == "dot" and trace.xaxis == "x2"]
    # Utility that rises is shown below 0.
    for trace in below:
        assert list(trace.customdata) == [-3.0, -6.0]
        np.testing.assert_allclose(trace.y, [-np.sqrt(3), -np.sqrt(6)])
    assert all(list(trace.x) == sorted(trace.x) for trace in drawn)
    assert "<b>" not in figure.data[0].name


def test_ways_of_steering_are_measured_each_on_its_grid(tiny: LM, manifolds: Manifolds) -> None:
    pairs = Pairs.from_lists(["yes", "good"], ["no", "bad"], ["A: ", "B: "], name="p", trait="t")
    vector = made_up(tiny)
    grids = {"far": [-2.0, 0.0, 2.0], "near": [0.0, 0.1]}
    found = manifold_views.by_form(
        tiny, {"far": vector, "near": vector}, pairs, TEXTS[:2], grids, manifolds
    )
    at_zero = found[found["m"] == 0]
    assert at_zero[["kl", "fall"]].abs().max(axis=None) < 1e-5
    here = found[found["steered"]]
    assert here["layer"].unique().tolist() == [1]
    assert here.groupby("way")["m"].apply(list).to_dict() == grids
    assert here.set_index(["way", "m"]).loc[("far", 2.0), "kl"] > 1e-3
