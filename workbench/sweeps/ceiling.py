"""How far one may steer, from a sweep of any model: onset, recommended and ceiling of each sign.

Compared are the prompts whose unsteered text (coefficient 0) is intact; a text is intact or broken
by the rules of breakage.py, which need no judge. Of the compared prompts' texts, at |coefficient|
c the share S(c) is intact, S(0) = 1; S is made to fall (isotonic regression), and the first break
that lasts counts, even if texts come back further out.

ceiling      where S falls below 1/2: half of the texts that were intact unsteered are broken
recommended  the last swept coefficient before S falls below 9/10: up to there at least nine in
             ten of the texts that were intact unsteered still are
onset        the first swept coefficient at which the mean change of intact texts from their
             unsteered ones has reached a quarter of its greatest below the ceiling: an effect
             size, the same for few prompts or many

Whether there is an effect at all is a test (effects.py): the measure must move the way the sign
says, by more than chance and by more than under the random control where the sweep has one. The
measure is the trait if a judge measured it; else the KL divergence from the unsteered model beyond
the random control's, which has no direction; without a control nothing is claimed.

Intervals take each prompt as one draw and the grid as it is (crossings.py, effects.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.statistics.crossings import (
    CEILING_SHARE,
    RECOMMENDED_SHARE,
    Bools,
    crossing,
    last_safe,
    limits,
    reentry,
    settled,
)
from workbench.statistics.effects import Effect, judge_effect, onset_estimate
from workbench.support.checks import check_whole, number, require_frame
from workbench.sweeps.alert import Alert, alert_as_coded, alert_as_meant
from workbench.sweeps.assembly import require_complete
from workbench.sweeps.breakage import NEEDED, intact
from workbench.sweeps.frames import coefficient_axis, is_random
from workbench.sweeps.marks import Ceiling, Estimate, Side
from workbench.sweeps.movement import Table, mean_over_prompts, movement, strongest
from workbench.sweeps.reasons import about_breaking, about_controls, about_effect, about_order

__all__ = [
    "Alert",
    "Ceiling",
    "Estimate",
    "Side",
    "alert_as_coded",
    "alert_as_meant",
    "find_ceiling",
    "intact",
]

# What of a sweep's provenance its ceiling keeps: on what it was found.
_SWEPT = (
    "model",
    "fingerprint",
    "vectors",
    "layers",
    "positions",
    "prompts",
    "new_tokens",
    "temperature",
    "seed",
    "split",
)
_NOWHERE = (math.nan, math.nan, math.nan)


def find_ceiling(
    frame: pd.DataFrame,
    *,
    seed: int = 0,
    bootstrap: int = 1000,
    level: float = 0.9,
    signal: str | None = None,
) -> Ceiling:
    """Onset, recommended and ceiling coefficient of each sign, from a sweep.

    frame      as `sweep.sweep` returns it; rows of the vector count, those of controls called
               "random…" for comparison, and unsteered ones of "prompted" as further examples of
               unsteered text
    seed       of the onset's bootstrap and of the test's sign flips
    bootstrap  resamples of the prompts, for the onset's interval
    level      of the intervals; over prompts, and beside this very control, each direction of the
               test errs at most in half of the rest; one draw says nothing of other directions
    signal     the column whose movement is the effect, positive coefficients raising it; by
               default "trait" where there is one, else "kl" beyond the random control

    Raises ValueError for numbers out of range; for what is no frame; for a sweep over prompts that
    report a result, for one that is incomplete, or without the needed columns, coefficient 0 or any
    other; with fewer than 2 prompts, or with fewer than 2 whose unsteered text is intact.
    """
    if not 0 < number(level) < 1:
        raise ValueError(f"level {level!r}: give a share between 0 and 1")
    seed, bootstrap = check_whole("seed", seed, 0), check_whole("bootstrap", bootstrap, 1)
    _check(frame, signal)
    # pandas copies a frame's provenance at every step.
    about, frame = frame.attrs, frame.copy(deep=False)
    layers, frame.attrs = about.get("layers", ()), {}
    axis, unit = coefficient_axis(frame[frame["vector"] == "vector"])
    judged = intact(frame)
    steered = judged[frame["vector"] == "vector"]
    signs = [sign for sign in (1, -1) if (sign * steered[axis] > 0).any()]
    _check_rows(steered, axis, signs)
    random = judged[judged["vector"].map(is_random)]
    measured = "trait" in frame.columns and bool(frame["trait"].notna().any())
    if signal is None and measured:
        signal = "trait"
    elif signal is None and "kl" in frame.columns and frame["kl"].notna().any() and len(random):
        signal = "kl"
    whole = steered[(steered[axis] == 0) & steered["intact"]]["prompt_index"].unique()
    prompts = steered["prompt_index"].nunique()
    if len(whole) < 2:
        raise ValueError(
            f"{len(whole)} of {prompts} unsteered texts are intact; at least 2 are needed to "
            "compare with: choose prompts that the model answers by itself"
        )
    own = ("vector", "prompted")
    others = judged[~judged["vector"].isin(own) & ~judged["vector"].map(is_random)]
    compared, random, others = (
        part[part["prompt_index"].isin(whole)] for part in (steered, random, others)
    )
    far = steered.iloc[int(steered[axis].abs().to_numpy().argmax())]
    # Several layers have no one length of a residual norm.
    one_layer = len(layers) < 2
    scale = float(far["coefficient"] / far[axis]) if one_layer or unit == "raw" else math.nan
    sides = {
        sign: _side(
            Table.of(compared, axis, sign),
            Table.of(random, axis, sign) if len(random) else None,
            others={
                str(kind): Table.of(part, axis, sign) for kind, part in others.groupby("vector")
            },
            draws=random["vector"].nunique(),
            sign=sign,
            signal=signal,
            scale=scale,
            left_out=prompts - len(whole),
            rng=np.random.default_rng(seed),
            bootstrap=bootstrap,
            level=level,
        )
        for sign in signs
    }
    return Ceiling(
        sides=sides,
        unit=unit,
        signal=signal,
        controlled=bool(len(random)),
        level=level,
        bootstrap=bootstrap,
        seed=seed,
        prompts=prompts,
        compared=len(whole),
        thresholds=judged.attrs["thresholds"],
        swept={name: about[name] for name in _SWEPT if name in about},
    )


def _check(frame: pd.DataFrame, signal: str | None) -> None:
    """Whether this is a sweep that may choose a coefficient."""
    require_frame(frame, "a sweep's frame, such as frame = sweep(lm, vector, prompts)")
    missing = [name for name in NEEDED if name not in frame.columns]
    if signal is not None and signal not in frame.columns:
        missing.append(signal)
    if missing:
        raise ValueError(f"the frame lacks the columns {missing}; is it a sweep's?")
    role = frame.attrs.get("split")
    if role == "report":
        raise ValueError(
            f"the sweep's prompts have the role {role!r}: what reports a result cannot choose the "
            "coefficient too; sweep over prompts of the role 'select'"
        )
    require_complete(frame, "a ceiling")


def _check_rows(steered: pd.DataFrame, axis: str, signs: list[int]) -> None:
    """Whether every prompt has one text at every coefficient, 0 among them."""
    if not (steered[axis] == 0).any():
        raise ValueError("the sweep has no coefficient 0, with which all others are compared")
    if not signs:
        raise ValueError("the sweep has no coefficient but 0")
    prompts = steered["prompt_index"].nunique()
    if prompts < 2:
        raise ValueError(
            f"the sweep has {prompts} prompt; a bootstrap over prompts needs 2 or more"
        )
    counts = steered.groupby(["prompt_index", axis]).size().unstack(fill_value=0)
    wrong = np.argwhere(counts.to_numpy() != 1)
    if len(wrong):
        row, column = wrong[0]
        prompt, coefficient, count = (
            counts.index[row],
            counts.columns[column],
            counts.iat[row, column],
        )
        raise ValueError(
            f"prompt {prompt} has {count} texts at coefficient {coefficient:g}, and every "
            "prompt needs one at every coefficient: is the sweep incomplete, or two in one frame?"
        )


def _side(
    table: Table,
    control: Table | None,
    *,
    others: Mapping[str, Table],
    draws: int,
    sign: int,
    signal: str | None,
    scale: float,
    left_out: int,
    rng: np.random.Generator,
    bootstrap: int,
    level: float,
) -> Side:
    grid = table.grid
    whole: Bools = table.values("intact") > 0.5
    shares = whole.mean(axis=0)
    fitted = settled(whole.astype(float), CEILING_SHARE)
    back = reentry(shares, CEILING_SHARE)

    def ends(share: float) -> tuple[float, float]:
        return limits(grid, whole, share, len(grid) if back is None else back, level)

    ceiling = (crossing(grid, fitted, CEILING_SHARE), *ends(CEILING_SHARE))
    recommended = (last_safe(grid, fitted, RECOMMENDED_SHARE), *ends(RECOMMENDED_SHARE))
    collapses = math.isfinite(ceiling[0])
    reach = grid <= (ceiling[0] if collapses else grid[-1])
    moved, excess = movement(table, control, signal, sign)
    effect: Effect = "unknown"
    p, onset, able = math.nan, _NOWHERE, None
    if moved is not None:
        beyond = None if excess is None else excess[:, reach]
        able = None if signal != "trait" else int((sign * table.values(signal)[:, 0] < 1).sum())
        effect, p = judge_effect(grid[reach], moved[:, reach], beyond, rng, level, able)
        if effect == "effect":
            onset = onset_estimate(grid[reach], moved[:, reach], level, bootstrap, rng)
    if not collapses:
        ceiling = (math.nan, *ceiling[1:])
    if effect in ("no effect", "wrong way") or recommended[0] == 0:
        recommended = _NOWHERE
    average = np.full(len(grid), np.nan)
    if moved is not None:
        average = mean_over_prompts(moved) * (sign if signal != "kl" else 1)
    beside = {}
    if signal == "trait":
        beside = {kind: strongest(table, other, signal, reach) for kind, other in others.items()}
    curve = pd.DataFrame(
        {
            "coefficient": sign * grid,
            "intact": shares,
            "fitted": fitted,
            **{kind: table.values(kind).mean(axis=0) for kind in ("gibberish", "loop", "empty")},
            "moved": average,
            "moved_prompts": 0 if moved is None else np.isfinite(moved).sum(axis=0),
        }
    )
    return Side(
        sign=sign,
        effect=effect,
        p=p,
        collapses=collapses,
        onset=_signed(onset, sign, scale),
        recommended=_signed(recommended, sign, scale),
        ceiling=_signed(ceiling, sign, scale),
        reentry=math.nan if back is None else sign * float(grid[back]),
        reasons=tuple(
            about_effect(curve[reach], signal, effect, p, len(whole), able, draws)
            + about_order(onset[0], recommended[0], signal)
            + about_controls(beside)
            + about_breaking(curve, collapses, back, left_out, len(whole), level)
        ),
        curve=curve,
    )


def _signed(numbers: tuple[float, float, float], sign: int, scale: float) -> Estimate:
    value, low, high = (sign * number for number in numbers)
    return Estimate(value, low, high, scale)
