"""Gain and cost of ways of steering, from numbers that are known."""

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import build

from workbench import figures, odds
from workbench.contrast.pairs import Pairs
from workbench.interventions.updates import Add, Intervention
from workbench.preference.gain_cost import compare, paths


def odds_of(slope: float) -> pd.DataFrame:
    """Three pairs whose preference rises by `slope` and one, two or three nats a multiple, and
    whose likelihood falls by half a nat a multiple."""
    rows = [
        (pair, m, pair + m * (slope + pair + 1), -1.0 - pair - 0.5 * abs(m))
        for pair in range(3)
        for m in (0.0, 1.0, 2.0)
    ]
    return pd.DataFrame(rows, columns=["pair", "m", "preference", "likelihood"])


def test_gain_is_counted_from_unsteered_and_cost_too():
    frame = pd.concat([odds_of(0).assign(way="a"), odds_of(1).assign(way="b")])
    found = paths(frame).set_index(["way", "m"])
    assert found.loc[("a", 0.0), "gain"] == 0
    assert found.loc[("a", 2.0), "gain"] == pytest.approx(4.0)
    assert found.loc[("b", 2.0), "gain"] == pytest.approx(6.0)
    assert found.loc[("b", 2.0), ["cost", "cost_low", "cost_high"]].tolist() == pytest.approx(
        [1.0] * 3
    )
    low, high = found.loc[("a", 2.0), ["gain_low", "gain_high"]]
    assert 2 <= low < 4 < high <= 6
    assert (found["pairs"] == 3).all()


def test_the_figure_has_a_curve_for_each_way_and_escapes_names():
    frame = paths(pd.concat([odds_of(0).assign(way="<a>"), odds_of(1).assign(way="b")]))
    figure = figures.preference_against_cost(frame)
    assert [trace.name for trace in figure.data] == ["&lt;a&gt;", "b"]
    np.testing.assert_allclose(figure.data[1].y, frame[frame["way"] == "b"]["gain"])
    first, second = figure.data
    # One on which the other lies is seen around it, and points grow with the multiple.
    assert first.line.width > second.line.width
    assert first.marker.symbol != second.marker.symbol
    assert np.all(np.array(first.marker.size) > np.array(second.marker.size))
    assert np.all(np.diff(first.marker.size) > 0)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="no column 'way'"):
        paths(odds_of(0))
    with pytest.raises(ValueError, match="'a' has several rows of one pair and m"):
        paths(pd.concat([odds_of(0), odds_of(1)]).assign(way="a"))
    with pytest.raises(ValueError, match="'a' has no row of m = 0"):
        paths(odds_of(0).query("m > 0").assign(way="a"))


def test_ways_are_measured_and_told_in_one_call() -> None:
    lm = build("llama")
    pairs = Pairs.from_lists([" good", " fine"], [" bad", " poor"], ["It is", "That was"])
    way = {"one": [Intervention(1, Add(torch.ones(lm.width)), 1.0)]}
    by_hand = paths(odds(lm, way["one"], pairs, [0, 0.5], quiet=True).assign(way="one"))
    pd.testing.assert_frame_equal(compare(lm, way, pairs, [0, 0.5]), by_hand)
    pd.testing.assert_frame_equal(compare(lm, way, pairs, {"one": [0, 0.5]}), by_hand)
    with pytest.raises(ValueError, match="multipliers are of"):
        compare(lm, way, pairs, {"two": [0, 1]})
