"""breakage: short fluent texts are not flagged, empty ones are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from workbench.breakage import SURPRISE_Z, intact


def texts(surprise: np.ndarray, tokens: int) -> pd.DataFrame:
    """Unsteered greedy texts, and steered ones of the given surprises."""
    steered = pd.DataFrame({"coefficient": 1.0, "surprise": surprise})
    frame = pd.concat(
        [pd.DataFrame({"coefficient": 0.0, "surprise": np.linspace(-0.5, -0.3, 9)}), steered],
        ignore_index=True,
    )
    return frame.assign(
        prompt_index=frame.index, vector="vector", text="a text", tokens=tokens, distinct_2=1.0
    ).assign(longest_repeat=1)


@pytest.mark.parametrize("tokens", [8, 32, 128])
def test_what_the_model_would_sample_is_not_gibberish_at_any_length(tokens: int) -> None:
    """Surprises of samples have a standard deviation of 1 / sqrt(tokens); a bound of 0 would call
    half of them gibberish."""
    surprise = np.random.default_rng(tokens).normal(0, tokens**-0.5, 2000)
    flagged = intact(texts(surprise, tokens)).query("coefficient == 1")["gibberish"]
    assert flagged.sum() <= binom.ppf(0.999, 2000, 0.02275)
    assert (surprise > 0).mean() > 0.45
    assert intact(texts(np.array([2.0]), tokens))["gibberish"].iloc[-1]


def test_bounds_are_said() -> None:
    bounds = intact(texts(np.array([0.0]), 9)).attrs["thresholds"]
    assert bounds["surprise_z"] == SURPRISE_Z == 2.0
    assert bounds["longest_repeat"] == 0.5
    assert bounds["distinct_2"] == 0.5
    assert bounds["surprise"] < 0
    # Two standard deviations of nine tokens are a surprise of two thirds.
    flags = intact(texts(np.array([0.66, 0.67]), 9))["gibberish"].tolist()[-2:]
    assert flags == [False, True]


@pytest.mark.parametrize(
    "change",
    [{"text": ""}, {"text": " \n"}, {"text": None}, {"tokens": 0}, {"surprise": np.nan}],
    ids=["empty", "blank", "missing", "no tokens", "unknown"],
)
def test_an_empty_text_is_not_intact(change: dict[str, object]) -> None:
    frame = texts(np.array([0.0, 0.0]), 32).astype({"text": object, "tokens": float})
    for column, value in change.items():
        frame.loc[len(frame) - 1, column] = value
    judged = intact(frame)
    assert judged["intact"].tolist()[-2:] == [True, False]
    assert judged["empty"].tolist()[-2:] == [False, True]
    assert not judged["gibberish"].any()


def test_one_token_has_no_pairs_to_repeat() -> None:
    frame = texts(np.array([0.0]), 1).assign(distinct_2=np.nan, longest_repeat=0)
    assert intact(frame)["intact"].all()
