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
    line = findings.change(swept(), "trait", 0.5)
    assert (line.value, line.low, line.high) == pytest.approx((0.4, 0.4, 0.4))
    assert line.count == 8
    assert math.isnan(findings.change(swept(), "trait", 0.5, kind="shuffled").value)


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


def test_a_verdict_names_what_a_random_vector_does() -> None:
    fresh = swept(grid=np.array([-0.8, 0.0, 0.8]))
    random = swept(effect=0.25, grid=np.array([-0.8, 0.8])).assign(vector="random")
    words = findings.verdict("mood", pd.concat([fresh, random], ignore_index=True), found(swept()))
    assert "by +0.64 [+0.64, +0.64] (a random vector of that length: +0.20 [+0.20, +0.20])" in words


def test_slopes_stand_beside_those_of_controls() -> None:
    frame = swept()
    random = swept(effect=-0.1).assign(vector="random")
    both = pd.concat([frame, random], ignore_index=True)
    table = findings.slopes_table({"mood": both})
    assert table["texts"].tolist() == ["steered", "random vector"]
    assert table["anti-steerable"].tolist() == ["0% [0%, 32%]", "100% [68%, 100%]"]
    assert table["mean slope (trait per residual norm)"].iloc[0] == "+0.80 [+0.80, +0.80]"
    assert findings.slopes_table({"mood": swept(judged=False)}).empty


def test_without_norms_the_unit_is_raw() -> None:
    """A vector imported from another tool: the sweep knows its coefficients in raw units alone."""

    def raw(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(coefficient=frame["coefficient_norm"], coefficient_norm=math.nan)

    frames = {"mood": raw(swept())}
    ceilings = {"mood": found(frames["mood"])}
    fresh = {"mood": raw(swept(grid=np.array([-0.8, 0.0, 0.8])))}
    values = findings.sweep_values(frames, ceilings, fresh)
    assert (values["range"], values["unit"]) == ("−2.00 to +2.00", "raw units")
    assert " raw units moves the trait by" in str(values["verdicts"])
    assert "mean slope (trait per raw unit)" in str(values["slopes"])
    assert "Distance from there, in raw units," in str(values["rules_verdict"])
    words = " ".join(map(str, values.values())).replace("one residual norm (raw units)", "")
    assert "residual norm" not in words
    assert "nan" not in words
    assert findings.marks_table(ceilings)["one residual norm (raw units)"].isna().all()


def test_flags_of_all_traits_are_counted_together() -> None:
    """Of 17 coefficients 7 lie below 1, where texts are intact and coherent, for 8 prompts each."""
    said = findings.flags_counted({"mood": swept(), "tone": swept(breaks=9.0)})
    rows = said.splitlines()[-2:]
    assert rows == [f"| intact | {8 * (7 + 17)} | 0 |", f"| broken | 0 | {8 * 10} |"]
    assert "No judge" in findings.flags_counted({"mood": swept(), "b": swept(judged=False)})


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
        assert (values["range"], values["unit"]) == ("−2.00 to +2.00", "residual norms")
