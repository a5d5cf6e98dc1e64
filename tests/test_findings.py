"""Tables and sentences of a report, from a frame whose every number is known."""

import math

import numpy as np
import pandas as pd
import pytest

from workbench import findings
from workbench.ceiling import Ceiling, find_ceiling

GRID = np.linspace(-2, 2, 17)
SCALE = 50.0


def swept(
    *,
    effect: float = 0.8,
    breaks: float = 1.0,
    prompts: int = 8,
    judged: bool = True,
    grid: np.ndarray = GRID,
) -> pd.DataFrame:
    """A sweep whose trait is `effect` times the coefficient up to 1, and whose texts are gibberish,
    with coherence 0, from `breaks` on; below, coherence is 1."""
    rows = []
    for prompt in range(prompts):
        for c in grid:
            broken = abs(c) >= breaks
            rows.append(
                {
                    "prompt_index": prompt,
                    "prompt": f"Prompt | number {prompt}\n",
                    "coefficient": c * SCALE,
                    "coefficient_norm": c,
                    "vector": "vector",
                    "text": f"text of {prompt} at {c} <b>",
                    "tokens": 40,
                    "surprise": 5.0 if broken else 0.0,
                    "distinct_2": 1.0,
                    "longest_repeat": 1,
                    "logprob_unsteered": -4.0 if broken else -1.0,
                    "alert": -9.0,
                    "trait": effect * np.clip(c, -1, 1) + 0.01 * prompt,
                    "coherence": 0.0 if broken else 1.0,
                }
            )
    frame = pd.DataFrame(rows)
    frame.attrs = {"new_tokens": 40, "trait": "mood"}
    return frame if judged else frame.drop(columns=["trait", "coherence"])


def found(frame: pd.DataFrame) -> Ceiling:
    return find_ceiling(frame, bootstrap=50)


def test_the_exact_ceiling_is_where_coherence_halves() -> None:
    """It falls from 1 at 0.75 to 0 at 1: half is at 0.875."""
    frame = swept()
    assert findings.exact_ceiling(frame, 1) == pytest.approx(0.875)
    assert findings.exact_ceiling(frame, -1) == pytest.approx(-0.875)
    assert math.isnan(findings.exact_ceiling(swept(breaks=9.0), 1))


def test_rules_stand_beside_the_exact_ceiling() -> None:
    frame = swept()
    rules = findings.rules_table({"mood": frame}, {"mood": found(frame)})
    assert rules["sign"].tolist() == ["+", "−"]
    assert rules["this package"].tolist() == pytest.approx([0.875, -0.875])
    assert rules["ALERT as meant"].tolist() == pytest.approx([0.75, -0.75])
    assert rules["ALERT as coded"].isna().all()  # its score never moves here
    words = findings.rules_verdict(rules)
    assert "this package: 0.00 residual norms on average over 2 of 2" in words
    assert "ALERT as meant: 0.12 residual norms" in words
    assert "ALERT as coded: nowhere comparable, silent on 2" in words


def test_without_a_judge_no_rule_is_checked() -> None:
    frame = swept(judged=False)
    rules = findings.rules_table({"mood": frame}, {"mood": found(frame)})
    assert "coherence halved (exact)" not in rules.columns
    assert findings.rules_verdict(rules).startswith("No judge")
    assert findings.slopes_table({"mood": frame}).empty


def test_texts_stand_at_the_marks_in_order() -> None:
    frame = swept()
    table = findings.texts_around(frame, found(frame), prompt_index=2)
    assert table["text"].str.startswith("text of 2 at").all()
    middle = table[table["where"].str.contains("unsteered")]
    assert middle["coefficient"].tolist() == ["+0.00"]
    assert middle["where"].tolist() == ["unsteered"]
    assert table["where"].iloc[0] == table["where"].iloc[-1] == "beyond"
    assert table["coherence"].iloc[-1] == 0.0


def test_a_change_is_that_of_each_prompt() -> None:
    mean, low, high = findings.change(swept(), "trait", 0.5)
    assert (mean, low, high) == pytest.approx((0.4, 0.4, 0.4))


def test_recommended_coefficients_include_zero() -> None:
    values = findings.recommended(found(swept()))
    assert len(values) == 3
    assert values[1] == 0
    assert values[0] == pytest.approx(-values[2])


@pytest.mark.parametrize(
    ("effect", "said", "unsaid"),
    [
        (0.8, "moves the trait by +0.64 [+0.64, +0.64]", "wrong way"),
        (-0.8, "moves the trait by −0.64 [−0.64, −0.64], the wrong way", "not measurably"),
        (0.0, "does not measurably move the trait: +0.00", "wrong way"),
    ],
)
def test_verdicts_follow_the_numbers(effect: float, said: str, unsaid: str) -> None:
    ceiling = found(swept())
    fresh = swept(effect=effect, grid=np.array([-0.8, 0.0, 0.8]))
    words = findings.verdict("mood", fresh, ceiling)
    assert said in words
    assert unsaid not in words
    assert "has no measurable cost in coherence" in words


def test_a_cost_in_coherence_is_said() -> None:
    fresh = swept(grid=np.array([-0.8, 0.0, 0.8]), breaks=0.8)
    assert "costs coherence (−1.00 [−1.00, −1.00])" in findings.verdict(
        "mood", fresh, found(swept())
    )


def test_no_effect_recommends_nothing_and_says_why() -> None:
    flat = swept(effect=0.0)
    ceiling = found(flat)
    assert findings.recommended(ceiling) == [0.0]
    words = findings.verdict("mood", swept(grid=np.array([0.0])), ceiling)
    assert words.count("no coefficient to recommend") == 2
    assert "does not move" in words


def test_outcomes_name_what_was_done() -> None:
    fresh = swept(grid=np.array([0.0, 0.5]))
    asked = fresh[fresh["coefficient"] == 0].assign(vector="prompted", trait=0.9)
    random = fresh.assign(vector="random", trait=0.0)
    table = findings.outcomes(pd.concat([fresh, random, asked], ignore_index=True))
    assert table["texts"].tolist() == [
        "unsteered",
        "steered",
        "random vector",
        "asked for in the prompt",
    ]
    assert table["coefficient"].tolist() == ["0", "+0.50", "+0.50", "0"]
    assert table["trait (−1 to 1)"].iloc[-1] == "+0.90 [+0.90, +0.90]"


def test_values_of_a_report_are_text_or_numbers_without_gaps() -> None:
    for judged in (True, False):
        frames = {"mood": swept(judged=judged)}
        ceilings = {"mood": found(frames["mood"])}
        fresh = {"mood": swept(judged=judged, grid=np.array([-0.5, 0.0, 0.5]))}
        values = findings.sweep_values(frames, ceilings, fresh)
        assert all(isinstance(value, str | int) and value != "" for value in values.values())
        assert "nan" not in " ".join(map(str, values.values()))
        assert "<b>" not in str(values["texts"])
        assert values["coefficients"] == len(GRID)


def test_best_layers_take_the_lower_of_equals() -> None:
    table = pd.DataFrame(
        {
            "layer": [0, 1, 2, 0, 1, 2],
            "d_prime": [1.0, 3.0, 3.0, float("nan"), 0.5, 0.2],
            "pair_accuracy": [0.5, 0.9, 1.0, 0.5, 0.6, 0.5],
            "gap": [0.1] * 6,
            "method": ["a"] * 3 + ["b"] * 3,
        }
    )
    best = findings.best_layers(table, by="method")
    assert best["best layer"].tolist() == [1, 1]
    assert best["pairs told apart"].tolist() == ["90%", "60%"]
