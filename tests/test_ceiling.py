"""ceiling: known truths recovered from sweeps made by hand, and the curves below it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from workbench.alert import alert_as_coded, alert_as_meant
from workbench.ceiling import find_ceiling, intact
from workbench.curves import critical, crossings, falling, interval, means, strength

GRID = np.linspace(-2, 2, 33)


def made(
    breaks: dict[int, float] | None = None,
    moves: dict[int, float] | None = None,
    *,
    kind: str = "gibberish",
    prompts: int = 12,
    spread: float = 0.2,
    seed: int = 0,
    scale: float = 4.0,
) -> pd.DataFrame:
    """A sweep whose prompt p breaks at breaks[sign] + its own offset, and whose trait moves from
    moves[sign] on; offsets are symmetric, so the middle prompt breaks where it is said."""
    rng = np.random.default_rng(seed)
    offsets = np.linspace(-spread, spread, prompts)
    rows = []
    for p in range(prompts):
        base = rng.normal(-0.4, 0.05)
        start = rng.choice([-0.5, 0.5])
        for c in GRID:
            sign = 1 if c > 0 else -1
            far = abs(c)
            broken = c != 0 and far > (breaks or {}).get(sign, math.inf) + offsets[p]
            moved = c != 0 and far >= (moves or {}).get(sign, math.inf)
            rows.append(
                {
                    "prompt_index": p,
                    "prompt": f"prompt {p}",
                    "coefficient": c * scale,
                    "coefficient_norm": c,
                    "vector": "vector",
                    "text": f"{p} {c if moved else 0}",
                    "tokens": 32,
                    "surprise": 4.0 if broken and kind == "gibberish" else base,
                    "logprob_unsteered": -6.0 if broken and kind == "gibberish" else -0.5,
                    "alert": -6.0 if broken else -11.0,
                    "distinct_2": 0.1 if broken and kind == "loop" else 0.97,
                    "longest_repeat": 28 if broken and kind == "loop" else 3,
                    "trait": 0.0 if broken else start + (0.4 * sign if moved else 0.0),
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("kind", ["gibberish", "loop"])
def test_ceilings_of_both_signs_are_where_half_of_the_prompts_break(kind: str) -> None:
    found = find_ceiling(made({1: 1.2, -1: 0.7}, {1: 0.25, -1: 0.25}, kind=kind))
    step = GRID[1] - GRID[0]
    for sign, truth in ((1, 1.2), (-1, 0.7)):
        side = found[sign]
        assert side.status == "ok"
        assert side.ceiling.value == pytest.approx(sign * truth, abs=step)
        assert abs(side.ceiling.low) <= abs(side.ceiling.value) <= abs(side.ceiling.high)
        assert abs(side.ceiling.low) <= truth + step
        assert abs(side.ceiling.high) >= truth - step
        # The first of twelve prompts breaks 0.2 earlier.
        assert side.recommended.value == pytest.approx(sign * (truth - 0.2), abs=2 * step)
        assert side.onset.value == pytest.approx(sign * 0.25, abs=step)
        assert f"mostly {'loops' if kind == 'loop' else 'gibberish'}" in " ".join(side.reasons)


def test_both_units_are_given() -> None:
    found = find_ceiling(made({1: 1.2}, {1: 0.25}, scale=4.0))
    assert found.unit == "norm"
    mark = found[1].ceiling
    assert mark.raw.value == pytest.approx(4 * mark.value)
    table = found.summary().set_index(["sign", "mark"])
    assert table.loc[(1, "ceiling"), "raw_high"] == pytest.approx(4 * mark.high)


def test_without_norms_the_raw_coefficient_is_used() -> None:
    frame = made({1: 1.2}, {1: 0.25}, scale=4.0).assign(coefficient_norm=np.nan)
    found = find_ceiling(frame)
    assert found.unit == "raw"
    assert found[1].ceiling.value == pytest.approx(4.8, abs=0.5)
    assert found[1].ceiling.raw.value == found[1].ceiling.value


def test_no_collapse_is_said_and_not_guessed() -> None:
    found = find_ceiling(made({-1: 0.7}, {1: 0.25, -1: 0.25}))
    assert found[1].status == "no collapse in range"
    assert math.isnan(found[1].ceiling.value)
    assert found[1].recommended.value == 2.0
    assert found[-1].status == "ok"
    assert "100% of the texts are intact at 2" in found[1].reasons
    assert [m["mark"] for m in found.marks()].count("ceiling") == 1


def test_no_effect_is_said_even_where_texts_break() -> None:
    found = find_ceiling(made({1: 1.2, -1: 0.7}, {-1: 0.25}))
    assert found[1].status == "no effect"
    assert math.isnan(found[1].onset.value)
    assert math.isnan(found[1].recommended.value)
    assert found[1].ceiling.value == pytest.approx(1.2, abs=0.125)
    assert found[-1].status == "ok"


def test_a_trait_that_only_breaking_moves_is_no_effect() -> None:
    """Broken texts lose the trait; that is not steering."""
    frame = made({1: 1.0, -1: 1.0})
    frame["trait"] = np.where(frame["surprise"] > 1, 0.0, -1.0)
    assert find_ceiling(frame)[1].status == "no effect"


def test_the_wrong_way_is_named() -> None:
    frame = made({1: 1.2}, {1: 0.25})
    frame["trait"] = -frame["trait"]
    found = find_ceiling(frame)[1]
    assert found.status == "ok"
    assert any("wrong way" in reason for reason in found.reasons)


def test_without_a_judge_the_onset_is_where_half_of_the_texts_change() -> None:
    found = find_ceiling(made({1: 1.2}, {1: 0.5}).drop(columns="trait"))
    assert found.signal == "text"
    assert 0.375 < found[1].onset.value <= 0.5
    assert found[-1].status == "no effect"


def test_chance_movement_is_no_effect() -> None:
    """A trait that flickers at random is called moved in about 1 - level of sweeps."""
    called = 0
    for seed in range(20):
        frame = made(seed=seed)
        frame["trait"] += np.random.default_rng(seed).normal(0, 0.3, len(frame))
        called += find_ceiling(frame, bootstrap=10)[1].status != "no effect"
    assert called <= 6  # 10 % expected: more than 6 of 20 has a chance of 0.2 %


def test_a_model_that_loops_by_itself_is_judged_by_its_own_measure() -> None:
    frame = made({1: 1.2}, {1: 0.25})
    frame["longest_repeat"] = 20
    frame["distinct_2"] = np.linspace(0.3, 0.35, len(frame))
    assert find_ceiling(frame)[1].ceiling.value == pytest.approx(1.2, abs=0.125)
    assert intact(frame)["loop"].mean() == 0


def test_one_unsteered_text_in_eight_that_loops_does_not_hide_the_others() -> None:
    frame = made({1: 1.2}, {1: 0.25}, kind="loop", prompts=8)
    frame.loc[frame["prompt_index"] == 0, ["distinct_2", "longest_repeat"]] = [0.05, 30]
    found = find_ceiling(frame)[1]
    assert found.ceiling.value == pytest.approx(1.2, abs=0.2)
    assert "only 88% are intact without steering" in found.reasons


def test_sampled_texts_are_compared_with_sampled_texts() -> None:
    """At temperature 1 unsteered texts lie about 0, which is then no sign of gibberish."""
    frame = made({1: 1.2}, {1: 0.25})
    frame["surprise"] += 0.4 * (frame["surprise"] < 1)
    frame["surprise"] += 0.1
    judged = intact(frame)
    assert judged.attrs["thresholds"]["surprise"] > 0.1
    assert find_ceiling(frame)[1].ceiling.value == pytest.approx(1.2, abs=0.125)


def test_same_seed_same_answer() -> None:
    frame = made({1: 1.2, -1: 0.7}, {1: 0.25, -1: 0.25})
    first, again = find_ceiling(frame, seed=3), find_ceiling(frame, seed=3)
    pd.testing.assert_frame_equal(first.summary(), again.summary())


def test_intervals_cover_the_truth() -> None:
    """Prompts break at random places; the median of their law is covered nine times in ten."""
    covered, rounds = 0, 25
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        frame = made({}, {1: 0.25}, prompts=16, seed=seed)
        breaking = rng.normal(1.0, 0.25, 16)
        frame.loc[frame["coefficient_norm"] > breaking[frame["prompt_index"]], "surprise"] = 4.0
        mark = find_ceiling(frame, seed=seed, bootstrap=300)[1].ceiling
        covered += mark.low <= 1.0 <= mark.high
    assert covered >= 0.72 * rounds  # 0.9 less three standard errors


def test_shows_itself() -> None:
    found = find_ceiling(made({1: 1.2}, {1: 0.25}))
    assert "12 prompts, residual norms, 90% intervals" in repr(found)
    assert "<th>recommended</th>" in found._repr_html_()
    assert {"mark", "value", "low", "high"} == set(found.marks()[0])
    with pytest.raises(KeyError, match="no side 2"):
        found[2]


# ---- curves -------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=9))
def test_falling_is_isotonic_regression(steps: list[tuple[int, int]]) -> None:
    counts = np.array([[count for _, count in steps]], dtype=float)
    sums = np.array([[value * count / 5 for value, count in steps]])
    x = np.arange(len(steps))
    expected = IsotonicRegression(increasing=False).fit_transform(
        x, (sums / counts)[0], sample_weight=counts[0]
    )
    np.testing.assert_allclose(falling(sums, counts)[0], expected, atol=1e-12)


def test_falling_bridges_gaps() -> None:
    sums, counts = np.array([[4.0, 0.0, 1.0]]), np.array([[4.0, 0.0, 4.0]])
    assert falling(sums, counts).tolist() == [[1.0, 0.25, 0.25]]
    sums, counts = np.array([[4.0, 1.0, 0.0]]), np.array([[4.0, 4.0, 0.0]])
    assert falling(sums, counts).tolist() == [[1.0, 0.25, 0.25]]


def test_crossings_interpolate() -> None:
    grid = np.array([0.0, 1.0, 2.0])
    curves = np.array([[1.0, 0.75, 0.25], [1.0, 1.0, 0.6], [0.5, 0.5, 0.0]])
    assert crossings(grid, curves, 0.5).tolist() == [1.5, np.inf, 1.5]


def test_intervals_keep_infinite_ends() -> None:
    assert interval(np.array([1.0, 2.0, 3.0, np.inf, np.inf]), 0.5) == (2.0, np.inf)


def test_weighted_means_leave_gaps_out() -> None:
    sums, counts = means(np.array([[2.0, 1.0]]), np.array([[1.0, np.nan], [0.0, 1.0]]))
    assert sums.tolist() == [[2.0, 1.0]]
    assert counts.tolist() == [[3.0, 1.0]]


def test_strength_counts_agreeing_prompts() -> None:
    once = np.ones((1, 4))
    same, opposed = np.full((4, 1), 0.3), np.array([[0.3], [-0.3], [0.3], [-0.3]])
    assert strength(once, same)[0, 0] == pytest.approx(2.0)
    assert strength(once, opposed)[0, 0] == 0.0
    assert strength(once, np.zeros((4, 1)))[0, 0] == 0.0
    limit = critical(np.full((8, 3), 0.3), np.random.default_rng(0), 0.9)
    assert limit < np.sqrt(8)  # eight of eight agreeing is beyond chance


# ---- the reference rule -------------------------------------------------------------------------


def test_the_reference_rule_as_coded_and_as_meant() -> None:
    frame = made({1: 1.2, -1: 0.7}, spread=0.0)
    coded = alert_as_coded(frame)
    assert coded.upper_bound == pytest.approx(1.125)
    assert coded.coefficients[coded.index or 0] == pytest.approx(1.25)
    assert alert_as_meant(frame, sign=1).upper_bound == pytest.approx(1.125)
    assert alert_as_meant(frame, sign=-1).upper_bound == pytest.approx(-0.625)


def test_the_reference_rule_without_a_drop() -> None:
    frame = made()
    assert alert_as_coded(frame).index is None
    assert alert_as_coded(frame).upper_bound == 1.0  # whatever the range, as its code has it
    assert alert_as_meant(frame, sign=-1).upper_bound == -2.0


def test_the_reference_rule_is_blind_to_the_other_sign_and_to_loops() -> None:
    """Why it is not used: loops lower nothing that it reads as meant."""
    frame = made({1: 1.2}, kind="loop", spread=0.0)
    assert alert_as_meant(frame).index is None
    assert find_ceiling(frame)[1].ceiling.value == pytest.approx(1.2, abs=0.125)
