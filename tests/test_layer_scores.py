"""Scores of layers against plain computations, and the choice among equals."""

import math

import numpy as np
import pandas as pd
import pytest

from workbench.extraction.layer_scores import (
    best_layer,
    best_layers,
    d_prime_interval,
    d_prime_said,
    share_interval,
)


def plain_d_prime(high: np.ndarray, low: np.ndarray) -> float:
    return (high.mean() - low.mean()) / math.sqrt((high.var(ddof=1) + low.var(ddof=1)) / 2)


def test_d_prime_is_the_plain_one_inside_its_interval() -> None:
    """The sides of a pair share a part, far from 0, that whole pairs keep together."""
    generator = np.random.default_rng(0)
    shared = 1000 + 5 * generator.normal(size=60)
    high, low = shared + generator.normal(size=60) + 2, shared + generator.normal(size=60)
    found = d_prime_interval(high, low)
    assert found.value == pytest.approx(plain_d_prime(high, low))
    drawn = generator.integers(0, 60, size=(2000, 60))
    plain = np.percentile([plain_d_prime(high[i], low[i]) for i in drawn], [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx(tuple(plain), abs=0.03)
    assert found.count == 60


def test_d_prime_without_spread_or_pairs_is_unknown() -> None:
    assert math.isnan(d_prime_interval(np.ones(5), np.zeros(5)).value)
    assert math.isnan(d_prime_interval(np.ones(1), np.zeros(1)).value)


def test_ties_count_against_and_for() -> None:
    """Wilson's ends for 8 of 10 are .490 and .943 (Newcombe 1998, method 3)."""
    assert share_interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    low, high = share_interval(0.75, 10)  # 7 pairs and one tie
    assert low == pytest.approx(share_interval(0.7, 10)[0])
    assert high == pytest.approx(share_interval(0.8, 10)[1])


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "layer": [2, 1, 0, 0, 1, 2],
            "d_prime": [3.0, 3.0, 1.0, float("nan"), 0.5, 0.2],
            "d_prime_low": [-0.5] * 6,
            "d_prime_high": [4.0] * 6,
            "pair_accuracy": [1.0, 0.9, 0.5, 0.5, 0.6, 0.5],
            "pair_accuracy_low": [0.5] * 6,
            "pair_accuracy_high": [1.0] * 6,
            "gap": [0.1] * 6,
            "method": ["a"] * 3 + ["b"] * 3,
        },
        index=[0] * 6,
    )


def test_the_best_layer_is_the_lower_of_equals() -> None:
    assert best_layer(table(), "d_prime")["layer"] == 1
    assert best_layer(table(), "pair_accuracy")["layer"] == 2
    with pytest.raises(ValueError, match="no layer has a value of 'd_prime'"):
        best_layer(table().assign(d_prime=float("nan")), "d_prime")


def test_best_layers_of_each_method_with_intervals() -> None:
    best = best_layers(table(), by="method")
    assert best["best layer"].tolist() == [1, 1]
    assert best["pairs told apart"].tolist() == ["90%", "60%"]
    assert best["pairs, 95 % interval"].tolist() == ["50% to 100%"] * 2
    assert best["d′, 95 % interval"].tolist() == ["−0.50 to 4.00"] * 2
    first = best.iloc[0]
    said = d_prime_said(best, "method", first["method"])
    assert said == f"{first['d′']:.2f} [−0.50 to 4.00]"
    assert d_prime_said(best, "method", "none") == "not known"
