"""rules: each against exact coherence, with false alarms and a constant guess beside it."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest

from workbench.sweeps import rules
from workbench.sweeps.ceiling import find_ceiling

GRID = np.linspace(-2, 2, 17)
# Where a score that is 1 at 0.75 and exp(-3) at 1 passes 0.8.
INTERPOLATED = 0.75 + 0.25 * 0.2 / (1 - math.exp(-3))


def swept(breaks: float = 1.0, incoherent: float | None = None) -> pd.DataFrame:
    """8 prompts whose texts are gibberish from `breaks` on, and lose their coherence there or from
    `incoherent` on."""
    lost = breaks if incoherent is None else incoherent
    rows = [
        {
            "prompt_index": prompt,
            "prompt": f"prompt {prompt}",
            "coefficient": 50 * c,
            "coefficient_norm": c,
            "vector": "vector",
            "text": "a text",
            "tokens": 40,
            "excess": 5.0 if abs(c) >= breaks else 0.0,
            "distinct_2": 1.0,
            "longest_repeat": 1,
            "logprob_unsteered": -4.0 if abs(c) >= breaks else -1.0,
            "alert": -9.0,
            "coherence": 0.0 if abs(c) >= lost else 1.0,
        }
        for prompt in range(8)
        for c in GRID
    ]
    return pd.DataFrame(rows)


def table(**frames: pd.DataFrame) -> pd.DataFrame:
    return rules.rules_table(frames, {name: find_ceiling(part) for name, part in frames.items()})


def test_the_exact_ceiling_is_where_coherence_halves() -> None:
    """It falls from 1 at 0.75 to 0 at 1: half is at 0.875."""
    frame = swept()
    assert rules.exact_ceiling(frame, 1) == pytest.approx(0.875)
    assert rules.exact_ceiling(frame, -1) == pytest.approx(-0.875)
    assert math.isnan(rules.exact_ceiling(swept(breaks=9.0), 1))


def test_coherence_that_comes_back_does_not_move_the_exact_ceiling() -> None:
    frame = swept()
    frame.loc[frame["coefficient_norm"] >= 1.5, "coherence"] = 1.0
    assert rules.exact_ceiling(frame, 1) == pytest.approx(0.875)


def test_rules_stand_beside_the_exact_ceiling() -> None:
    found = table(mood=swept())
    assert found["sign"].tolist() == ["+", "−"]
    assert found["find_ceiling"].tolist() == pytest.approx([0.875, -0.875])
    assert found["ALERT as meant"].tolist() == pytest.approx([0.75, -0.75])
    assert found["ALERT as coded"].isna().all()  # its score never moves here
    assert found[rules.CONSTANT].isna().all()
    said = rules.rules_verdict(found)
    assert "halves on 2 of 2 curves, of 1 trait." in said
    fares = rules.distances_table(found).set_index("rule")
    assert fares["distance"][:3].tolist() == pytest.approx([0.0, 0.125, 0.875 - INTERPOLATED])
    assert fares["distance"][3:].isna().all()
    assert fares["silent"].tolist() == ["0 of 2"] * 3 + ["2 of 2"] * 3
    # Both stop at 0.75, the last point before; coherence is at nine tenths at 0.775.
    (ours, alert) = re.findall(r"lies (\S+) away on average and ALERT as meant (\S+)\.$", said)[0]
    assert ours == alert in ("0.02", "0.03")


def test_alert_without_its_step_back_is_interpolated() -> None:
    """Its score falls from 1 at 0.75 to exp(−3) at 1: 0.8 lies between."""
    found = table(mood=swept())
    assert found[rules.INTERPOLATED].tolist() == pytest.approx([INTERPOLATED, -INTERPOLATED])
    assert table(mood=swept(9.0))[rules.INTERPOLATED].isna().all()


def test_the_constant_is_taken_from_other_traits() -> None:
    found = table(a=swept(0.5), b=swept(1.0), c=swept(1.5)).set_index(["trait", "sign"])
    guess = found[rules.CONSTANT]
    assert guess["a", "+"] == pytest.approx(1.125)  # the median of 0.875 and 1.375, twice each
    assert guess["b", "−"] == pytest.approx(-0.875)


def test_distances_are_given_as_they_are() -> None:
    """Few curves that share traits and prompts have a range, not an interval."""
    found = table(a=swept(0.5), b=swept(1.0), c=swept(1.5))
    fares = rules.distances_table(found).set_index("rule")
    assert fares["curves"].tolist() == [6, 6, 6, 6, 0, 6]
    # All curves share the shape of the step: the fall that other traits choose fits it better.
    assert fares.loc[rules.TUNED, "distance"] < fares.loc[rules.INTERPOLATED, "distance"] < 0.2
    columns = ["distance", "least", "greatest"]
    assert fares.loc[rules.CONSTANT, columns].tolist() == pytest.approx([0.5, 0.0, 0.75])
    assert fares.loc["ALERT as meant", columns].tolist() == pytest.approx([0.125] * 3)
    words = rules.rules_verdict(found)
    assert "halves on 6 of 6 curves, of 3 traits." in words
    assert "| constant (other traits) | 0.50 | 0.00 | 0.75 | 6 |" in words


def test_an_end_where_coherence_holds_is_a_false_alarm() -> None:
    """Fluent to the judge, gibberish to the unsteered model: nothing to be near to, still wrong."""
    found = table(a=swept(1.0), b=swept(1.0, incoherent=9.0))
    assert "halves on 2 of 4 curves, of 2 traits." in rules.rules_verdict(found)
    fares = rules.distances_table(found).set_index("rule")
    told = ["distance", "curves", "silent", "false alarms"]
    assert fares.loc["find_ceiling", told].tolist() == [0.0, 2, "0 of 2", "2 of 2"]
    assert fares.loc["ALERT as coded", told[1:]].tolist() == [0, "2 of 2", "0 of 2"]
    assert fares.loc[rules.CONSTANT, told[1:]].tolist() == [0, "2 of 2", "2 of 2"]


def test_without_a_judge_no_rule_is_checked() -> None:
    found = table(mood=swept().drop(columns="coherence"))
    assert rules.EXACT not in found.columns
    assert rules.CONSTANT not in found.columns
    assert rules.rules_verdict(found).startswith("No judge")


def test_flags_are_counted_against_exact_coherence() -> None:
    """Of 17 coefficients 10 are gibberish (1 and beyond), 6 of them still coherent."""
    frame = swept(breaks=1.0, incoherent=1.75)
    counts = rules.flags_table(frame)
    assert counts.loc["intact"].tolist() == [8 * 7, 0]
    assert counts.loc["broken"].tolist() == [8 * 6, 8 * 4]
    frame.loc[frame["prompt_index"] == 0, "coherence"] = math.nan  # not known, so not counted
    assert rules.flags_table(frame).to_numpy().sum() == 7 * 17
    with pytest.raises(ValueError, match="no column 'coherence'"):
        rules.flags_table(frame.drop(columns="coherence"))
