"""What recommended coefficients gave on prompts that chose nothing, in tables and sentences.

A text *holds* if its exact coherence is at least a half or, where no judge knows the coherence, if
it is intact (breakage.py). What is said of the trait is said of texts that hold: a broken text
shows none, which is no steering. Every number and every word of judgement comes from the frame.
Knows nothing of models.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.bands import SCALES
from workbench.breakage import NEEDED, intact
from workbench.crossings import RECOMMENDED_SHARE
from workbench.effects import place_among
from workbench.intervals import NOTHING, Interval, bootstrap_mean, wilson
from workbench.marks import UNITS, Ceiling, Side
from workbench.planning import is_random
from workbench.rules import COHERENT
from workbench.slopes import coefficient_axis
from workbench.wording import interval, number, signed


class Measure(NamedTuple):
    """What a table shows of a text: the column, its name in words and its format."""

    column: str
    words: str
    spec: str


MEASURES = (
    Measure("trait", "trait of texts that hold (−1 to 1)", "+.2f"),
    Measure("coherence", "coherence (0 to 1)", ".2f"),
    Measure("logprob_unsteered", "log-probability, unsteered model (nats per token)", "+.2f"),
    Measure("distinct_2", "distinct pairs of tokens (share)", ".2f"),
)
# One kind of row of a sweep is named for the reader; a control is called by its own name.
KINDS = {"vector": "steered", "prompted": "asked for in the prompt"}


def recommended(ceiling: Ceiling) -> list[float]:
    """0 and the recommended coefficients of both signs, where there are any, in order."""
    values = [side.recommended.value for side in ceiling.sides.values()]
    return sorted({0.0, *(value for value in values if math.isfinite(value))})


def holding(frame: pd.DataFrame) -> pd.Series:
    """Whether each text of a sweep holds: 1, 0, or NaN where nothing is known of it."""
    if "coherence" in frame.columns:
        known = frame["coherence"].astype(float)
        return (known >= COHERENT).astype(float).where(known.notna())
    if all(name in frame.columns for name in NEEDED):
        return intact(frame)["intact"].astype(float)
    return pd.Series(math.nan, index=frame.index)


def held(frame: pd.DataFrame, coefficient: float, kind: str = "vector") -> Interval:
    """Of the prompts whose unsteered text holds, the share whose text at a coefficient does, with
    Wilson's 95 % interval.

    coefficient, kind  as for `change`
    """
    return _still(_prepared(frame), "holds", coefficient, kind)


def kept_intact(frame: pd.DataFrame, coefficient: float, kind: str = "vector") -> Interval:
    """Of the prompts whose unsteered text is intact by the model's own measure (breakage.py), the
    share whose text at a coefficient is, with Wilson's 95 % interval: what a recommended
    coefficient aims at. Without trials where the frame lacks the measure's columns.

    coefficient, kind  as for `change`
    """
    if not all(name in frame.columns for name in NEEDED):
        return NOTHING
    return _still(_prepared(intact(frame)), "intact", coefficient, kind)


def change(frame: pd.DataFrame, column: str, coefficient: float, kind: str = "vector") -> Interval:
    """Mean change of a measure from each prompt's unsteered text, with its 95 % interval.

    column       of `MEASURES`; of the trait only those prompts count whose texts both hold
    coefficient  the nearest one in the frame counts
    kind         whose texts: the vector's own, or a control's

    All is NaN where there are no such texts.
    """
    frame = _prepared(frame)
    start, there = _pairs(frame, column, coefficient, kind)
    moved = there - start
    if column == "trait":
        before, after = _pairs(frame, "holds", coefficient, kind)
        moved = moved[(before == 1) & (after == 1)]
    bounds = SCALES.get(column)
    began = start[moved.dropna().index]
    if bounds is None or began.empty:
        return bootstrap_mean(moved)
    # Nothing can change by more than what was left of the scale.
    low, high = bounds[0] - began.max(), bounds[1] - began.min()
    return bootstrap_mean(moved, bounds=(min(low, moved.min()), max(high, moved.max())))


def random_kinds(frame: pd.DataFrame) -> list[str]:
    """The names of the random controls in a sweep, those that begin with "random"."""
    return [kind for kind in dict.fromkeys(frame["vector"]) if is_random(kind)]


def outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """What a few coefficients gave: per kind of row and coefficient the share of texts that hold
    and each measure's mean, with 95 % intervals, as text: over prompts, but for several draws of a
    random vector, which are taken together, over the draws.

    frame  a sweep over few coefficients, with controls and prompted rows or without
    """
    frame = _prepared(frame)
    draws = random_kinds(frame)
    shown = [
        measure
        for measure in MEASURES
        if measure.column in frame.columns and frame[measure.column].notna().any()
    ]
    kinds = frame["vector"].map(lambda kind: "random" if is_random(kind) else kind)
    rows = []
    for kind, group in frame.groupby(kinds, sort=False):
        words, unit = KINDS.get(str(kind), f"{kind} vector"), "prompt_index"
        if kind == "random" and len(draws) > 1:
            words, unit = f"{len(draws)} random vectors", "vector"
        for place in sorted(group["coefficient_norm"].unique()):
            if kind not in ("vector", "prompted") and place == 0:
                continue  # a control of length 0 is the unsteered model again
            part = group[group["coefficient_norm"] == place]
            rows.append(
                {
                    "texts": "unsteered" if kind == "vector" and place == 0 else words,
                    "coefficient": number(place) if place else "0",
                    "prompts": part["prompt_index"].nunique(),
                    "texts that hold": _cell(_mean(part, "holds", unit), ".0%"),
                    **{one.words: _cell(_mean(part, one.column, unit), one.spec) for one in shown},
                }
            )
    return pd.DataFrame(rows)


def verdict(trait: str, frame: pd.DataFrame, ceiling: Ceiling) -> str:
    """In one paragraph what the recommended coefficients gave on fresh prompts.

    frame    a sweep over `recommended(ceiling)` on prompts that chose nothing
    ceiling  what chose them
    """
    sentences = [_side_verdict(frame, side, ceiling.unit) for side in ceiling.sides.values()]
    asked = _prepared(frame)[frame["vector"] == "prompted"]
    if "trait" in frame.columns and len(asked):
        shown, share = _mean(asked, "trait"), interval(_mean(asked, "holds"), ".0%")
        sentences.append(
            f"Asking for it in the prompt, unsteered, gives a mean trait of {interval(shown)}; "
            f"{share} of those texts hold. (These are other prompts, so this is no difference.)"
        )
    return f"**{trait}.** " + " ".join(sentences)


def _side_verdict(frame: pd.DataFrame, side: Side, unit: str) -> str:
    value = side.recommended.value
    if not math.isfinite(value):
        return f"Sign {signed(side.sign)}: no coefficient to recommend ({'; '.join(side.reasons)})."
    column = "trait" if "trait" in frame.columns else "logprob_unsteered"
    what = "the trait" if column == "trait" else "the log-probability under the unsteered model"
    moved = change(frame, column, value)
    start = f"{number(value)} {UNITS[unit]}s"
    if not moved.count:
        sentence = f"{start}: how {what} moves is unknown, as no prompt has two texts known to hold"
    else:
        # Units that all agree, without a scale, bound nothing: that is no measurement either.
        measurable = moved.low != moved.high and (moved.low > 0 or moved.high < 0)
        words = f"moves {what} by" if measurable else f"does not measurably move {what}:"
        sentence = f"{start} {words} {interval(moved)}"
        notes = _beside_random(frame, column, side, moved.value)
        if column == "trait":
            sentence += " where both texts hold"
            notes = [_prompts(moved.count), *notes]
        if notes:
            sentence += f" ({'; '.join(notes)})"
        if column == "trait" and measurable and moved.value * side.sign < 0:
            sentence += ", the wrong way"
    if "coherence" in frame.columns:
        sentence += f", and coherence by {interval(change(frame, 'coherence', value))}"
    return f"{sentence}. {_kept(held(frame, value), kept_intact(frame, value))}"


def _beside_random(frame: pd.DataFrame, column: str, side: Side, moved: float) -> list[str]:
    """The vector's place among random ones of its length: of a trait by how far each moves it the
    way of the sign, of any other measure by how far it moves it at all. Nothing without them."""
    found = [
        change(frame, column, side.recommended.value, kind).value for kind in random_kinds(frame)
    ]
    draws = np.array([value for value in found if not math.isnan(value)], dtype=np.float64)
    if len(draws) == 0:
        return []
    if len(draws) == 1:
        return [f"one random vector of that length: {number(draws[0])}"]
    if column == "trait":
        place, of = place_among(side.sign * moved, np.float64(side.sign) * draws)
    else:
        place, of = place_among(abs(moved), np.abs(draws))
    return [
        f"place {place} of {of} beside {of - 1} random vectors of that length, "
        f"p = {place / of:.2f}",
        f"theirs: {number(draws.min())} to {number(draws.max())}",
    ]


def _kept(holds: Interval, whole: Interval) -> str:
    said = []
    if holds.count:
        said.append(
            f"Of {_prompts(holds.count)} whose unsteered text holds, {interval(holds, '.0%')} "
            "still hold there"
        )
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


def _prepared(frame: pd.DataFrame) -> pd.DataFrame:
    """With `holds`, and coefficients in `coefficient_norm` even where norms are unknown."""
    axis, _ = coefficient_axis(frame)
    return frame.assign(coefficient_norm=frame[axis], holds=holding(frame))


def _pairs(
    frame: pd.DataFrame, column: str, coefficient: float, kind: str
) -> tuple[pd.Series, pd.Series]:
    """Per prompt a column of its unsteered text, and of its text at the nearest coefficient, from
    a prepared frame."""
    start = frame[(frame["vector"] == "vector") & (frame["coefficient_norm"] == 0)]
    own = frame[frame["vector"] == kind]
    if len(own):
        place = nearest(own["coefficient_norm"].to_numpy(dtype=float), coefficient)
        own = own[own["coefficient_norm"] == place]
    before, after = (part.groupby("prompt_index")[column].mean() for part in (start, own))
    return before.align(after)


def _still(frame: pd.DataFrame, column: str, coefficient: float, kind: str) -> Interval:
    """Of the prompts whose unsteered text has a property, the share that has it there too."""
    start, there = _pairs(frame, column, coefficient, kind)
    still = there[start == 1].dropna()
    return wilson(int((still == 1).sum()), len(still))


def nearest(grid: np.ndarray, value: float) -> float:
    """The entry of a grid (K,) that lies nearest to a value."""
    return float(grid[np.abs(grid - value).argmin()])


def _mean(part: pd.DataFrame, column: str, unit: str = "prompt_index") -> Interval:
    if column == "trait":
        part = part[part["holds"] == 1]
    return bootstrap_mean(part[column], part[unit], bounds=SCALES.get(column))


def _cell(found: Interval, spec: str) -> str:
    return interval(found, spec) if found.count else "–"
