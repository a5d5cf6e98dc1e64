"""What a few coefficients gave on prompts that chose none of them, measured.

A text *holds* if its exact coherence is at least a half or, where no judge knows the coherence, if
it is intact (breakage.py). What is said of the trait is said of texts that hold: a broken text
shows none, which is no steering. How it is worded: verdicts.py. Knows nothing of models.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from workbench.judges import HOLDS
from workbench.statistics.effects import Effect, judge_effect
from workbench.statistics.intervals import NOTHING, Interval, bootstrap_mean, wilson
from workbench.support.wording import LOGGED, interval, number
from workbench.sweeps.bands import SCALES
from workbench.sweeps.breakage import NEEDED, intact
from workbench.sweeps.frames import coefficient_axis

LEVEL = 0.95


class Measure(NamedTuple):
    """What a table shows of a text: the column, its name in words and its format."""

    column: str
    words: str
    spec: str


MEASURES = (
    Measure("trait", f"{LOGGED['trait']} of texts that hold (−1 to 1)", "+.2f"),
    Measure("coherence", f"{LOGGED['coherence']} (0 to 1)", ".2f"),
    Measure("logprob_unsteered", f"{LOGGED['logprob_unsteered']} (nats per token)", "+.2f"),
    Measure("distinct_2", f"{LOGGED['distinct_2']} (share)", ".2f"),
)
# One kind of row of a sweep is named for the reader; a control is called by its own name.
KINDS = {"vector": "steered", "prompted": "asked for in the prompt"}
# How a control is called, by its family.
CONTROLS = {"shuffled": "shuffled-label"}


def holding(frame: pd.DataFrame) -> pd.Series:
    """Whether each text of a sweep holds: 1, 0, or NaN where nothing is known of it."""
    if "coherence" in frame.columns:
        known = frame["coherence"].astype(float)
        return (known >= HOLDS).astype(float).where(known.notna())
    if all(name in frame.columns for name in NEEDED):
        return intact(frame)["intact"].astype(float)
    return pd.Series(math.nan, index=frame.index)


def held(
    frame: pd.DataFrame, coefficient: float, kind: str = "vector", *, able: int = 0
) -> Interval:
    """Of the prompts whose unsteered text holds, the share whose text at a coefficient does, with
    Wilson's 95 % interval.

    coefficient, kind  as for `change`
    able               1 or -1: only the prompts whose trait can still move that way
    """
    frame = prepared(frame)
    return _still(frame, "holds", coefficient, kind, _able(frame, able) if able else None)


def kept_intact(frame: pd.DataFrame, coefficient: float, kind: str = "vector") -> Interval:
    """Of the prompts whose unsteered text is intact by the model's own measure (breakage.py), the
    share whose text at a coefficient is, with Wilson's 95 % interval: what a recommended
    coefficient aims at. Without trials where the frame lacks the measure's columns.

    coefficient, kind  as for `change`
    """
    if not all(name in frame.columns for name in NEEDED):
        return NOTHING
    return _still(prepared(intact(frame)), "intact", coefficient, kind)


def change(frame: pd.DataFrame, column: str, coefficient: float, kind: str = "vector") -> Interval:
    """Mean change of a measure from each prompt's unsteered text, with its 95 % interval.

    column       of `MEASURES`; of the trait only those prompts count whose texts both hold
    coefficient  the nearest one in the frame counts
    kind         whose texts: the vector's own, or a control's

    All is NaN where there are no such texts.
    """
    start, moved = _changes(prepared(frame), column, coefficient, kind)
    bounds = SCALES.get(column)
    began = start[moved.dropna().index]
    if bounds is None or began.empty:
        return bootstrap_mean(moved)
    # Nothing can change by more than what was left of the scale.
    low, high = bounds[0] - began.max(), bounds[1] - began.min()
    return bootstrap_mean(moved, bounds=(min(low, moved.min()), max(high, moved.max())))


class Moves(NamedTuple):
    """How the trait of prompts moves at a coefficient, texts that hold alone.

    change  mean over prompts, with its 95 % interval
    could   how many prompts whose unsteered text holds were not at that end of the scale already
    broke   how many of these have a steered text that does not hold: what they show is not known
    along   how many moved the way of the sign, `against` the other way
    effect  "effect", "wrong way", "no effect" or, where those that can move are too few to tell,
            "unknown": a test by sign flips (effects.py) at 2.5 % in either direction
    p       of the direction that `effect` speaks of
    """

    change: Interval
    could: int
    broke: int
    along: int
    against: int
    effect: Effect
    p: float


def moves(frame: pd.DataFrame, coefficient: float, sign: int, kind: str = "vector") -> Moves:
    """Whether, and how many, prompts show the trait more (sign 1) or less (-1) at a coefficient."""
    ready = prepared(frame)
    start, moved = _changes(ready, "trait", coefficient, kind)
    known = moved.dropna()
    steps = sign * known.to_numpy(dtype=float)[:, None]
    able = int((sign * start[known.index] < 1).sum())
    effect, p = judge_effect(np.ones(1), steps, None, np.random.default_rng(0), LEVEL, able)
    along, against = int((steps > 0).sum()), int((steps < 0).sum())
    could = _still(ready, "holds", coefficient, kind, _able(ready, sign)).count
    return Moves(
        change(ready, "trait", coefficient, kind), could, could - able, along, against, effect, p
    )


def draws(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The controls of a sweep that are draws of one thing: family -> kinds, such as "random" ->
    "random 1", "random 2", ... A kind without a number is a family of one."""
    found: dict[str, list[str]] = {}
    for kind in dict.fromkeys(frame["vector"].astype(str)):
        if kind not in KINDS:
            found.setdefault(family(kind), []).append(kind)
    return found


def family(kind: object) -> str:
    """A kind of rows without the number of the draw."""
    return re.sub(r" \d+$", "", str(kind))


def outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """What a few coefficients gave: per kind of row and coefficient the share of texts that hold
    and each measure's mean, with 95 % intervals, as text: over prompts, but for several draws of a
    control, which are taken together, over the draws.

    frame  a sweep over few coefficients, with controls and prompted rows or without
    """
    frame = prepared(frame)
    controls = draws(frame)
    shown = [
        measure
        for measure in MEASURES
        if measure.column in frame.columns and frame[measure.column].notna().any()
    ]
    rows = []
    for name, group in frame.groupby(frame["vector"].map(family), sort=False):
        kind, unit = str(name), "prompt_index"
        words = KINDS.get(kind, f"{CONTROLS.get(kind, kind)} vector")
        if len(controls.get(kind, ())) > 1:
            words, unit = f"{len(controls[kind])} {words}s", "vector"
        for place in sorted(group["coefficient_norm"].unique()):
            part = group[group["coefficient_norm"] == place]
            rows.append(
                {
                    "texts": "unsteered" if kind == "vector" and place == 0 else words,
                    "coefficient": number(place) if place else "0",
                    "prompts": part["prompt_index"].nunique(),
                    "texts that hold": _cell(mean(part, "holds", unit), ".0%"),
                    **{one.words: _cell(mean(part, one.column, unit), one.spec) for one in shown},
                }
            )
    return pd.DataFrame(rows)


def prepared(frame: pd.DataFrame) -> pd.DataFrame:
    """With `holds`, and coefficients in `coefficient_norm` even where norms are unknown; as it is
    where that is done."""
    if "holds" in frame.columns:
        return frame
    axis, _ = coefficient_axis(frame)
    ready = frame.assign(coefficient_norm=frame[axis], holds=holding(frame))
    ready.attrs = {}  # pandas copies a sweep's long provenance with every step
    return ready


def mean(part: pd.DataFrame, column: str, unit: str = "prompt_index") -> Interval:
    """Mean of a measure of prepared rows, of the trait over texts that hold."""
    if column == "trait":
        part = part[part["holds"] == 1]
    return bootstrap_mean(part[column], part[unit], bounds=SCALES.get(column))


def nearest(grid: np.ndarray, value: float) -> float:
    """The entry of a grid (K,) that lies nearest to a value."""
    return float(grid[np.abs(grid - value).argmin()])


def _changes(
    frame: pd.DataFrame, column: str, coefficient: float, kind: str
) -> tuple[pd.Series, pd.Series]:
    """Per prompt a column of its unsteered text and how it changes, from a prepared frame."""
    start, there = _pairs(frame, column, coefficient, kind)
    moved = there - start
    if column == "trait":
        before, after = _pairs(frame, "holds", coefficient, kind)
        moved = moved[(before == 1) & (after == 1)]
    return start, moved


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


def _able(frame: pd.DataFrame, sign: int) -> pd.Index:
    """The prompts whose unsteered text is not at that end of the trait's scale."""
    start = frame[(frame["vector"] == "vector") & (frame["coefficient_norm"] == 0)]
    return pd.Index(start.loc[sign * start["trait"] < 1, "prompt_index"])


def _still(
    frame: pd.DataFrame, column: str, coefficient: float, kind: str, only: pd.Index | None = None
) -> Interval:
    """Of the prompts whose unsteered text has a property, the share that has it there too."""
    start, there = _pairs(frame, column, coefficient, kind)
    still = there[start == 1].dropna()
    if only is not None:
        still = still[still.index.isin(only)]
    return wilson(int((still == 1).sum()), len(still))


def _cell(found: Interval, spec: str) -> str:
    return interval(found, spec) if found.count else "–"
