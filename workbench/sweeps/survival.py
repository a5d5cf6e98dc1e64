"""How long texts stay intact: P(no break by token t | c), from a sweep of any model.

A ceiling speaks of texts of one length; the longer a text, the more chances it has to break. Under
it lies the token at which each text breaks, told without a judge:

gibberish  where its worst stretch of surprise began (drift.py), if it climbs beyond 4 nats and
           beyond what unsteered texts of the same sweep show
loop       where its longest repeat stands for the second time, in a text that counts as a loop
empty      at once

Compared are the prompts whose unsteered text does not break. A text that the model ended, intact,
breaks no more.

This is another detector than that of `find_ceiling`, which asks whether a text as a whole is lost:
a text that breaks near its end is intact there and broken here, and its surprise counts from 0
here, from what is usual in the sweep there. So the ceiling of intact texts here lies at or below
that one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.generation.measures import empty
from workbench.statistics.crossings import bounded_from_below, crossing, limits, reentry, settled
from workbench.support.checks import require_lists
from workbench.sweeps.assembly import require_complete
from workbench.sweeps.breakage import intact, usual_bound
from workbench.sweeps.frames import coefficient_axis, is_unsteered

# Nats. Chosen on wren's texts (10 traits, exact break points), where 4 to 8 tell alike whether they
# break. A model whose own samples climb higher is judged by what its unsteered texts show.
CLIMB = 4.0
#: The shares of texts that two ceilings ask for: the median text holds; nearly all hold.
SHARES = (0.5, 0.95)


def break_tokens(frame: pd.DataFrame) -> pd.Series:
    """The token (from 0) at which each text of a sweep breaks, infinite where it does not.

    frame  as `sweep` returns it, with unsteered texts

    Raises ValueError for a frame that lacks the columns, unsteered texts, or the drift of a text.
    """
    missing = [c for c in ("drift", "drift_from", "repeat_from") if c not in frame.columns]
    if missing:
        raise ValueError(f"the frame lacks the columns {missing}; is it a sweep's?")
    judged = intact(frame)
    blank = pd.Series(empty(frame["text"]), index=frame.index)
    unknown = frame["drift"].isna() & ~blank
    if unknown.any():
        raise ValueError(f"the drift of {unknown.sum()} texts is unknown; run the sweep again")
    own = is_unsteered(frame) & ~judged["empty"]
    climbs = frame["drift"] > max(CLIMB, usual_bound(frame.loc[own, "drift"]))
    ends = pd.DataFrame(
        {
            "gibberish": frame["drift_from"].where(climbs, math.inf),
            "loop": frame["repeat_from"].where(judged["loop"], math.inf),
            "empty": blank.map({True: 0.0, False: math.inf}),
        }
    )
    return ends.min(axis=1).astype(float)


def exact_break_tokens(frame: pd.DataFrame) -> pd.Series:
    """The same from the character at which a judge says that a text falls apart (`breaks_at`), by
    its share of the text; infinite where it does not. An empty or blank text breaks at once."""
    length = frame["text"].fillna("").str.len()
    share = frame["breaks_at"] / length.clip(lower=1)
    tokens = np.floor(share * frame["tokens"]).fillna(math.inf)
    return tokens.mask(empty(frame["text"]), 0.0)


def survival(frame: pd.DataFrame, breaks: pd.Series | None = None) -> pd.DataFrame:
    """The share of texts that have not broken by each token, for each coefficient of the vector.

    breaks  the token at which each text breaks; by default `break_tokens(frame)`

    One row per coefficient and token: `coefficient` (in the sweep's unit, see `coefficient_axis`),
    `token` t from 1, `share` of the compared prompts whose first t tokens are intact, `prompts`.
    Raises ValueError where every unsteered text breaks.
    """
    wide, longest = by_prompt(frame, breaks)
    tokens = np.arange(1, longest + 1)
    whole = wide.to_numpy()[:, :, None] >= tokens  # (P, K, T)
    shares = whole.mean(axis=0)
    return pd.DataFrame(
        {
            "coefficient": np.repeat(wide.columns.to_numpy(), longest),
            "token": np.tile(tokens, len(wide.columns)),
            "share": shares.ravel(),
            "prompts": len(wide),
        }
    )


def ceilings_by_length(
    frame: pd.DataFrame,
    tokens: Sequence[int],
    breaks: pd.Series | None = None,
    *,
    shares: Sequence[float] = SHARES,
    level: float = 0.9,
) -> pd.DataFrame:
    """How far one may steer texts of each length, for each share of them that must hold.

    tokens  lengths of texts, no longer than those of the sweep
    breaks  as for `survival`
    shares  of the compared prompts; a ceiling is where fewer hold (isotonic, interpolated)
    level   of the intervals over prompts, by exact binomial tests (crossings.py)

    One row per sign, length and share: `value`, `low`, `high` in the sweep's unit and signed;
    infinite beyond the range, NaN where so few prompts can show nothing of it (95 % of them, say,
    with fewer than 59). Raises ValueError for lengths or shares that are no list, a
    length out of range, and as `survival`.
    """
    require_lists(tokens=tokens, shares=shares)
    wide, longest = by_prompt(frame, breaks)
    wrong = [t for t in tokens if not 1 <= t <= longest]
    if wrong:
        raise ValueError(f"length {wrong[0]!r}: the sweep's texts have 1 to {longest} tokens")
    places = wide.columns.to_numpy(dtype=float)
    rows = []
    for sign in (1, -1):
        side = wide.loc[:, sign * places >= 0]
        side = side[sorted(side.columns, key=abs)]
        grid = np.abs(side.columns.to_numpy(dtype=float))
        for token in tokens if len(grid) > 1 else ():
            whole = side.to_numpy() >= token
            for share in shares:
                value = crossing(grid, settled(whole.astype(float), share), share)
                back = reentry(whole.mean(axis=0), share)
                low, high = limits(grid, whole, share, back or len(grid), level)
                if not bounded_from_below(len(whole), share, level):
                    low = math.nan
                ends = (sign * end + 0.0 for end in (value, low, high))  # no -0
                rows.append((sign, token, share, *ends))
    return pd.DataFrame(rows, columns=["sign", "tokens", "share", "value", "low", "high"])


def by_prompt(frame: pd.DataFrame, breaks: pd.Series | None) -> tuple[pd.DataFrame, int]:
    """Break tokens of the compared prompts by coefficient (P, K), and the most tokens of a text."""
    require_complete(frame, "survival")
    ends = break_tokens(frame) if breaks is None else breaks
    steered = frame[frame["vector"] == "vector"]
    axis, _ = coefficient_axis(steered)
    if steered.duplicated(["prompt_index", axis]).any():
        raise ValueError("a prompt has two texts at one coefficient: are two sweeps in one frame?")
    wide = steered.assign(ends=ends).pivot(index="prompt_index", columns=axis, values="ends")
    if wide.isna().any(axis=None):
        raise ValueError("a prompt lacks a text at some coefficient: is the sweep incomplete?")
    if 0 not in wide.columns:
        raise ValueError("the sweep has no coefficient 0, with which all others are compared")
    longest = int(frame["tokens"].max())
    kept = wide[wide[0] >= longest]
    if kept.empty:
        raise ValueError("every unsteered text breaks: choose prompts that the model answers")
    return kept, longest
