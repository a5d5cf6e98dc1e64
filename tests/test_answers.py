"""Whether answers.py and recommendations.py count rightly, on sweeps whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

SIDE = np.geomspace(0.08, 1.6, 16)
GRID = np.concatenate([-SIDE[::-1], [0.0], SIDE])
PROMPTS = 16


@pytest.fixture(scope="module")
def answers(benchmark_script: Callable[[str], Any]) -> Any:
    return benchmark_script("answers")


@pytest.fixture(scope="module")
def worth(benchmark_script: Callable[[str], Any]) -> Any:
    return benchmark_script("recommendations")


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
    covered = answers.coverage(right, 2)
    assert covered["covered"] == covered["agreed"] == 1
    assert covered["covered_of"] == 2  # sides, however often they are halved
    silent = answers.no_collapse(right)
    assert silent["no_collapse_short"] == silent["no_collapse_near"] == silent["collapse"] == 1
    broken = answers.breaking(right)
    assert broken["breaks_told"] == 1 > broken["breaks_guessed"]
    assert broken["breaks_place_off"] == 0
    assert broken["error_at_48_tokens"] == 0
    assert broken["error_at_48_tokens_of"] == 2


def test_one_that_sees_collapse_too_early_is_caught(answers: Any) -> None:
    early = [known(answers, seen=0.2, real=0.5)]
    assert answers.coverage(early, 2)["covered"] == 0
    silent = answers.no_collapse(early)
    assert silent["no_collapse_near"] == 0
    assert 0 < silent["no_collapse_short"] < 1
    assert silent["collapse"] == 1
    assert answers.breaking(early)["error_at_48_tokens"] > 0.5


def test_one_that_never_sees_a_collapse_is_caught_too(answers: Any) -> None:
    silent = answers.no_collapse([known(answers, seen=9.0, real=0.5)])
    assert silent["no_collapse_short"] == 1
    assert silent["collapse"] == 0


def test_one_that_sees_it_too_late_recommends_broken_texts(answers: Any, worth: Any) -> None:
    good, late = (worth.recommended([known(answers, seen=s, effect=1.6)], 2) for s in (0.5, 1.2))
    assert good["apart_below_half"] == 0
    assert good["apart_hold"] > 0.9
    assert 0 < good["captured_apart"] <= 1 + 1e-9
    assert late["apart_below_half"] == 1
    assert late["captured"] < 0.2 < 0.7 < good["captured"] <= 1


def test_a_side_without_a_recommendation_captures_nothing(answers: Any, worth: Any) -> None:
    """The trait moves by much at the least coefficients, and the other way at all others: over the
    whole curve there is no effect."""
    one, other = known(answers, effect=1.6), known(answers, effect=1.6)
    size = other.texts["coefficient_norm"].abs()
    moved = np.sign(other.texts["coefficient_norm"]) * np.where(size < 0.09, 0.5, -0.3)
    texts = other.texts.assign(shown=moved)
    other = answers.Known("wren", "power", "mean_difference", texts, other.ceilings)
    both = worth.recommended([one, other], 1)
    assert both["recommended"] == 0.5
    assert both["captured_of"] == 4
    assert both["captured"] < both["captured_said"]


def test_the_greatest_gain_that_a_sweep_shows_is_found_where_it_shows_it(
    answers: Any, worth: Any
) -> None:
    """Texts that only seem to break hide their gain from the sweep, and from nothing else."""
    right, blind = (known(answers, seen=s, real=0.5, effect=1.6) for s in (0.5, 0.2))
    found, hidden = (worth.recommended([each], 2) for each in (right, blind))
    assert found["captured_seen"] > 0.8
    assert found["captured_apart_own"] > 0.8
    assert hidden["captured_seen"] < 0.6
    assert hidden["captured_apart_exact"] > hidden["captured_apart_seen"]


def test_breaking_is_no_gain(answers: Any, worth: Any) -> None:
    """Unsteered texts are at -1; broken ones show nothing, which is not a movement up."""
    texts = studied(0.3, 0.3).assign(shown=-1.0)
    texts["shown"] = texts["shown"].where(texts["coherence"] >= 0.5)
    side = answers.Known("wren", "mood", "m", texts, {1: 0.3}).side(1)
    _, gain, holds = worth.gains(side, 1)
    assert gain.max() == 0
    assert holds[-1] == 0


def test_effects_without_cause_and_causes_without_effect_are_counted(answers: Any) -> None:
    none, some = known(answers, effect=0.0), known(answers)
    figures = answers.effects([some], [none])
    assert figures["no_effect"] == figures["effect"] == 1
    figures = answers.effects([none], [some])
    assert figures["no_effect"] == figures["effect"] == 0
    few = none.texts[none.texts["prompt_index"] < 3]
    unsure = answers.Known("wren", "mood", "random", few, none.ceilings)
    figures = answers.effects([some], [none, unsure])
    assert figures["no_effect"] == 1
    assert figures["no_effect_of"] == 2
    assert figures["no_effect_unknown"] == 0.5
