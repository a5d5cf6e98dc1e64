"""What recommended coefficients gave on prompts that chose nothing, in sentences and a table.

The numbers are those of outcomes.py; every word of judgement follows from them. Knows nothing of
models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.crossings import RECOMMENDED_SHARE
from workbench.effects import place_among
from workbench.intervals import Interval
from workbench.marks import UNITS, Ceiling, Side
from workbench.outcomes import (
    CONTROLS,
    Moves,
    change,
    draws,
    held,
    kept_intact,
    mean,
    moves,
    prepared,
)
from workbench.wording import interval, number, signed

# What a test on fresh prompts says of a coefficient that was recommended.
SAID = {
    "effect": "yes",
    "wrong way": "the wrong way",
    "no effect": "not shown",
    "unknown": "too few prompts can move",
}
BROKE = "most that could move broke"


def recommended(ceiling: Ceiling) -> list[float]:
    """0 and the recommended coefficients of both signs, where there are any, in order."""
    values = [side.recommended.value for side in ceiling.sides.values()]
    return sorted({0.0, *(value for value in values if math.isfinite(value))})


class Confirmed(NamedTuple):
    """One recommended coefficient: what its sweep said, and what fresh prompts say.

    moves, before  of the trait on fresh prompts, and its change in the sweep that chose; None
                   where no judge measured it
    holds, whole   of the prompts whose unsteered text holds (is intact), the share whose steered
                   one does
    """

    trait: str
    side: Side
    moves: Moves | None
    before: Interval | None
    holds: Interval
    whole: Interval

    @property
    def said(self) -> str:
        """Whether the trait moves, in words."""
        if self.moves is None:
            return "unknown"
        if self.moves.effect == "unknown" and 2 * self.moves.broke > self.moves.could:
            return BROKE
        return SAID[self.moves.effect]


def confirm(
    frames: Mapping[str, pd.DataFrame],
    ceilings: Mapping[str, Ceiling],
    fresh: Mapping[str, pd.DataFrame],
) -> list[Confirmed]:
    """Every recommended coefficient on fresh prompts.

    frames    trait -> the sweep that chose
    ceilings  trait -> what it chose
    fresh     trait -> the sweep over `recommended(ceiling)` on other prompts
    """
    found = []
    for trait, ceiling in ceilings.items():
        frame = prepared(fresh[trait])
        for side in ceiling.sides.values():
            value = side.recommended.value
            if not math.isfinite(value):
                continue
            judged = "trait" in frame.columns
            found.append(
                Confirmed(
                    trait,
                    side,
                    moves(frame, value, side.sign) if judged else None,
                    change(frames[trait], "trait", value) if judged else None,
                    held(frame, value),
                    kept_intact(frame, value),
                )
            )
    return found


def confirmed_table(found: Sequence[Confirmed]) -> pd.DataFrame:
    """`confirm` as a table: `change` of the trait where both texts hold, first in the sweep that
    chose, then on fresh prompts; `prompts` that moved, and that broke, of those that could;
    `confirmed`; `p`; and the shares of texts that hold and that are intact."""
    return pd.DataFrame(
        {
            "trait": one.trait,
            "sign": signed(one.side.sign),
            "recommended": number(one.side.recommended.value),
            "change when chosen": interval(one.before) if one.before else "unknown",
            "change, fresh prompts": interval(one.moves.change) if one.moves else "unknown",
            "prompts": _counted(one.moves) if one.moves else "–",
            "confirmed": one.said,
            "p": f"{one.moves.p:.2g}" if one.moves else "–",
            "texts that hold": interval(one.holds, ".0%") if one.holds.count else "unknown",
            "texts intact": interval(one.whole, ".0%") if one.whole.count else "unknown",
        }
        for one in found
    )


def headline(found: Sequence[Confirmed]) -> str:
    """`confirm` in a few sentences."""
    if not found:
        return "No coefficient is recommended."
    count = len(found)
    said = [f"{count} coefficient{'s are' if count > 1 else ' is'} recommended."]
    if any(one.moves for one in found):
        words = [one.said for one in found]
        seen, lost = words.count(SAID["effect"]), words.count(BROKE)
        said.append(
            f"On fresh prompts {seen} of {count} are shown to move the trait"
            + (f"; of {lost} most texts that could move broke." if lost else ".")
        )
    for name, shares in (
        ("hold", [one.holds for one in found if one.holds.count]),
        ("are intact by the model's own measure", [one.whole for one in found if one.whole.count]),
    ):
        if shares:
            kept = sum(share.value >= RECOMMENDED_SHARE for share in shares)
            shown = sum(share.low >= RECOMMENDED_SHARE for share in shares)
            said.append(
                f"At {kept} of {len(shares)} at least {RECOMMENDED_SHARE:.0%} of the texts that "
                f"did unsteered still {name} (at {shown} by the lower end of the interval)."
            )
    return " ".join(said)


def placebo(found: Sequence[Confirmed], fresh: Mapping[str, pd.DataFrame]) -> str:
    """How often the test of `confirm` calls an effect what controls of the same length do."""
    fresh = {trait: prepared(frame) for trait, frame in fresh.items()}
    calls = [
        moves(fresh[one.trait], one.side.recommended.value, one.side.sign, kind).effect
        for one in found
        if one.moves
        for kinds in draws(fresh[one.trait]).values()
        for kind in kinds
    ]
    if not calls:
        return "No control was measured beside them."
    return (
        f"Of {len(calls)} controls at these coefficients the same test calls "
        f"{calls.count('effect')} an effect."
    )


def verdict(trait: str, frame: pd.DataFrame, ceiling: Ceiling) -> str:
    """In one paragraph what the recommended coefficients gave on fresh prompts.

    frame    a sweep over `recommended(ceiling)` on prompts that chose nothing
    ceiling  what chose them
    """
    frame = prepared(frame)
    sentences = [_side_verdict(frame, side, ceiling.unit) for side in ceiling.sides.values()]
    asked = frame[frame["vector"] == "prompted"]
    if "trait" in frame.columns and len(asked):
        shown, share = mean(asked, "trait"), interval(mean(asked, "holds"), ".0%")
        sentences.append(
            f"Asking for it in the prompt, unsteered, gives a mean trait of {interval(shown)}; "
            f"{share} of those texts hold. (These are other prompts, so this is no difference.)"
        )
    return f"**{trait}.** " + " ".join(sentences)


def _side_verdict(frame: pd.DataFrame, side: Side, unit: str) -> str:
    value = side.recommended.value
    if not math.isfinite(value):
        return f"Sign {signed(side.sign)}: no coefficient to recommend ({'; '.join(side.reasons)})."
    start = f"{number(value)} {UNITS[unit]}s"
    if "trait" in frame.columns:
        sentence = _about_trait(frame, side, start)
    else:
        sentence = _about_likelihood(frame, side, start)
    if "coherence" in frame.columns:
        sentence += f", and coherence by {interval(change(frame, 'coherence', value))}"
    able = held(frame, value, able=side.sign) if "trait" in frame.columns else None
    return f"{sentence}. {_kept(held(frame, value), able, kept_intact(frame, value))}"


def _about_trait(frame: pd.DataFrame, side: Side, start: str) -> str:
    found = moves(frame, side.recommended.value, side.sign)
    if not found.change.count:
        return f"{start}: how the trait moves is unknown, as no prompt has two texts known to hold"
    words = {
        "effect": "moves the trait by",
        "wrong way": "moves the trait the wrong way, by",
        "no effect": "is not shown to move the trait:",
        "unknown": "may or may not move the trait, too few texts that hold can show it:",
    }
    notes = [
        f"{_prompts(found.change.count)}, {_counted(found)}",
        f"p = {found.p:.2g} by sign flips",
        *_beside_draws(frame, "trait", side, found.change.value),
    ]
    return (
        f"{start} {words[found.effect]} {interval(found.change)} where both texts hold "
        f"({'; '.join(notes)})"
    )


def _about_likelihood(frame: pd.DataFrame, side: Side, start: str) -> str:
    what = "the log-probability under the unsteered model"
    moved = change(frame, "logprob_unsteered", side.recommended.value)
    if not moved.count:
        return f"{start}: how {what} moves is unknown, as no prompt has two texts known to hold"
    # Units that all agree, without a scale, bound nothing: that is no measurement either.
    measurable = moved.low != moved.high and (moved.low > 0 or moved.high < 0)
    words = f"moves {what} by" if measurable else f"does not measurably move {what}:"
    notes = _beside_draws(frame, "logprob_unsteered", side, moved.value)
    return f"{start} {words} {interval(moved)}" + (f" ({'; '.join(notes)})" if notes else "")


def _counted(found: Moves) -> str:
    return (
        f"{found.along} moved that way, {found.against} the other, {found.broke} broke, "
        f"of {found.could} that could move"
    )


def _beside_draws(frame: pd.DataFrame, column: str, side: Side, moved: float) -> list[str]:
    """The vector's place among controls of its length, family by family: of a trait by how far
    each moves it the way of the sign, of any other measure by how far it moves it at all."""
    said = []
    for name, kinds in draws(frame).items():
        found = [change(frame, column, side.recommended.value, kind) for kind in kinds]
        counts = [one.count for one in found if one.count]
        known = np.array([one.value for one in found if one.count], dtype=np.float64)
        what = CONTROLS.get(name, name)
        if len(known) == 1:
            said.append(f"one {what} vector of that length: {number(known[0])}")
        elif len(known):
            if column == "trait":
                place, of = place_among(side.sign * moved, np.float64(side.sign) * known)
            else:
                place, of = place_among(abs(moved), np.abs(known))
            said += [
                f"place {place} of {of} beside {of - 1} {what} vectors of that length",
                f"theirs: {number(known.min())} to {number(known.max())}, means over "
                f"{min(counts)} to {max(counts)} prompts",
            ]
    return said


def _kept(holds: Interval, able: Interval | None, whole: Interval) -> str:
    said = []
    if holds.count:
        said.append(
            f"Of {_prompts(holds.count)} whose unsteered text holds, {interval(holds, '.0%')} "
            "still hold there"
        )
        if able and 0 < able.count < holds.count:
            said[-1] += f" (of the {able.count} whose trait can move, {interval(able, '.0%')})"
    if whole.count:
        said.append(
            f"of {whole.count} whose unsteered text is intact by the model's own measure, "
            f"{interval(whole, '.0%')} still are (what the recommendation aims at: "
            f"{RECOMMENDED_SHARE:.0%})"
        )
    if not said:
        return "No unsteered text is known to hold, so none can be seen to break."
    sentence = "; ".join(said)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _prompts(count: int) -> str:
    return f"{count} prompt{'s' if count > 1 else ''}"
