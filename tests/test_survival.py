"""Survival of texts by token, from sweeps whose every break is known."""

import math

import numpy as np
import pandas as pd
import pytest

from tests.sweeps import swept
from workbench.sweeps.survival import break_tokens, ceilings_by_length, exact_break_tokens, survival


def breaking(prompts: int = 20, tokens: int = 40) -> pd.DataFrame:
    """At coefficient c texts break at token 40 (2 - |c|) / 2, one token later or earlier a prompt:
    half of them by token t where |c| = 2 - t / 20."""
    frame = swept(prompts=prompts)
    shift = np.where(frame["prompt_index"] % 2, 1, -1)
    at = np.round(tokens * (2 - frame["coefficient_norm"].abs()) / 2) + shift
    breaks = (frame["coefficient_norm"] != 0) & (at < tokens)
    return frame.assign(
        excess=np.where(breaks, 3.0 * (tokens - at) / tokens, 0.0),
        drift=np.where(breaks, 2.5 * (tokens - at) + 5, 1.0),
        drift_from=np.where(breaks, at.clip(lower=0), tokens),
        repeat_from=tokens,
    )


def test_a_text_breaks_where_its_climb_began() -> None:
    frame = breaking()
    found = break_tokens(frame)
    np.testing.assert_array_equal(
        found, frame["drift_from"].astype(float).where(frame["drift"] > 4, math.inf)
    )


def test_a_climb_within_what_unsteered_texts_show_is_no_break() -> None:
    """A model that stumbles by itself is judged by its own measure."""
    frame = breaking()
    unsteered = frame["coefficient_norm"] == 0
    rng = np.random.default_rng(0)
    frame.loc[unsteered, "drift"] = rng.uniform(0, 60, unsteered.sum())
    assert not np.isfinite(break_tokens(frame)[unsteered]).any()
    assert not np.isfinite(break_tokens(frame)[frame["drift"] < 60]).any()


def test_loops_break_where_they_come_round_and_empty_texts_at_once() -> None:
    frame = breaking()
    looped, empty = frame.index[3], frame.index[5]
    frame.loc[looped, ["longest_repeat", "repeat_from", "drift"]] = [30, 10, 0.0]
    frame.loc[empty, ["text", "drift"]] = ["", 0.0]
    found = break_tokens(frame)
    assert found[looped] == 10
    assert found[empty] == 0


def test_fewer_texts_survive_the_longer_they_are_and_the_harder_they_are_steered() -> None:
    table = survival(breaking())
    wide = table.pivot(index="coefficient", columns="token", values="share")
    assert (np.diff(wide.to_numpy(), axis=1) <= 0).all()
    assert (np.diff(wide[wide.index >= 0].to_numpy(), axis=0) <= 0).all()
    assert wide.loc[1.0, 10] == 1
    assert wide.loc[1.0, 30] == 0


def test_the_ceiling_falls_with_the_length_of_the_text() -> None:
    table = ceilings_by_length(breaking(), (10, 20, 30), shares=(0.5, 0.95))
    for row in table.itertuples():
        step = 0.25
        assert abs(abs(row.value) - (2 - row.tokens / 20)) <= step
        assert row.share == 0.95 or abs(row.low) <= abs(row.value)
        assert abs(row.value) <= abs(row.high)
        assert np.sign(row.value) == row.sign
    assert table.loc[table["share"] == 0.95, "low"].isna().all()  # 20 prompts cannot show it
    halves = table[table["share"] == 0.5].set_index(["sign", "tokens"])["value"].abs()
    most = table[table["share"] == 0.95].set_index(["sign", "tokens"])["value"].abs()
    assert (most <= halves).all()


def test_exact_breaks_are_the_characters_share_of_the_tokens() -> None:
    texts = ["x" * 100, "x" * 100, "", " \n"]
    frame = pd.DataFrame(
        {"text": texts, "breaks_at": [50, np.nan, np.nan, np.nan], "tokens": [40] * 4}
    )
    assert exact_break_tokens(frame).tolist() == [20, math.inf, 0, 0]


def test_a_break_that_heals_further_out_bounds_nothing_from_above() -> None:
    """Texts are broken from 0.75 to 1.25 and whole again beyond: only what lies before counts."""
    frame = breaking()
    size = frame["coefficient_norm"].abs()
    broken = size.between(0.7, 1.3)
    frame["drift"] = np.where(broken, 90.0, 1.0)
    frame["drift_from"] = np.where(broken, 5, 40)
    table = ceilings_by_length(frame, (40,), shares=(0.5,))
    assert table["value"].abs().tolist() == pytest.approx([0.625, 0.625])
    assert np.isfinite(table["high"]).all()


def test_what_cannot_be_told_is_refused() -> None:
    frame = breaking()
    with pytest.raises(ValueError, match=r"lacks the columns \['drift'"):
        break_tokens(frame.drop(columns="drift"))
    with pytest.raises(ValueError, match="length 41: the sweep's texts have 1 to 40 tokens"):
        ceilings_by_length(frame, (41,))
    with pytest.raises(ValueError, match="every unsteered text breaks"):
        survival(frame, pd.Series(0.0, index=frame.index))
    with pytest.raises(ValueError, match="a prompt lacks a text at some coefficient"):
        survival(frame.drop(index=frame.index[3]))
    with pytest.raises(ValueError, match="a prompt has two texts at one coefficient"):
        survival(pd.concat([frame, frame], ignore_index=True))
    stopped = frame.copy()
    stopped.attrs |= {"complete": False, "rows_planned": 999, "missing": []}
    with pytest.raises(ValueError, match="survival needs a whole sweep"):
        survival(stopped)
    with pytest.raises(ValueError, match="the drift of 1 texts is unknown"):
        break_tokens(frame.assign(drift=frame["drift"].mask(frame.index == 3)))
    with pytest.raises(ValueError, match="no coefficient 0"):
        survival(frame[frame["coefficient"] != 0], pd.Series(0.0, index=frame.index))
