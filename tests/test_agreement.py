"""Agreement of judges: kappa against scikit-learn's, and the interval against many samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from workbench.judges import agreement


def frame(trait, coherence=None) -> pd.DataFrame:
    coherence = [0.5] * len(trait) if coherence is None else coherence
    return pd.DataFrame({"trait": trait, "coherence": coherence}, dtype=float)


def ratings(count: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two raters of the same texts, 1 to 10."""
    truth = rng.normal(size=count)
    both = [truth + noise * rng.normal(size=count) for _ in range(2)]
    first, second = (np.clip(np.round(5.5 + 2 * each), 1, 10).astype(int) for each in both)
    return first, second


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_kappa_is_that_of_the_table_of_ratings(noise: float) -> None:
    first, second = ratings(60, noise, np.random.default_rng(1))
    expected = cohen_kappa_score(first, second, weights="quadratic")
    found = agreement(frame(2 * (first - 1) / 9 - 1), frame(2 * (second - 1) / 9 - 1))
    assert found.loc["trait", "kappa"] == pytest.approx(expected)
    assert found.loc["trait", "low"] <= expected <= found.loc["trait", "high"]
    assert found.columns.tolist() == ["kappa", "low", "high", "texts", "groups", "left_out"]


def test_a_judge_that_is_always_stricter_agrees_less() -> None:
    scores = np.linspace(-0.5, 1, 20)
    same = agreement(frame(scores), frame(scores)).loc["trait"]
    assert (same["kappa"], same["low"], same["high"]) == (1, 1, 1)
    shifted = agreement(frame(scores), frame(scores - 0.5)).loc["trait", "kappa"]
    variance = scores.var()
    assert shifted == pytest.approx(2 * variance / (2 * variance + 0.25))


def test_what_one_judge_did_not_rate_is_left_out_and_counted() -> None:
    a = frame([0.1, 0.5, np.nan, -1, 0.3])
    b = frame([0.2, 0.4, 0.9, -0.8, np.nan])
    found = agreement(a, b).loc["trait"]
    kept = agreement(a.iloc[[0, 1, 3]], b.iloc[[0, 1, 3]]).loc["trait"]
    assert (found["texts"], found["left_out"]) == (3, 2)
    assert found["kappa"] == kept["kappa"]


def test_nothing_varies_or_nothing_is_rated() -> None:
    constant = agreement(frame([0.3] * 4), frame([0.3] * 4))
    assert np.isnan(constant.loc["trait", ["kappa", "low", "high"]].astype(float)).all()
    nothing = agreement(frame([np.nan] * 3), frame([0.1, 0.2, 0.3])).loc["trait"]
    assert np.isnan(nothing["kappa"])
    assert (nothing["texts"], nothing["groups"], nothing["left_out"]) == (0, 0, 3)


def test_the_interval_covers_as_it_says_and_groups_widen_it() -> None:
    rng = np.random.default_rng(2)
    known = cohen_kappa_score(*ratings(200_000, 0.7, rng), weights="quadratic")
    hits, runs = 0, 100
    for seed in range(runs):
        first, second = ratings(80, 0.7, rng)
        row = agreement(frame(first / 10), frame(second / 10), size=300, seed=seed).loc["trait"]
        hits += row["low"] <= known <= row["high"]
    assert 88 <= hits <= 100  # 95 expected; below 88 has a chance of 1 in 300
    first, second = ratings(30, 0.7, rng)
    copies = frame(np.repeat(first / 10, 4)), frame(np.repeat(second / 10, 4))
    alone, grouped = agreement(*copies), agreement(*copies, groups=np.repeat(np.arange(30), 4))
    width = [table.loc["trait", "high"] - table.loc["trait", "low"] for table in (alone, grouped)]
    assert width[1] > 1.5 * width[0]
    assert grouped.loc["trait", "groups"] == 30
    assert grouped.loc["trait", "kappa"] == pytest.approx(alone.loc["trait", "kappa"])


def test_frames_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="3 scores against 2"):
        agreement(frame([0, 0, 1]), frame([0, 1]))
    with pytest.raises(ValueError, match="b has no column 'coherence'"):
        agreement(frame([0, 1]), frame([0, 1]).drop(columns="coherence"))
    with pytest.raises(ValueError, match=r"groups of shape \(1,\) for 2 texts"):
        agreement(frame([0, 1]), frame([0, 1]), groups=["a"])
