"""The search for a condition's point: against brute force, the library's own answer, and truth."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outside import SHARED
from sklearn.metrics import f1_score

from workbench.conditions.checks import auc, curves, firmness, held_out, stability
from workbench.conditions.point import ConditionPoint, judged
from workbench.conditions.search import find_condition_point, load_search
from workbench.conditions.search_reference import reference_condition_point

GOLDEN = SHARED / "golden" / "2_cast"
POINTS = json.loads((GOLDEN / "best_condition_point.json").read_text()) if GOLDEN.is_dir() else []


def classes(count: int = 60, layers: int = 4, gap: float = 1.5, seed: int = 0):
    """Similarities whose layer 2 tells the classes apart, and 1 the other way round."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2 == 0
    values = rng.standard_normal((count, layers))
    values[:, 2] += gap * labels
    values[:, 1] -= gap / 3 * labels
    return values, labels


def brute(values: np.ndarray, labels: np.ndarray, most: int) -> float:
    """The best F1 of every set, threshold and direction, one by one."""
    edges = np.unique(values)
    tried = np.concatenate([[edges[0] - 1], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1]])
    best = 0.0
    for size in range(1, most + 1):
        for some in itertools.combinations(range(values.shape[1]), size):
            for edge in tried:
                for fired in ((values[:, some] > edge), (values[:, some] < edge)):
                    best = max(best, f1_score(labels, fired.any(axis=1), zero_division=0))
    return best


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=4, max_size=9),
    st.integers(1, 3),
    st.randoms(),
)
def test_it_finds_what_brute_force_finds(rows: list[list[int]], most: int, random: Any) -> None:
    values = np.array(rows, dtype=float) / 7
    labels = np.array([random.random() < 0.5 for _ in rows])
    labels[0], labels[1] = True, False
    if np.ptp(values) == 0:
        return
    found = find_condition_point(values, labels, most_layers=most)
    assert found.best.f1 == pytest.approx(brute(values, labels, most))
    again = f1_score(labels, found.best.met(values, [0, 1, 2]), zero_division=0)
    assert again == pytest.approx(found.best.f1)
    assert found.best.ties >= 1
    assert found.table["f1"].max() == pytest.approx(found.best.f1)


def test_layer_and_direction_that_tell_are_found() -> None:
    values, labels = classes(gap=6.0)
    assert find_condition_point(values, labels).best.layers == (2,)
    turned = find_condition_point(-values, labels).best
    assert (turned.layers, turned.fires) == ((2,), "below")
    named = find_condition_point(values, labels, [3, 5, 7, 9]).best
    assert named.layers == (7,)
    only = find_condition_point(values, labels, fires="below").best
    assert only.fires == "below"
    assert only.f1 < named.f1


@pytest.mark.skipif(not POINTS, reason=f"golden numbers missing: {GOLDEN}")
@pytest.mark.parametrize("index", range(6))
def test_the_librarys_own_answer(index: int) -> None:
    wanted = POINTS[index]
    given = json.loads((GOLDEN / "condition_similarities.json").read_text())
    chosen = wanted["settings"]
    values = np.array(given[f"similarities_{chosen['condition_threshold_comparison_mode']}"])
    ends = chosen["layer_range"] or [0, len(given["layers"])]
    layers = [layer for layer in given["layers"] if ends[0] <= layer < ends[1]]
    found = reference_condition_point(
        values[:, [given["layers"].index(layer) for layer in layers]],
        [True] * len(given["positive"]) + [False] * len(given["negative"]),
        layers,
        tuple(chosen["threshold_range"]),
        chosen["threshold_step"],
        chosen["max_layers_to_combine"],
    )
    assert list(found.layers) == wanted["best_layers"]
    assert found.threshold == pytest.approx(wanted["best_threshold"], abs=1e-9)
    assert found.direction == wanted["best_direction"]
    assert found.f1 == pytest.approx(wanted["best_f1"], abs=1e-9)
    assert found.unrounded == pytest.approx(wanted["unrounded_threshold"], abs=1e-9)
    assert len(found.tied) == wanted["number_of_configurations_with_best_f1"]
    first = [[list(a), b, c] for a, b, c in found.tied[:20]]
    assert first == wanted["first_tied_configurations"]


def test_a_calibrated_point_keeps_to_its_rate_on_new_texts() -> None:
    """Over 200 draws of 199 calibrating texts the mean rate on new ones is the rate asked for."""
    rng = np.random.default_rng(0)
    point = ConditionPoint((0,), 0.0, "above", 1, 1, 1, 0, 1, 1)
    for fires in ("above", "below"):
        sided = ConditionPoint((0,), 0.0, fires, 1, 1, 1, 0, 1, 1)
        rates = []
        for _ in range(200):
            made = sided.calibrated(rng.standard_normal((199, 1)), [0], false_alarms=0.05)
            rates.append(made.met(rng.standard_normal((2000, 1)), [0]).mean())
        assert np.mean(rates) == pytest.approx(0.05, abs=0.004)
    assert np.isnan(point.calibrated(rng.standard_normal((99, 1)), [0], false_alarms=0.1).f1)
    with pytest.raises(ValueError, match="give at least 49"):
        point.calibrated(rng.standard_normal((48, 1)), [0], false_alarms=0.02)
    point.calibrated(rng.standard_normal((49, 1)), [0], false_alarms=0.02)
    with pytest.raises(ValueError, match="share between 0 and 1"):
        point.calibrated(rng.standard_normal((49, 1)), [0], false_alarms=2)


def test_held_out_measures_carry_intervals() -> None:
    values, labels = classes(400, gap=2.0)
    best = find_condition_point(values, labels).best
    fresh, named = classes(400, gap=2.0, seed=1)
    table = held_out(best, fresh, named, range(4)).set_index("measure")
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    met = best.met(fresh, range(4))
    assert table.loc["recall", "value"] == pytest.approx(met[named].mean())
    assert table.loc["false_alarms", "value"] == pytest.approx(met[~named].mean())
    assert table.loc["f1", "value"] == pytest.approx(f1_score(named, met))
    assert table.loc["auc", "low"] > 0.85
    roc, recalls = curves(best.score(fresh, range(4)), named)
    assert roc["recall"].iloc[-1] == 1
    assert np.trapezoid(roc["recall"], roc["false_alarms"]) if hasattr(np, "trapezoid") else True
    assert recalls["precision"].between(0, 1).all()


def test_the_area_is_one_half_for_noise_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(20):
        found = auc(rng.standard_normal(80), np.arange(80) % 2 == 0)
        held += found.low <= 0.5 <= found.high
    assert held >= 17
    assert auc([1.0, 2.0, 3.0], np.array([False, False, True])).value == 1


def test_a_choice_is_firm_only_where_there_is_something_to_find() -> None:
    firm = firmness(stability(*classes(gap=4.0), range(4), size=20))
    assert firm["layers"] == "2 above"
    assert firm["share"] > 0.9
    assert firm["threshold_low"] < firm["threshold_high"]
    loose = firmness(stability(*classes(gap=0.0), range(4), size=20))
    assert loose["share"] < 0.8
    # What resamples find is flattered; texts that were left out tell.
    assert loose["left_out"] < loose["f1"]


def test_a_search_is_saved_whole(tmp_path: Path) -> None:
    values, labels = classes()
    found = find_condition_point(values, labels, most_layers=2)
    again = load_search(found.save(tmp_path / "deep" / "search.json"))
    assert again.best == found.best
    assert again.settings == found.settings
    assert again.table.equals(found.table)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="no saved search"):
        load_search(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [True] * 6}, "all 6 texts are labelled True"),
        ({"labels": [False] * 6}, "all 6 texts are labelled False"),
        ({"labels": [True, False]}, r"give one per text, \(6,\)"),
        ({"labels": [True, False, 2] * 2}, "the label 2 is neither True nor False"),
        ({"fires": "up"}, "fires 'up' is unknown"),
        ({"similarities": np.ones((6, 2))}, "all similarities are 1"),
        ({"similarities": np.full((6, 2), np.nan)}, "text 0 at layer 4 is nan"),
        ({"similarities": np.ones((0, 2))}, "shape"),
        ({"layers": [4, 4]}, "a layer stands twice"),
        ({"layers": [4]}, "one column for each of the layers"),
        ({"most_layers": 3}, "most_layers"),
    ],
)
def test_what_tells_nothing_is_refused(change: dict[str, Any], said: str) -> None:
    given = {
        "similarities": np.arange(12.0).reshape(6, 2),
        "labels": [True, False] * 3,
        "layers": [4, 5],
    }
    with pytest.raises(ValueError, match=said):
        find_condition_point(**{**given, **change})


def test_too_many_sets_are_refused_before_they_are_made() -> None:
    values, labels = np.random.default_rng(0).standard_normal((6, 80)), [True, False] * 3
    with pytest.raises(ValueError, match="lower most_layers"):
        find_condition_point(values, labels, most_layers=5)


def test_no_layer_no_score() -> None:
    point = ConditionPoint((3,), 0.0, "above", 1, 1, 1, 0, 1, 1)
    with pytest.raises(ValueError, match=r"no similarities at the layers \[3\]"):
        judged(point, np.ones((2, 1)), [True, False], [0])
