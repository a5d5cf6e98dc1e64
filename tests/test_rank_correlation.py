"""Rank correlations over made-up vectors of which it is known what tells their ceilings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from workbench.statistics.rank_correlation import rank_correlation

TRAITS, MODELS = [f"trait {i}" for i in range(6)], ["a", "b", "c", "d"]


def made_up(own: float, through_kl: float, seed: int = 0, layer: float = 0.0) -> pd.DataFrame:
    """Vectors whose log ceiling falls by `own` with the distance beside KL, and whose KL falls with
    it by 1; distance goes with KL by `through_kl`. Layers differ in both by `layer`."""
    rng = np.random.default_rng(seed)
    rows = []
    for trait in TRAITS:
        shared = 0.3 * rng.standard_normal()
        for model in MODELS:
            for place in range(3):
                for _ in range(4):
                    kl = rng.standard_normal()
                    distance = through_kl * kl + rng.standard_normal() + layer * place
                    ceiling = shared - kl - own * distance + 0.3 * rng.standard_normal()
                    ceiling -= layer * place
                    rows.append((trait, model, place, np.exp(ceiling), distance, np.exp(kl)))
    columns = ["trait", "model", "layer", "ceiling", "distance", "kl"]
    return pd.DataFrame(rows, columns=columns)


def test_it_is_spearmans_where_nothing_is_given() -> None:
    frame = made_up(0.5, 0.5)
    found = rank_correlation(frame, "ceiling", "distance")
    assert found.value == pytest.approx(spearmanr(frame["ceiling"], frame["distance"])[0])
    assert found.low < found.value < found.high
    assert found.count == len(frame)


def test_a_distance_that_adds_something_keeps_its_correlation() -> None:
    found = rank_correlation(made_up(1.0, 0.5), "ceiling", "distance", given=["kl"])
    assert found.high < -0.5


def test_a_distance_that_only_goes_with_kl_adds_nothing() -> None:
    frame = made_up(0.0, 1.0)
    assert rank_correlation(frame, "ceiling", "distance").high < -0.4
    beside = rank_correlation(frame, "ceiling", "distance", given=["kl"])
    assert beside.low < 0 < beside.high
    assert abs(beside.value) < 0.15


def test_what_differs_between_layers_alone_tells_nothing_within_them() -> None:
    frame = made_up(0.0, 0.0, layer=5.0)
    assert rank_correlation(frame, "ceiling", "distance").high < -0.5
    within = rank_correlation(frame, "ceiling", "distance", strata=["model", "layer"])
    assert within.low < 0 < within.high


def test_intervals_hold_nothing_as_often_as_they_say() -> None:
    """Of distances that tell nothing, at least nine in ten intervals hold 0."""
    held = 0
    for seed in range(20):
        found = rank_correlation(made_up(0.0, 0.0, seed), "ceiling", "distance", size=100)
        held += found.low <= 0 <= found.high
    assert held >= 18


def test_infinite_ceilings_are_the_largest_and_gaps_are_left_out() -> None:
    frame = made_up(1.0, 0.0)
    far = frame.assign(ceiling=frame["ceiling"].where(frame["ceiling"].rank() < 200, np.inf))
    assert rank_correlation(far, "ceiling", "distance", size=20).value < -0.4
    gap = frame.assign(kl=frame["kl"].where(frame.index % 2 == 0))
    assert rank_correlation(gap, "ceiling", "distance", given=["kl"], size=20).count == 144
    few = rank_correlation(frame.head(5), "ceiling", "distance")
    assert np.isnan(few.value)
    constant = rank_correlation(frame.assign(kl=1.0), "ceiling", "kl", size=20)
    assert np.isnan(constant.value)
    with pytest.raises(ValueError, match="lacks the columns"):
        rank_correlation(frame, "ceiling", "nothing")
