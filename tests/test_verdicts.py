"""verdicts: a broken text shows no trait, chance is many random vectors, agreement no certainty."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sweeps import swept

from workbench.statistics.intervals import wilson
from workbench.studies import recommended_findings as verdicts
from workbench.studies import recommended_outcomes as outcomes
from workbench.sweeps.ceiling import Ceiling, find_ceiling

FEW = np.array([-0.8, 0.0, 0.8])


def found(frame: pd.DataFrame) -> Ceiling:
    return find_ceiling(frame, bootstrap=50)


def breaking(broken: int = 4, prompts: int = 10) -> pd.DataFrame:
    """Unsteered the trait is −1 everywhere; at 0.8 it still is, but in the texts of some prompts,
    which are gibberish without coherence and show none: 0."""
    frame = swept(prompts=prompts, grid=np.array([0.0, 0.8])).assign(trait=-1.0)
    gone = (frame["coefficient_norm"] > 0) & (frame["prompt_index"] < broken)
    frame.loc[gone, ["trait", "coherence", "excess"]] = [0.0, 0.0, 5.0]
    return frame


def told(fresh: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of `confirmed_table` for a frame on fresh prompts."""
    frames = {"mood": swept()}
    said = verdicts.confirm(frames, {"mood": found(swept())}, {"mood": fresh})
    return verdicts.confirmed_table(said).to_dict("records")


def draws(*effects: float) -> pd.DataFrame:
    """Random vectors, each with its effect on the trait, at the few coefficients."""
    parts = [
        swept(effect=effect, grid=FEW).assign(vector=f"random {draw}")
        for draw, effect in enumerate(effects, start=1)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("column", ["coherence", "excess"])
def test_what_only_breaking_moves_is_no_change_of_the_trait(column: str) -> None:
    """By exact coherence, or without it by what the unsteered model logs."""
    frame = breaking()
    if column == "excess":
        frame = frame.drop(columns="coherence")
    moved = outcomes.change(frame, "trait", 0.8)
    assert (moved.value, moved.count) == (0.0, 6)
    assert outcomes.held(frame, 0.8) == wilson(6, 10)


def test_a_prompt_that_was_broken_unsteered_does_not_count() -> None:
    frame = breaking(broken=0)
    start = (frame["coefficient_norm"] == 0) & (frame["prompt_index"] == 0)
    frame.loc[start, ["trait", "coherence"]] = 0.0
    moved = outcomes.change(frame, "trait", 0.8)
    assert (moved.value, moved.count) == (0.0, 9)
    assert outcomes.held(frame, 0.8) == wilson(9, 9)


def test_without_evidence_that_texts_hold_the_change_is_unknown() -> None:
    frame = breaking().drop(columns=["coherence", "excess"])
    assert outcomes.change(frame, "trait", 0.8).count == 0
    words = verdicts.verdict("mood", frame, found(swept()))
    assert words.count("no prompt has two texts known to hold") == 2
    (row, _) = told(frame)
    assert (row["change, fresh prompts"], row["texts that hold"]) == ("unknown of 0", "unknown")
    unjudged = breaking()
    unjudged.loc[unjudged["prompt_index"] >= 6, "coherence"] = math.nan
    assert outcomes.change(unjudged, "trait", 0.8).count == 2
    assert outcomes.held(unjudged, 0.8) == wilson(2, 6)


def test_coherence_is_of_all_texts() -> None:
    assert outcomes.change(breaking(), "coherence", 0.8).value == pytest.approx(-0.4)


def test_a_change_is_that_of_each_prompt() -> None:
    line = outcomes.change(swept(), "trait", 0.5)
    assert line.value == pytest.approx(0.4)
    assert 0.37 < line.low < 0.4 < line.high < 0.43
    assert line.count == 8
    assert math.isnan(outcomes.change(swept(), "trait", 0.5, kind="shuffled").value)


def test_prompts_that_agree_are_no_certainty() -> None:
    """Of ten alike there may be others yet, at either end of the scale; a log-probability has
    no ends, and one value says nothing of others."""
    unseen = wilson(0, 10).high
    same = outcomes.change(breaking(broken=0), "trait", 0.8)
    # unsteered they are at the lower end already: nothing can have moved further down
    assert (same.value, same.low, same.high) == pytest.approx((0.0, 0.0, 2 * unseen))
    row = outcomes.outcomes(breaking(broken=0)).iloc[1]
    low = wilson(10, 10).low
    assert row["coherence (0 to 1)"] == f"1.00 [{low:.2f}, 1.00]"
    assert row["trait of texts that hold (−1 to 1)"] == f"−1.00 [−1.00, −{1 - 2 * unseen:.2f}]"
    assert row["log-probability, unsteered model (nats per token)"] == "−1.00 (all equal)"
    one = outcomes.outcomes(breaking(broken=0, prompts=1)).iloc[1]
    assert one["log-probability, unsteered model (nats per token)"] == "−1.00 (one value)"


def test_recommended_coefficients_include_zero() -> None:
    values = verdicts.recommended(found(swept()))
    assert len(values) == 3
    assert values[1] == 0
    assert values[0] == pytest.approx(-values[2])


@pytest.mark.parametrize(
    ("effect", "change", "confirmed", "p", "prompts"),
    [
        (0.8, "+0.64 [+0.62, +0.66] of 8", "yes", "0.0039", "8 moved that way, 0 the other"),
        (-0.8, "−0.64 [−0.66, −0.62] of 8", "the wrong way", "0.0039", "0 moved that way, 8"),
        (0.0, "+0.00 [−0.32, +0.32] of 8", "not shown", "1", "0 moved that way, 0 the other"),
    ],
)
def test_what_is_confirmed_follows_the_numbers(
    effect: float, change: str, confirmed: str, p: str, prompts: str
) -> None:
    frame = swept(effect=effect, grid=FEW)
    row = told(frame)[0]
    assert row["change, fresh prompts"] == change
    assert (row["confirmed"], row["p"]) == (confirmed, p)
    assert row["prompts"].startswith(prompts)
    assert row["texts that hold"] == "100% [68%, 100%]"
    words = verdicts.verdict("mood", frame, found(swept()))
    assert (
        "coherence changes by +0.00 [−0.32, +0.00]; of the 8 whose trait could move 100%" in words
    )


def test_it_is_said_how_many_texts_break() -> None:
    """By their coherence, and by the model's own measure, which is what a coefficient aims at."""
    frame = breaking()
    frame.loc[(frame["coefficient"] != 0) & (frame["prompt_index"] == 9), "excess"] = 5.0
    row = told(frame)[0]
    assert row["texts that hold"] == "60% [31%, 83%]"
    assert row["texts intact"] == "50% [24%, 76%]"
    assert outcomes.kept_intact(frame.drop(columns="excess"), 0.8).count == 0


def test_a_vector_has_a_place_among_random_ones() -> None:
    """The largest of 20 is p = 0.05; a random one that moves the trait as far counts against it."""
    own, ceiling = swept(grid=FEW), found(swept())
    less = np.linspace(-0.7, 0.7, 19)
    words = verdicts.verdict("mood", pd.concat([own, draws(*less)]), ceiling)
    said = (
        "place 1 of 20 beside 19 random vectors of that length; theirs: −0.56 to +0.56, means over "
        "8 to 8 prompts"
    )
    assert words.count(said) == 2  # of either sign: towards the negative end on the negative side
    tied = verdicts.verdict("mood", pd.concat([own, draws(*less[:-1], 0.8)]), ceiling)
    assert tied.count("place 2 of 20 beside 19 random vectors of that length") == 2
    against = verdicts.verdict(
        "mood", pd.concat([swept(effect=-0.8, grid=FEW), draws(*less)]), ceiling
    )
    assert against.count("place 20 of 20") == 2


def test_random_vectors_that_break_every_text_do_not_count() -> None:
    gone = swept(grid=FEW, breaks=0.5).assign(vector="random 9")
    frame = pd.concat([swept(grid=FEW), draws(0.1, 0.2), gone], ignore_index=True)
    assert "place 1 of 3 beside 2 random" in verdicts.verdict("mood", frame, found(swept()))


def test_without_a_judge_the_place_is_by_how_far_the_texts_move_at_all() -> None:
    own = swept(judged=False, grid=FEW)
    own.loc[own["coefficient_norm"] != 0, "logprob_unsteered"] = -1.5
    random = draws(*[0.0] * 19).drop(columns=["trait", "coherence"])
    frame = pd.concat([own, random], ignore_index=True)
    words = verdicts.verdict("mood", frame, found(swept()))
    assert (
        "the log-probability under the unsteered model is not shown to move: −0.50 (all equal); "
        "place 1 of 20" in words
    )


def test_one_random_vector_has_no_place() -> None:
    random = swept(effect=0.25, grid=FEW).assign(vector="random")
    words = verdicts.verdict("mood", pd.concat([swept(grid=FEW), random]), found(swept()))
    assert "residual norms: one random vector of that length: +0.20;" in words


def test_a_cost_in_coherence_is_said() -> None:
    words = verdicts.verdict("mood", swept(grid=FEW, breaks=0.8), found(swept()))
    assert "no prompt has two texts known to hold; coherence changes by −1.00 [−1.00" in words


def test_no_effect_recommends_nothing_and_says_why() -> None:
    ceiling = found(swept(effect=0.0))
    assert verdicts.recommended(ceiling) == [0.0]
    words = verdicts.verdict("mood", swept(grid=np.array([0.0])), ceiling)
    assert words.count("no coefficient to recommend") == 2
    assert "does not move" in words


def test_outcomes_name_what_was_done() -> None:
    """19 random vectors are one row, whose intervals are over vectors."""
    fresh = breaking()
    asked = fresh[fresh["coefficient"] == 0].assign(vector="prompted", trait=0.9)
    there = fresh[fresh["coefficient"] != 0]  # a control has no rows at 0
    random = pd.concat([there.assign(vector=f"random {draw}") for draw in range(19)])
    shuffled = there.assign(vector="shuffled", trait=0.0)
    table = outcomes.outcomes(pd.concat([fresh, random, shuffled, asked], ignore_index=True))
    assert table["texts"].tolist() == [
        "unsteered",
        "steered",
        "19 random vectors",
        "shuffled-label vector",
        "asked for in the prompt",
    ]
    assert table["coefficient"].tolist() == ["0", "+0.80", "+0.80", "+0.80", "0"]
    assert table["prompts"].tolist() == [10] * 5
    shares = table["texts that hold"].tolist()
    assert shares[:2] == ["100% [72%, 100%]", "60% [31%, 83%]"]
    assert shares[2] == "60% [50%, 67%]"
    traits = table["trait of texts that hold (−1 to 1)"]
    assert [cell.split()[0] for cell in traits] == ["−1.00", "−1.00", "−1.00", "+0.00", "+0.90"]


def test_asking_in_the_prompt_is_told_of_texts_that_hold() -> None:
    fresh = breaking()
    asked = fresh[fresh["coefficient"] != 0].assign(vector="prompted", coefficient=0.0)
    asked = asked.assign(coefficient_norm=0.0, trait=asked["trait"].where(asked["trait"] == 0, 0.9))
    words = verdicts.verdict("mood", pd.concat([fresh, asked], ignore_index=True), found(swept()))
    assert "gives a mean trait of +0.90 [" in words
    assert "60% [31%, 83%] of those texts hold." in words


def test_only_prompts_that_can_move_tell_of_an_effect() -> None:
    """Of twelve prompts nine are at the upper end already: three are too few, however they move."""
    frame = swept(grid=FEW, prompts=12)
    there = frame["prompt_index"] < 9
    frame.loc[there, "trait"] = 1.0
    few = outcomes.moves(frame, 0.8, 1)
    assert (few.could, few.broke, few.along, few.against) == (3, 0, 3, 0)
    assert few.effect == "unknown"
    back = outcomes.moves(frame, -0.8, -1)
    assert (back.could, back.along, back.effect) == (12, 3, "no effect")
    words = verdicts.verdict("mood", frame, found(swept()))
    assert "of the 3 whose trait could move 100%" in words
    row = told(frame)[0]
    assert row["change, fresh prompts"].startswith("+0.17 [")
    assert row["change, fresh prompts"].endswith(" of 12")
    assert row["prompts"] == "3 moved that way, 0 the other, 0 broke, of 3 that could move"
    assert row["confirmed"] == "too few prompts can move"


def test_the_headline_counts_what_fresh_prompts_confirm() -> None:
    frames = {"mood": swept(), "tone": swept(effect=0.0)}
    ceilings = {name: found(frame) for name, frame in frames.items()}
    fresh = {"mood": swept(grid=FEW), "tone": swept(grid=np.array([0.0]))}
    said = verdicts.confirm(frames, ceilings, fresh)
    table = verdicts.confirmed_table(said)
    assert table["trait"].tolist() == ["mood", "mood"]  # nothing is recommended for the other
    assert table["confirmed"].tolist() == ["yes", "yes"]
    assert table["texts that hold"].tolist() == ["100% [68%, 100%]"] * 2
    assert table["change when chosen"].str[:5].tolist() == ["+0.60", "−0.60"]
    assert verdicts.headline(said) == (
        "2 coefficients are recommended. On fresh prompts 2 of 2 are shown to move the trait. At 2 "
        "of 2 at least 90% of the texts that hold unsteered still hold when steered (at 0 by the "
        "lower end of the interval). At 2 of 2 at least 90% of the texts that are intact by the "
        "model's own measure unsteered still are when steered (at 0 by the lower end of the "
        "interval)."
    )
    assert verdicts.headline([]) == "No coefficient is recommended."
    assert verdicts.placebo(said, fresh) == "No control was measured beside them."


def test_texts_that_break_before_they_show_anything_are_counted() -> None:
    frames = {"mood": swept()}
    ceilings = {"mood": found(frames["mood"])}
    fresh = {"mood": swept(effect=0.0, grid=FEW, breaks=0.8)}
    said = verdicts.confirm(frames, ceilings, fresh)
    table = verdicts.confirmed_table(said)
    assert table["confirmed"].tolist() == [verdicts.BROKE] * 2
    assert (
        table["prompts"].iloc[0] == "0 moved that way, 0 the other, 8 broke, of 8 that could move"
    )
    assert "of 2 most texts that could move broke. At 0 of 2" in verdicts.headline(said)


def test_without_a_judge_the_headline_speaks_of_whole_texts_alone() -> None:
    ceilings = {"mood": found(swept())}
    unjudged = {"mood": swept(judged=False, grid=FEW)}
    said = verdicts.confirm({"mood": swept(judged=False)}, ceilings, unjudged)
    assert "On fresh prompts" not in verdicts.headline(said)
    assert verdicts.confirmed_table(said)["confirmed"].tolist() == ["unknown"] * 2


def test_placebos_go_through_the_same_test() -> None:
    frames = {"mood": swept()}
    ceilings = {"mood": found(frames["mood"])}
    fresh = {"mood": pd.concat([swept(grid=FEW), draws(0.0, 0.8, -0.8)], ignore_index=True)}
    words = verdicts.placebo(verdicts.confirm(frames, ceilings, fresh), fresh)
    assert words == "Of 6 controls at these coefficients the same test calls 2 an effect."
