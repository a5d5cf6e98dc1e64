"""When a text of a sweep counts as broken, told without a judge.

gibberish  the unsteered model finds it less likely, token by token, than its own samples are
           (excess, scoring.py): by half a nat a token more than unsteered texts of the same sweep,
           and by more than chance makes it in texts of its length
loop       more than half of it is repetition: its longest repeat exceeds half of its tokens, or
           fewer than half of its token pairs are distinct
empty      nothing was written, or nothing is known of it

Gibberish and loops must also lie beyond what unsteered texts of the same sweep show (median plus 3
robust standard deviations over them), so that a model which babbles or loops by itself is judged
by its own measure. Any other text is *intact*. A fluent text about something else is intact too:
nothing here knows what was asked.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from workbench.generation.measures import empty as empty_texts
from workbench.statistics.drift import RISE
from workbench.sweeps.frames import is_unsteered

NEEDED = ("prompt_index", "vector", "text", "tokens", "excess", "distinct_2", "longest_repeat")


def intact(frame: pd.DataFrame, *, rise: float = RISE) -> pd.DataFrame:
    """The frame with columns `gibberish`, `loop`, `empty` and `intact` (booleans).

    `attrs["thresholds"]` holds the bounds: gibberish exceeds `excess` (nats per token) by `rise`
    and by `chance` over the root of its tokens; `longest_repeat` (share of the tokens) and
    `distinct_2`. Raises ValueError for a frame without unsteered texts.
    """
    share = frame["longest_repeat"] / frame["tokens"].clip(lower=1)
    unsteered = is_unsteered(frame)
    if not unsteered.any():
        raise ValueError("the sweep has no coefficient 0, with which all others are compared")
    empty = _empty(frame)
    own = unsteered & ~empty
    usual = frame.loc[own, "excess"].median()
    # The mean of N tokens varies as one over the root of N.
    noise = (frame["excess"] - usual) * np.sqrt(frame["tokens"])
    bounds = {
        "excess": float(usual),
        "rise": rise,
        "chance": max(0.0, usual_bound(noise[own])),
        "longest_repeat": max(0.5, usual_bound(share[own])),
        "distinct_2": min(0.5, 1 - usual_bound(1 - frame.loc[own, "distinct_2"])),
    }
    gibberish = ~empty & (noise > bounds["chance"]) & (frame["excess"] > usual + rise)
    repeats = (share > bounds["longest_repeat"]) | (frame["distinct_2"] < bounds["distinct_2"])
    loop = ~empty & repeats
    result = frame.assign(
        gibberish=gibberish, loop=loop, empty=empty, intact=~(gibberish | loop | empty)
    )
    result.attrs = {**frame.attrs, "thresholds": bounds}
    return result


def _empty(frame: pd.DataFrame) -> pd.Series:
    """No text, a blank one, no tokens, or one whose excess is unknown."""
    blank = pd.Series(empty_texts(frame["text"]), index=frame.index)
    return blank | ~(frame["tokens"] > 0) | ~np.isfinite(frame["excess"].astype(float))


def usual_bound(values: pd.Series) -> float:
    """What usual values do not exceed: their median and 3 robust standard deviations (1.4826
    times the median absolute deviation) more."""
    known = values.dropna().to_numpy(dtype=float)
    if len(known) == 0:
        return -math.inf
    middle = np.median(known)
    return float(middle + 3 * 1.4826 * np.median(np.abs(known - middle)))
