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

from workbench.statistics.crossings import RECOMMENDED_SHARE
from workbench.statistics.effects import place_among
from workbench.statistics.intervals import Interval
from workbench.studies.recommended_outcomes import (
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
from workbench.support.wording import interval, number, signed
from workbench.sweeps.marks import UNITS, Ceiling, Side

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
    holds, intact  of the prompts whose unsteered text holds (is intact), the share whose steered
                   one does
    """

    trait: str
    side: Side
    moves: Moves | None
    before: Interval | None
    holds: Interval
    intact: Interval

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
    chose, then on fresh prompts, and of how many; `prompts` that moved, and that broke, of those
    that could; `confirmed`; `p`; and the shares of texts that hold and that are intact."""
    return pd.DataFrame(
        {
            "trait": one.trait,
            "sign": signed(one.side.sign),
            "recommended": number(one.side.recommended.value),
            "change when chosen": interval(one.before) if one.before else "unknown",
            "change, fresh prompts": (
                f"{interval(one.moves.change)} of {one.moves.change.count}"
                if one.moves
                else "unknown"
            ),
            "prompts": _counted(one.moves) if one.moves else "–",
            "confirmed": one.said,
            "p": f"{one.moves.p:.2g}" if one.moves else "–",
            "texts that hold": interval(one.holds, ".0%") if one.holds.count else "unknown",
            "texts intact": interval(one.intact, ".0%") if one.intact.count else "unknown",
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
    for which, words, again in (
        ("holds", "hold", "hold"),
        ("intact", "are intact by the model's own measure", "are"),
    ):
        shares = [share for one in found if (share := getattr(one, which)).count]
        if shares:
            kept = sum(share.value >= RECOMMENDED_SHARE for share in shares)
            shown = sum(share.low >= RECOMMENDED_SHARE for share in shares)
            said.append(
                f"At {kept} of {len(shares)} at least {RECOMMENDED_SHARE:.0%} of the texts that "
                f"{words} unsteered still {again} when steered (at {shown} by the lower end of the "
                "interval)."
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
    """In one paragraph what `confirmed_table` does not say of the recommended coefficients: where
    there is none, and why; the place among controls; the cost in coherence; who broke; prompting.

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
    judged = "trait" in frame.columns
    column = "trait" if judged else "logprob_unsteered"
    moved = change(frame, column, value)
    if not moved.count:
        notes = ["no prompt has two texts known to hold"]
    else:
        notes = [] if judged else [_about_likelihood(moved)]
        notes += _beside_draws(frame, column, side, moved.value)
    if "coherence" in frame.columns:
        notes.append(f"coherence changes by {interval(change(frame, 'coherence', value))}")
    if judged and (able := held(frame, value, able=side.sign)).count:
        notes.append(f"of the {able.count} whose trait could move {interval(able, '.0%')} hold")
    return f"{number(value)} {UNITS[unit]}s: {'; '.join(notes)}."


def _about_likelihood(moved: Interval) -> str:
    what = "the log-probability under the unsteered model"
    # Units that all agree, without a scale, bound nothing: that is no measurement either.
    measurable = moved.low != moved.high and (moved.low > 0 or moved.high < 0)
    words = f"{what} moves by" if measurable else f"{what} is not shown to move:"
    return f"{words} {interval(moved)}"


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
