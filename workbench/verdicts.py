"""What recommended coefficients gave on prompts that chose nothing, in sentences and a table.

The numbers are those of outcomes.py; every word of judgement follows from them. Knows nothing of
models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

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
SAID = {"effect": "yes", "wrong way": "the wrong way", "no effect": "no", "unknown": "too few"}


def recommended(ceiling: Ceiling) -> list[float]:
    """0 and the recommended coefficients of both signs, where there are any, in order."""
    values = [side.recommended.value for side in ceiling.sides.values()]
    return sorted({0.0, *(value for value in values if math.isfinite(value))})


def confirmed_table(
    fresh: Mapping[str, pd.DataFrame], ceilings: Mapping[str, Ceiling]
) -> pd.DataFrame:
    """One row per recommended coefficient: what its sweep said, and what fresh prompts say.

    Columns `trait`, `sign`, `recommended`, `chosen by` (the status of the sweep), `change of the
    trait` where both texts hold, `prompts` (that moved along and against, of those that could),
    `confirmed` (see `outcomes.moves`; "unknown" without a judge), `p`, and `texts that hold`.
    """
    rows = []
    for trait, ceiling in ceilings.items():
        frame = fresh[trait]
        for side in ceiling.sides.values():
            value = side.recommended.value
            if not math.isfinite(value):
                continue
            found = moves(frame, value, side.sign) if "trait" in frame.columns else None
            holds = held(frame, value)
            rows.append(
                {
                    "trait": trait,
                    "sign": signed(side.sign),
                    "recommended": number(value),
                    "chosen by": side.status,
                    "change of the trait": interval(found.change) if found else "unknown",
                    "prompts": _counted(found) if found else "–",
                    "confirmed": SAID[found.effect] if found else "unknown",
                    "p": f"{found.p:.2g}" if found else "–",
                    "texts that hold": interval(holds, ".0%") if holds.count else "unknown",
                }
            )
    return pd.DataFrame(rows)


def headline(table: pd.DataFrame) -> str:
    """`confirmed_table` in two sentences."""
    if table.empty:
        return "No coefficient is recommended."
    count = len(table)
    said = [f"{count} coefficient{'s are' if count > 1 else ' is'} recommended."]
    if (table["confirmed"] != "unknown").any():
        seen = int((table["confirmed"] == SAID["effect"]).sum())
        few = int((table["confirmed"] == SAID["unknown"]).sum())
        said.append(
            f"On fresh prompts {seen} of {count} move the trait by more than chance"
            + (f"; for {few} too few prompts can still move to tell." if few else ".")
        )
    whole = table["texts that hold"].str.extract(r"^(\d+)%")[0].dropna().astype(int)
    if len(whole):
        kept = int((whole >= 100 * RECOMMENDED_SHARE).sum())
        said.append(
            f"At {kept} of {len(whole)} at least {RECOMMENDED_SHARE:.0%} of the texts that held "
            "unsteered still hold."
        )
    return " ".join(said)


def verdict(trait: str, frame: pd.DataFrame, ceiling: Ceiling) -> str:
    """In one paragraph what the recommended coefficients gave on fresh prompts.

    frame    a sweep over `recommended(ceiling)` on prompts that chose nothing
    ceiling  what chose them
    """
    sentences = [_side_verdict(frame, side, ceiling.unit) for side in ceiling.sides.values()]
    asked = prepared(frame)[frame["vector"] == "prompted"]
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
        "no effect": "does not measurably move the trait:",
        "unknown": "may or may not move the trait, too few prompts can:",
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
    return f"{found.along} that way and {found.against} the other, of {found.able} that could"


def _beside_draws(frame: pd.DataFrame, column: str, side: Side, moved: float) -> list[str]:
    """The vector's place among controls of its length, family by family: of a trait by how far
    each moves it the way of the sign, of any other measure by how far it moves it at all."""
    said = []
    for name, kinds in draws(frame).items():
        found = [change(frame, column, side.recommended.value, kind).value for kind in kinds]
        known = np.array([value for value in found if not math.isnan(value)], dtype=np.float64)
        what = CONTROLS.get(name, name)
        if len(known) == 1:
            said.append(f"one {what} vector of that length: {number(known[0])}")
        elif len(known):
            if column == "trait":
                place, of = place_among(side.sign * moved, np.float64(side.sign) * known)
            else:
                place, of = place_among(abs(moved), np.abs(known))
            said += [
                f"place {place} of {of} beside {of - 1} {what} vectors of that length, "
                f"p = {place / of:.2f}",
                f"theirs: {number(known.min())} to {number(known.max())}",
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
