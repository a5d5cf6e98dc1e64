"""The reference's coefficient selection (ALERT), against numbers that its own code gave."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from outside import SHARED
from safetensors.torch import load_file

from workbench.loading.models import LM
from workbench.sweeps.alert import alert_as_coded
from workbench.sweeps.sweep import sweep
from workbench.vectors.steering_vector import SteeringVector

GOLDEN = SHARED / "golden" / "5_alert"
# Greedy ids are only comparable up to the first close decision.
CLOSE = 1e-3


def golden() -> list[dict[str, Any]]:
    if not GOLDEN.is_dir():
        pytest.skip("../shared/golden/5_alert is missing")
    return json.loads((GOLDEN / "alert.json").read_text())


def vector_of(stories: LM) -> SteeringVector:
    tensors = load_file(GOLDEN / "vector.safetensors")
    directions = {int(name.split(".")[1]): tensor for name, tensor in tensors.items()}
    return SteeringVector(directions, {}, "stories260K", "", "pca_center", layer=1)


@pytest.fixture(scope="module", params=[0, 1])
def both(request: pytest.FixtureRequest, stories: LM) -> tuple[dict[str, Any], pd.DataFrame]:
    """One golden sweep, and ours with the same vector, layers, prompt and coefficients."""
    reference = golden()[request.param]
    frame = sweep(
        stories,
        vector_of(stories),
        [reference["input_text"]],
        reference["coefficients"],
        unit="raw",
        layers=reference["layers"],
        new_tokens=reference["token_count"],
        progress=False,
    )
    return reference, frame


def test_texts_are_those_of_the_reference(both: tuple[dict[str, Any], pd.DataFrame]) -> None:
    reference, frame = both
    assert len(frame) == 10
    for text, ours in zip(reference["texts"], frame.itertuples(), strict=True):
        assert text["min_margin"] > CLOSE  # so every token must agree
        # A text decoded alone loses the space before its first word.
        assert (ours.prompt + ours.text).replace(" ", "") == text["text"].replace(" ", "")
        assert ours.tokens == len(text["ids"]) - text["prompt_len"]


def test_alert_is_the_unshifted_score_as_coded(
    both: tuple[dict[str, Any], pd.DataFrame],
) -> None:
    reference, frame = both
    expected = [text["alert_unshifted_mean_logprob"] for text in reference["texts"]]
    np.testing.assert_allclose(frame["alert"], expected, rtol=0, atol=1e-4)


def test_log_probability_is_the_shifted_score(both: tuple[dict[str, Any], pd.DataFrame]) -> None:
    reference, frame = both
    expected = [text["shifted_mean_logprob_new_tokens"] for text in reference["texts"]]
    np.testing.assert_allclose(frame["logprob_unsteered"], expected, rtol=0, atol=1e-5)


def test_the_drop_is_found_where_the_reference_found_it(
    both: tuple[dict[str, Any], pd.DataFrame],
) -> None:
    reference, frame = both
    found = alert_as_coded(frame, threshold=reference["drop_threshold"])
    assert found.index == reference["find_significant_drop_index"]
    assert found.upper_bound == pytest.approx(reference["upper_bound"], abs=1e-12)
    expected = [text["alert_normalised"] for text in reference["texts"]]
    np.testing.assert_allclose(found.normalised, expected, rtol=0, atol=1e-4)


def test_parity_is_strict_enough_to_see_the_shift(
    both: tuple[dict[str, Any], pd.DataFrame],
) -> None:
    """Scores over the new tokens alone, or shifted, would miss the golden values by far."""
    reference, frame = both
    expected = torch.tensor([text["alert_unshifted_mean_logprob"] for text in reference["texts"]])
    assert float((torch.tensor(frame["logprob_unsteered"].to_numpy()) - expected).abs().min()) > 0.1
