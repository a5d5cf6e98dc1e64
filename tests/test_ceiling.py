"""ceiling: known truths recovered from sweeps made by hand, and the curves below it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from workbench.statistics.curves import falling, means
from workbench.sweeps.alert import alert_as_coded, alert_as_meant
from workbench.sweeps.ceiling import find_ceiling, intact

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
                    "excess": 4.0 if broken and kind == "gibberish" else base,
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
        assert side.status == "effect"
        assert side.ceiling.value == pytest.approx(sign * truth, abs=step)
        assert abs(side.ceiling.low) <= abs(side.ceiling.value) <= abs(side.ceiling.high)
        assert abs(side.ceiling.low) <= truth + step
        assert abs(side.ceiling.high) >= truth - step
        # The first of twelve prompts breaks 0.2 earlier.
        assert side.recommended.value == pytest.approx(sign * (truth - 0.2), abs=2 * step)
        assert side.onset.value == pytest.approx(sign * 0.25, abs=step)
        assert f"100% {'loops' if kind == 'loop' else 'gibberish'}" in " ".join(side.reasons)


def test_both_units_are_given() -> None:
    found = find_ceiling(made({1: 1.2}, {1: 0.25}, scale=4.0))
    assert found.unit == "norm"
    mark = found[1].ceiling
    assert mark.raw.value == pytest.approx(4 * mark.value)
    table = found.summary(whole=True).set_index(["sign", "mark"])
    assert table.loc[(1, "ceiling"), "raw_high"] == pytest.approx(4 * mark.high)


def test_without_norms_the_raw_coefficient_is_used() -> None:
    frame = made({1: 1.2}, {1: 0.25}, scale=4.0).assign(coefficient_norm=np.nan)
    found = find_ceiling(frame)
    assert found.unit == "raw"
    assert found[1].ceiling.value == pytest.approx(4.8, abs=0.5)
    assert found[1].ceiling.raw.value == found[1].ceiling.value


def test_no_collapse_is_said_and_not_guessed() -> None:
    found = find_ceiling(made({-1: 0.7}, {1: 0.25, -1: 0.25}))
    assert found[1].status == "effect, no collapse in range"
    assert math.isnan(found[1].ceiling.value)
    assert found[1].recommended.value == 2.0
    assert found[-1].status == "effect"
    assert "100% of the texts are intact at 2" in found[1].reasons
    assert [m["mark"] for m in found.marks()].count("ceiling") == 1


def test_no_effect_is_said_even_where_texts_break() -> None:
    found = find_ceiling(made({1: 1.2, -1: 0.7}, {-1: 0.25}))
    assert found[1].status == "no effect"
    assert math.isnan(found[1].onset.value)
    assert math.isnan(found[1].recommended.value)
    assert found[1].ceiling.value == pytest.approx(1.2, abs=0.125)
    assert found[-1].status == "effect"


def test_a_trait_that_only_breaking_moves_is_no_effect() -> None:
    """Broken texts lose the trait; that is not steering."""
    frame = made({1: 1.0, -1: 1.0})
    frame["trait"] = np.where(frame["excess"] > 1, 0.0, -1.0)
    assert find_ceiling(frame)[1].effect == "no effect"


def test_the_wrong_way_is_no_effect_and_nothing_is_recommended() -> None:
    frame = made({1: 1.2}, {1: 0.25})
    frame["trait"] = -frame["trait"]
    found = find_ceiling(frame)[1]
    assert found.status == "wrong way"
    assert math.isnan(found.onset.value)
    assert math.isnan(found.recommended.value)
    assert found.ceiling.value == pytest.approx(1.2, abs=0.125)
    assert any("moves the wrong way, by up to -0.40" in reason for reason in found.reasons)


def control(frame: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """The sweep with a random control whose rows differ in these columns."""
    rows = frame.assign(vector="random").assign(**columns)
    return pd.concat([frame, rows[rows["coefficient"] != 0]], ignore_index=True)


def test_an_effect_is_more_than_a_random_vector_has() -> None:
    frame = made({1: 1.2}, {1: 0.25})
    assert find_ceiling(control(frame))[1].effect == "no effect"
    start = frame[frame["coefficient"] == 0].set_index("prompt_index")["trait"]
    beside = control(frame, trait=frame["prompt_index"].map(start))
    found = find_ceiling(beside)
    assert found.controlled
    assert found[1].effect == "effect"
    assert found[1].onset == find_ceiling(frame)[1].onset
    assert "more than chance and than under one random vector" in found[1].reasons[0]
    assert "no random control was swept" in " ".join(find_ceiling(frame)[1].reasons)


def test_without_a_judge_nothing_is_claimed_that_was_not_measured() -> None:
    frame = made({1: 1.2}, {1: 0.5}).drop(columns="trait")
    found = find_ceiling(frame)
    assert found.signal is None
    assert found[1].status == "effect unknown"
    assert math.isnan(found[1].p)
    assert math.isnan(found[1].onset.value)
    assert math.isfinite(found[1].recommended.value)
    frame["kl"] = 0.4 * frame["coefficient_norm"] ** 2
    assert find_ceiling(frame)[1].effect == "unknown"  # any steering diverges


def test_without_a_judge_divergence_beyond_the_random_control_is_an_effect() -> None:
    frame = made({1: 1.2}, {1: 0.5}).drop(columns="trait")
    own = 0.4 * frame["coefficient_norm"] ** 2
    found = find_ceiling(control(frame.assign(kl=own), kl=own / 2))
    assert found.signal == "kl"
    assert [side.effect for side in found.sides.values()] == ["effect", "effect"]
    assert "which way it moves is not known" in " ".join(found[1].reasons)
    # 0.2 c**2 reaches a quarter of what it is at 1.125, the last point below the ceiling.
    assert found[1].onset.value == pytest.approx(1.125 / 2, abs=0.0625)
    assert find_ceiling(control(frame.assign(kl=own), kl=own))[1].effect == "no effect"
    assert find_ceiling(control(frame.assign(kl=own), kl=2 * own))[1].effect != "effect"


def test_chance_movement_is_no_effect() -> None:
    """A trait that flickers at random is called moved, one way or the other, in 10 % of sweeps."""
    called = 0
    for seed in range(20):
        frame = made(seed=seed)
        frame["trait"] += np.random.default_rng(seed).normal(0, 0.3, len(frame))
        called += find_ceiling(frame, bootstrap=10)[1].effect != "no effect"
    assert called <= 6  # more than 6 of 20 has a chance of 0.2 %


def test_four_prompts_are_too_few_for_intervals_and_effects() -> None:
    found = find_ceiling(made({1: 1.2}, {1: 0.25}, prompts=4))[1]
    assert found.status == "effect unknown"
    assert found.ceiling.value == pytest.approx(1.2, abs=0.2)
    assert math.isnan(found.ceiling.low)
    assert str(found.ceiling).endswith("[no interval]")
    assert "no intervals from 4 prompts: give 5 or more" in found.reasons
    assert find_ceiling(made({1: 1.2}, {1: 0.25}, prompts=5))[1].status == "effect"


def test_texts_that_come_back_do_not_hide_the_break() -> None:
    frame = made({1: 0.7}, {1: 0.25})
    frame.loc[frame["coefficient_norm"] >= 1.25, "excess"] = -0.4
    side = find_ceiling(frame)[1]
    assert side.collapses
    assert side.ceiling.value == pytest.approx(0.7, abs=0.125)
    assert abs(side.ceiling.high) <= 1.125
    assert side.reentry == 1.25
    assert any(reason.startswith("from 1.25 on texts are intact again") for reason in side.reasons)
    assert math.isnan(find_ceiling(made({1: 0.7}))[1].reentry)


def test_empty_texts_break_and_a_prompt_without_an_unsteered_text_is_left_out() -> None:
    frame = made({}, {1: 0.25})
    frame.loc[frame["coefficient_norm"] > 1, "text"] = ""
    side = find_ceiling(frame)[1]
    assert 1.0 < side.ceiling.value < 1.125
    assert "100% empty" in " ".join(side.reasons)
    lost = (frame["prompt_index"] == 3) & (frame["coefficient"] == 0)
    frame.loc[lost, ["text", "excess", "trait"]] = [None, np.nan, np.nan]
    found = find_ceiling(frame)
    assert (found.prompts, found.compared) == (12, 11)
    assert found[1].curve["moved"].iloc[0] == 0
    assert found[-1].effect == "no effect"
    assert "left out: 1 of 12 prompts, whose unsteered text is broken" in found[1].reasons


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ({"split": "report"}, r"role 'report': what reports a result cannot choose"),
        ({"complete": False, "rows_planned": 999}, r"a ceiling needs a whole sweep.*of 999"),
    ],
)
def test_sweeps_that_may_not_choose_are_refused(attrs: dict[str, object], words: str) -> None:
    frame = made({1: 1.2})
    frame.attrs = attrs
    with pytest.raises(ValueError, match=words):
        find_ceiling(frame)


def test_gaps_and_doubles_are_refused() -> None:
    frame = made({1: 1.2})
    with pytest.raises(ValueError, match=r"prompt 2 has 0 texts at coefficient 0.5"):
        find_ceiling(frame[(frame["prompt_index"] != 2) | (frame["coefficient_norm"] != 0.5)])
    with pytest.raises(ValueError, match=r"prompt 0 has 2 texts at coefficient -2"):
        find_ceiling(pd.concat([frame, frame.iloc[:1]], ignore_index=True))
    with pytest.raises(ValueError, match=r"0 of 12 unsteered texts are intact"):
        find_ceiling(frame.assign(text=""))


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
    assert "left out: 1 of 8 prompts, whose unsteered text is broken" in found.reasons


def test_sampled_texts_are_compared_with_sampled_texts() -> None:
    """At temperature 1 unsteered texts lie about 0, which is then no sign of gibberish."""
    frame = made({1: 1.2}, {1: 0.25})
    frame["excess"] += 0.4 * (frame["excess"] < 1)
    assert abs(intact(frame).attrs["thresholds"]["excess"]) < 0.1
    assert find_ceiling(frame)[1].ceiling.value == pytest.approx(1.2, abs=0.125)


def test_same_seed_same_answer() -> None:
    frame = made({1: 1.2, -1: 0.7}, {1: 0.25, -1: 0.25})
    first, again = find_ceiling(frame, seed=3), find_ceiling(frame, seed=3)
    pd.testing.assert_frame_equal(first.summary(), again.summary())


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


def test_weighted_means_leave_gaps_out() -> None:
    sums, counts = means(np.array([[2.0, 1.0]]), np.array([[1.0, np.nan], [0.0, 1.0]]))
    assert sums.tolist() == [[2.0, 1.0]]
    assert counts.tolist() == [[3.0, 1.0]]


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


def test_prompts_at_the_end_of_the_scale_show_no_effect_and_no_lack_of_one() -> None:
    frame = made({1: 1.2}, {})
    frame["trait"] = 1.0
    side = find_ceiling(control(frame, trait=1.0))[1]
    assert side.effect == "unknown"
    assert "already, too many to tell an effect from chance" in side.reasons[0]
    assert math.isfinite(side.recommended.value)


def test_the_recommended_coefficient_is_one_that_was_swept_and_held() -> None:
    side = find_ceiling(made({1: 1.2}, {1: 0.25}))[1]
    place = side.curve.set_index("coefficient")["fitted"]
    assert side.recommended.value in place.index
    assert place[side.recommended.value] >= 0.9
    assert place[place.index > side.recommended.value].iloc[0] < 0.9


def test_frames_put_together_as_they_are_lose_no_control() -> None:
    """Their index labels stand more than once."""
    own = made({1: 1.2, -1: 1.2}, {1: 0.25, -1: 0.25})
    others = [own.assign(vector=kind) for kind in ("random", "shuffled")]
    found = find_ceiling(pd.concat([own, *others]), bootstrap=50)
    assert any("under the control 'shuffled'" in reason for reason in found[1].reasons)
    again = find_ceiling(pd.concat([own, *others], ignore_index=True), bootstrap=50)
    assert found[1].reasons == again[1].reasons
    assert found[1].ceiling == again[1].ceiling


def test_a_control_of_one_sign_leaves_the_other_without() -> None:
    frame = made({1: 1.0, -1: 1.0}, {1: 0.5, -1: 0.5})
    control = frame[frame["coefficient_norm"] > 0].assign(vector="random")
    both = find_ceiling(pd.concat([frame, control], ignore_index=True))
    assert set(both.sides) == {1, -1}


def test_a_recommendation_below_the_onset_is_said() -> None:
    said = "recommended lies below the onset: at it the trait is not yet seen"
    # Two of twelve break early, so that fewer than nine tenths are left before the trait moves.
    frame = made({1: 1.5}, {1: 1.0})
    early = (frame["prompt_index"] < 2) & (frame["coefficient_norm"] > 0.5)
    side = find_ceiling(frame.assign(excess=frame["excess"].mask(early, 4.0)))[1]
    assert side.recommended.value < side.onset.value
    assert said in side.reasons
    assert said not in find_ceiling(made({1: 1.2}, {1: 0.25}))[1].reasons


def test_a_summary_fits_a_terminal() -> None:
    summary = find_ceiling(made({1: 1.2, -1: 0.7}, {1: 0.25})).summary()
    with pd.option_context("display.width", 80, "display.max_columns", 0):
        lines = repr(summary).splitlines()
    assert lines[0].split()[:5] == ["sign", "mark", "value", "low", "high"]
    assert len(lines) == 7
    assert "..." not in lines[0]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("wrong", [None, "frame.csv", find_ceiling])
def test_what_is_no_frame_is_named(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"frame is .*; give a sweep's frame, such as frame ="):
        find_ceiling(wrong)  # type: ignore[arg-type]
