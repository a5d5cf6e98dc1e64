"""Figures of a condition, and its analysis in a folder: what is drawn, and that it is so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from architectures import SENTENCES
from made_up import made_up

from workbench import figures
from workbench.conditions.condition import similarities
from workbench.conditions.search import find_condition_point, load_search
from workbench.loading.models import LM
from workbench.reporting import condition_analysis, report
from workbench.support import tables
from workbench.vectors.steering_vector import SteeringVector

CLASSES = ("<b>harmful", "harmless")


@pytest.fixture
def streams() -> tuple[np.ndarray, np.ndarray]:
    """Mean streams (60, 5, 8) whose classes lie apart along one axis, and labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2 == 1
    means = rng.normal(size=(60, 5, 8))
    means[:, :, 3] += 9 * labels[:, None]
    return means, labels


def test_planes_hold_the_variance_that_they_say(streams) -> None:
    means, labels = streams
    frame = condition_analysis.planes(means, labels, [0, 1, 2, 5, 7], CLASSES)
    assert list(frame["layer"].unique()) == [0, 1, 2, 5, 7]
    assert frame["class"].iloc[0] == CLASSES[0]
    for index, (_, own) in enumerate(frame.groupby("layer")):
        total = means[:, index].var(axis=0).sum()
        for name in ("first", "second"):
            assert own[name].var(ddof=0) / total == pytest.approx(own[f"{name}_share"].iloc[0])
            by_class = own.groupby("class")[name].mean()
            assert by_class[CLASSES[0]] > by_class[CLASSES[1]]
        assert own["first"].corr(own["second"]) == pytest.approx(0, abs=1e-9)
        met = own["class"] == CLASSES[0]
        assert own.loc[met, "first"].min() > own.loc[~met, "first"].max()


def test_planes_have_a_panel_a_layer_to_one_scale(streams) -> None:
    means, labels = streams
    frame = condition_analysis.planes(means, labels, [0, 1, 2, 5, 7], CLASSES)
    figure = figures.class_planes(frame)
    assert [each.text for each in figure.layout.annotations] == [
        f"Layer {layer}" for layer in (0, 1, 2, 5, 7)
    ]
    assert [each.name for each in figure.data if each.showlegend] == [
        "&lt;b&gt;harmful",
        "harmless",
    ]
    assert sum(len(trace.x) for trace in figure.data) == len(frame)
    share = frame.loc[frame["layer"] == 7, "first_share"].iloc[0]
    assert figure.layout.xaxis5.title.text == f"PC 1 ({share:.0%})"
    assert all(
        figure.layout[axis].scaleanchor == axis.replace("yaxis", "x")
        for axis in ("yaxis", "yaxis3", "yaxis5")
    )


def test_variance_has_a_line_a_component() -> None:
    frame = pd.DataFrame(
        [(k, name, s) for k in (3, 1) for name, s in (("PC 1", k / 10), ("PC 2", 0.05))],
        columns=["layer", "component", "share"],
    )
    figure = figures.variance_by_layer(frame)
    assert [trace.name for trace in figure.data] == ["PC 1", "PC 2"]
    assert list(figure.data[0].x) == [1, 3]
    assert list(figure.data[0].y) == [0.1, 0.3]


@pytest.mark.parametrize(("fires", "inside"), [("above", 0.75), ("below", 0.25)])
def test_no_bar_reaches_across_the_threshold(fires: str, inside: float) -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.uniform(0.3, 1, 100), rng.uniform(-1, 0.3, 300)])
    frame = pd.DataFrame(
        {
            "layer": 2,
            "class": np.repeat(["yes", "no"], [100, 300]),
            "similarity": values,
        }
    )
    figure = figures.similarity_histograms(frame, threshold=0.3, fires=fires)
    yes, no = figure.data
    for bars, above in ((yes, 1.0), (no, 0.0)):
        assert np.sum(bars.y) == pytest.approx(1)  # shares of a class, whatever its size
        left = np.asarray(bars.x) - np.asarray(bars.width) / 2
        assert np.isclose(left, 0.3).any()
        assert np.asarray(bars.y)[left > 0.3 - 1e-9].sum() == pytest.approx(above)
    shade = figure.layout.shapes[0]
    assert shade.x0 <= inside <= shade.x1
    assert 0.3 in (shade.x0, shade.x1)


def test_a_condition_is_drawn_against_one_other_class() -> None:
    frame = pd.DataFrame({"layer": 0, "class": ["a", "b", "c"], "similarity": [0.0, 1.0, 2.0]})
    with pytest.raises(ValueError, match="3 classes"):
        figures.similarity_histograms(frame, threshold=0.5)


def test_curves_are_of_the_direction_that_the_making_texts_chose() -> None:
    labels = np.array([True] * 5 + [False] * 15)
    falling = -np.arange(20.0)
    scores = {
        "gate": (falling, falling),
        "upside down": (falling, -falling),
        "flat": (falling, np.zeros(20)),
    }
    frame = condition_analysis.told(scores, labels, labels)
    assert frame.groupby("score")["auc"].first().to_dict() == {
        "gate": 1,
        "upside down": 0,
        "flat": 0.5,
    }
    rows = frame[(frame["curve"] == "precision") & (frame["score"] == "flat")]
    assert rows["y"].iloc[0] == 0.25
    figure = figures.gate_curves(frame)
    assert {trace.name for trace in figure.data if trace.showlegend} == {
        "gate (1.000)",
        "upside down (0.000)",
        "flat (0.500)",
    }
    assert list(figure.data[1].y) == [0.25, 0.25]  # what a blind score reaches
    gate = [trace for trace in figure.data if trace.name == "gate (1.000)"]
    assert {trace.line.shape for trace in gate} == {"linear", "hv"}
    # Of what never fires there is no precision.
    assert all(min(trace.x) > 0 for trace in figure.data[2:] if trace.line.shape == "hv")


@pytest.fixture
def both(tiny: LM) -> SteeringVector:
    """Directions at two layers."""
    made = made_up(tiny)
    one = made.directions[1]
    return replace(made, directions={0: one, 1: one.flip(0)}, residual_norm={0: 30.0, 1: 30.0})


def test_an_analysis_is_a_folder(
    tiny: LM, both: SteeringVector, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.images, "render", lambda files: False)  # what is written, not drawn
    making, others = list(SENTENCES[:6]), [f"{text} again" for text in SENTENCES[:6]]
    labels = np.arange(6) % 2 == 0
    found = condition_analysis.save_analysis(
        tmp_path, tiny, both, making, labels, others, labels, classes=("even", "odd")
    )
    seen = similarities(tiny, making, both).numpy()
    assert found.search.best == find_condition_point(seen, labels, (0, 1)).best
    assert load_search(tmp_path / "condition-search.json").best == found.search.best
    beside = tables.load_table("condition-beside", directory=tmp_path)
    assert beside["score"].iloc[0] == "gate"
    firm = tables.load_table("condition-firm", directory=tmp_path)
    assert 0 < firm["share"].iloc[0] <= 1
    assert {"characters", "words"} <= set(beside["score"])
    record = json.loads((tmp_path / "figures" / "condition-curves.json").read_text())
    assert record["threshold"] == found.search.best.threshold
    areas = tables.read_csv(tmp_path / "figures" / "condition-curves.csv")
    areas = areas.groupby("score")["auc"].first()
    for name, area in beside.set_index("score")["auc"].items():
        assert areas[name] == pytest.approx(area)
    names = [f"condition-{each}" for each in ("curves", "planes", "similarities", "variance")]
    assert report.redraw(tmp_path) == names
    assert sorted(found.figures) == ["curves", "planes", "similarities", "variance"]


def test_a_point_lies_among_the_layers_that_are_searched(
    tiny: LM, both: SteeringVector, tmp_path, caplog
) -> None:
    caplog.set_level("INFO", "workbench.reporting.condition_analysis")
    texts = [f"{'a b' if index % 2 else 'c'} {index}" for index in range(12)]
    labels = np.arange(12) % 2 == 0
    for layer in (0, 1):
        found = condition_analysis.save_analysis(
            tmp_path, tiny, both, texts, labels, texts, labels, search_layers=[layer],
            prefix=f"{layer}_",
        )  # fmt: skip
        assert found.search.best.layers == (layer,)
        assert f"layers [{layer}], fires" in caplog.messages[-1]
        planes = tables.read_csv(tmp_path / "figures" / f"{layer}_planes.csv")
        assert set(planes["layer"]) == {0, 1}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"search_layers": [2]}, r"search_layers \[2\] are not among the layers shown"),
        ({"search_layers": 1}, "search_layers is 1; give a list"),
        ({"search_layers": []}, r"search_layers is \[\]; give a list"),
        ({"layers": 1}, r"give layers=\[1\]"),
        ({"most_layers": 0}, "most_layers"),
        ({"most_layers": 3}, "most_layers"),
        ({"similarity": "probe"}, "a probe has a bias"),
    ],
)
def test_an_analysis_that_cannot_be_is_refused_before_the_model_runs(
    tiny: LM, both: SteeringVector, tmp_path, how: dict, message: str
) -> None:
    def ran(*_: object) -> None:
        raise AssertionError("the model ran before the input was checked")

    labels = np.arange(4) % 2 == 0
    handle = tiny.model.register_forward_pre_hook(ran)
    try:
        with pytest.raises(ValueError, match=message):
            condition_analysis.save_analysis(
                tmp_path, tiny, both, ["a"] * 4, labels, ["b"] * 4, labels, **how
            )
    finally:
        handle.remove()
    assert not list(tmp_path.iterdir())


def test_two_classes_have_two_names(tiny: LM, both: SteeringVector, tmp_path) -> None:
    with pytest.raises(ValueError, match="two different names"):
        condition_analysis.save_analysis(
            tmp_path, tiny, both, ["a"], [True], ["b"], [True], classes=("x", "x")
        )
    assert not list(tmp_path.iterdir())
