"""breakage: short fluent texts are not flagged, empty ones are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from workbench.sweeps.breakage import RISE, intact


def texts(excess: np.ndarray, tokens: int, own: np.ndarray | None = None) -> pd.DataFrame:
    """Unsteered texts (greedy ones, by default), and steered ones of the given excess."""
    own = np.linspace(-0.5, -0.3, 9) if own is None else own
    coefficient = np.repeat([0.0, 1.0], [len(own), len(excess)])
    frame = pd.DataFrame({"coefficient": coefficient, "excess": np.concatenate([own, excess])})
    return frame.assign(
        prompt_index=frame.index, vector="vector", text="a text", tokens=tokens, distinct_2=1.0
    ).assign(longest_repeat=1)


def flags(frame: pd.DataFrame) -> list[bool]:
    return intact(frame).query("coefficient == 1")["gibberish"].tolist()


@pytest.mark.parametrize("tokens", [8, 32, 128])
def test_what_the_model_would_sample_is_not_gibberish_at_any_length(tokens: int) -> None:
    """The means of samples vary, the more so the shorter they are; a bound that knew nothing of it
    would call many short ones gibberish."""
    noise = np.random.default_rng(tokens)
    own, excess = (noise.normal(0, 2 * tokens**-0.5, n) for n in (400, 2000))
    assert sum(flags(texts(excess, tokens, own))) <= binom.ppf(0.999, 2000, 0.005)
    assert (excess > RISE).sum() > (0 if tokens == 128 else 100)
    assert flags(texts(np.array([4.0]), tokens, own)) == [True]


def test_chance_counts_by_length() -> None:
    """Of texts that vary alike by token, the same excess is chance in few and none in many."""
    own = np.tile([-0.5, 0.5], 20)
    frame = texts(np.array([0.8, 0.8]), 16, own)
    frame.loc[len(frame) - 1, "tokens"] = 400
    assert flags(frame) == [False, True]


def test_bounds_are_said() -> None:
    frame = texts(np.array([RISE - 0.41, RISE - 0.39]), 900)
    bounds = intact(frame).attrs["thresholds"]
    assert bounds["excess"] == pytest.approx(-0.4)
    assert bounds["rise"] == RISE
    assert bounds["chance"] == pytest.approx(30 * 3 * 1.4826 * 0.05)
    assert bounds["longest_repeat"] == 0.5
    assert bounds["distinct_2"] == 0.5
    assert flags(frame) == [False, True]


@pytest.mark.parametrize(
    "change",
    [{"text": ""}, {"text": " \n"}, {"text": None}, {"tokens": 0}, {"excess": np.nan}],
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
