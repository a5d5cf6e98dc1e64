"""Whether benchmarks/answers.py counts rightly, on sweeps whose every answer is known."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SIDE = np.geomspace(0.08, 1.6, 16)
GRID = np.concatenate([-SIDE[::-1], [0.0], SIDE])
PROMPTS = 16


@pytest.fixture(scope="module")
def answers() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("answers")
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("answers", None)


def studied(seen: float, real: float, effect: float = 0.8) -> pd.DataFrame:
    """A sweep whose texts look broken from `seen` on, and are so from `real` on, at the 24th of 48
    tokens; below, the trait is `effect` times the coefficient."""
    rng = np.random.default_rng(0)
    rows = []
    for prompt in range(PROMPTS):
        spread = np.exp(0.1 * (prompt - (PROMPTS - 1) / 2) / PROMPTS)
        answer = effect * (1 + 0.1 * rng.standard_normal())
        for c in GRID:
            looks, broken = abs(c) > seen * spread, abs(c) > real * spread
            rows.append(
                {
                    "prompt_index": prompt,
                    "coefficient_norm": c,
                    "tokens": 48,
                    "excess": 3.0 if looks else 0.0,
                    "drift": 100.0 if looks else 1.0,
                    "drift_from": 24 if looks else 48,
                    "repeat_from": 48,
                    "distinct_2": 0.95,
                    "longest_repeat": 3,
                    "empty": False,
                    "coherence": 0.2 if broken else 1.0,
                    "kept": 0.5 if broken else 1.0,
                    "shown": 0.0 if broken else float(np.clip(answer * c, -1, 1)),
                }
            )
    return pd.DataFrame(rows)


def known(answers: Any, seen: float = 0.5, real: float = 0.5, **options: Any) -> Any:
    texts = studied(seen, real, **options)
    return answers.Known("wren", "mood", "mean_difference", texts, {1: real, -1: real})


def test_a_detector_that_sees_what_is_so_is_right_in_all(answers: Any) -> None:
    right = [known(answers)]
    assert answers.coverage(right)["covered"] == 1
    silent = answers.no_collapse(right)
    assert silent["no_collapse"] == 1
    assert silent["no_collapse_of"] == 8
    broken = answers.breaking(right)
    assert broken["breaks_told"] == 1
    assert broken["breaks_place_off"] == 0
    assert broken["error_at_48_tokens_0.5"] == 0


def test_one_that_sees_collapse_too_early_is_caught(answers: Any) -> None:
    early = [known(answers, seen=0.2, real=0.5)]
    assert answers.coverage(early)["covered"] == 0
    silent = answers.no_collapse(early)
    assert silent["no_collapse_at_0.3"] == 1
    assert silent["no_collapse_at_0.7"] == 0
    assert answers.breaking(early)["breaks_told"] < 0.8
    assert answers.breaking(early)["error_at_48_tokens_0.5"] > 0.5


def test_one_that_sees_it_too_late_recommends_broken_texts(answers: Any) -> None:
    good, late = (answers.recommended([known(answers, seen=s)]) for s in (0.5, 1.2))
    assert good["recommended_below_bar"] == 0
    assert good["recommended_texts_hold"] > 0.9
    assert late["recommended_below_bar"] == 1
    assert late["captured"] < 0.2 < 0.7 < good["captured"] <= 1
    assert good["captured_apart"] <= 1 + 1e-9


def test_effects_without_cause_are_counted(answers: Any) -> None:
    assert answers.no_effect([known(answers, effect=0.0)])["no_effect"] == 1
    assert answers.no_effect([known(answers)])["no_effect"] == 0
