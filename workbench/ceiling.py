"""How far one may steer, from a sweep of any model: onset, recommended and ceiling of each sign.

A text is *broken* if it is one of two things, each told by what the unsteered model logs about it:

gibberish  surprise above 0: the unsteered model finds the text less likely, token by token, than
           texts that it samples itself (scoring.py); greedy text lies well below 0
loop       more than half of it is repetition: its longest repeat exceeds half of its tokens, or
           fewer than half of its token pairs are distinct

and in either case beyond what unsteered texts of the same sweep show (median plus 3 robust
standard deviations over them), so that a model which babbles or loops by itself is judged by its
own measure. Otherwise it is *intact*. P(intact) over |coefficient| is a falling isotonic curve:

ceiling      where it crosses half of its value at 0
recommended  where it crosses nine tenths of it: up to here texts are as whole as unsteered ones
onset        where intact texts measurably move. If a judge measured the trait: the first
             coefficient at which its change over prompts is larger than chance explains (sign-flip
             test, corrected for the number of coefficients; 5 prompts at least, for 90 %). Else:
             where half of the texts differ from the unsteered ones

Between coefficients curves are interpolated. The bounds of surprise and repetition were set by
reasoning and checked on two sweeps of an early wren; no other constant has seen judged texts.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.alert import Alert, alert_as_coded, alert_as_meant
from workbench.curves import (
    Floats,
    critical,
    crossing_estimate,
    falling,
    means,
    ratio,
    rise_estimate,
    strength,
)
from workbench.slopes import coefficient_axis

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

Status = Literal["ok", "no collapse in range", "no effect"]

_NEEDED = ("prompt_index", "vector", "text", "tokens", "surprise", "distinct_2", "longest_repeat")


@dataclass(frozen=True)
class Estimate:
    """A coefficient with its bootstrap interval, in residual norms, with its sign.

    `low` is nearer to 0 than `high`. A value that does not exist is NaN; an end of the interval
    that lies beyond the swept range is infinite. `scale` is the raw coefficient of one residual
    norm (1 where norms are unknown and all is raw).
    """

    value: float
    low: float
    high: float
    scale: float = 1.0

    @property
    def raw(self) -> Estimate:
        """The same in multiples of the vector as it is."""
        return Estimate(self.value * self.scale, self.low * self.scale, self.high * self.scale)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        ends = (f"{end:+.2f}" if math.isfinite(end) else "beyond" for end in (self.low, self.high))
        return f"{self.value:+.2f} [{', '.join(ends)}]"


@dataclass(frozen=True, eq=False)
class Side:
    """What was found for one sign.

    status   "ok"; "no collapse in range": at least half of the texts stay intact throughout (the
             ceiling is NaN); "no effect": what should move does not, before the texts break
    reasons  in words, with numbers
    curve    one row per coefficient from 0 outwards: `coefficient`, `intact` (share of texts) and
             `fitted` (isotonic), `gibberish`, `loop` (shares), `moved` (mean change
             of intact texts)
    """

    sign: int
    status: Status
    onset: Estimate
    recommended: Estimate
    ceiling: Estimate
    reasons: tuple[str, ...]
    curve: pd.DataFrame = field(repr=False)


@dataclass(frozen=True, eq=False)
class Ceiling:
    """The result of `find_ceiling`: `result[1]` and `result[-1]` are its sides.

    unit        "norm" (residual norms) or "raw", where the sweep knew no norms
    signal      what the onset is of: "trait" or "text"
    thresholds  above (or for distinct_2 below) which a text is broken
    """

    sides: Mapping[int, Side]
    unit: str
    signal: str
    level: float
    bootstrap: int
    seed: int
    prompts: int
    thresholds: Mapping[str, float]

    def __getitem__(self, sign: int) -> Side:
        if sign not in self.sides:
            raise KeyError(
                f"no side {sign!r}: the sweep has coefficients of sign {list(self.sides)}"
            )
        return self.sides[sign]

    def summary(self) -> pd.DataFrame:
        """One row per sign and mark: value, low, high in residual norms, and raw."""
        rows = []
        for sign, side in self.sides.items():
            for mark in ("onset", "recommended", "ceiling"):
                found: Estimate = getattr(side, mark)
                rows.append(
                    {
                        "sign": sign,
                        "status": side.status,
                        "mark": mark,
                        "value": found.value,
                        "low": found.low,
                        "high": found.high,
                        "raw_value": found.raw.value,
                        "raw_low": found.raw.low,
                        "raw_high": found.raw.high,
                    }
                )
        return pd.DataFrame(rows)

    def marks(self) -> list[dict[str, Any]]:
        """The estimates that exist, for figures.sweep_curves; an open end is not drawn (NaN)."""
        found = []
        for row in self.summary().to_dict("records"):
            if math.isfinite(row["value"]):
                ends = sorted((row["low"], row["high"]))
                low, high = ends if all(map(math.isfinite, ends)) else (math.nan, math.nan)
                found.append({"mark": row["mark"], "value": row["value"], "low": low, "high": high})
        return found

    def __repr__(self) -> str:
        unit = "residual norms" if self.unit == "norm" else "raw units"
        lines = [f"Ceiling over {self.prompts} prompts, {unit}, {self.level:.0%} intervals"]
        for side in self.sides.values():
            marks = ", ".join(
                f"{mark} {getattr(side, mark)}" for mark in ("onset", "recommended", "ceiling")
            )
            lines.append(f"{'+' if side.sign > 0 else '−'}: {side.status}: {marks}")
            lines += [f"   {reason}" for reason in side.reasons]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{'+' if s.sign > 0 else '−'}</td><td>{s.status}</td><td>{s.onset}</td>"
            f"<td>{s.recommended}</td><td>{s.ceiling}</td>"
            f"<td style='text-align:left'>{html.escape('; '.join(s.reasons))}</td></tr>"
            for s in self.sides.values()
        )
        unit = "residual norms" if self.unit == "norm" else "raw units"
        return (
            f"<table><caption>{unit}, {self.prompts} prompts, {self.level:.0%} intervals</caption>"
            "<tr><th>sign</th><th>status</th><th>onset</th><th>recommended</th><th>ceiling</th>"
            f"<th>why</th></tr>{rows}</table>"
        )


def find_ceiling(
    frame: pd.DataFrame,
    *,
    seed: int = 0,
    bootstrap: int = 1000,
    level: float = 0.9,
    signal: str | None = None,
) -> Ceiling:
    """Onset, recommended and ceiling coefficient of each sign, from a sweep.

    frame      as `sweep.sweep` returns it; only rows of the vector itself count, and unsteered
               ones of "prompted" as further examples of unsteered text
    bootstrap  resamples of the prompts; they give the intervals (percentiles)
    level      of the intervals, and of the onset's test
    signal     the column whose movement is the onset; by default "trait" where there is one, else
               whether the text is another than the unsteered one

    Raises ValueError for a frame without the needed columns, without coefficient 0, with no other
    coefficient, or with fewer than 2 prompts.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level!r}: give a share between 0 and 1")
    if int(bootstrap) != bootstrap or bootstrap < 1:
        raise ValueError(f"bootstrap {bootstrap!r}: give a whole number of at least 1")
    missing = [name for name in _NEEDED if name not in frame.columns]
    if signal is not None and signal not in frame.columns:
        missing.append(signal)
    if missing:
        raise ValueError(f"the frame lacks the columns {missing}; is it a sweep's?")
    axis, unit = coefficient_axis(frame[frame["vector"] == "vector"])
    judged = intact(frame)
    thresholds = judged.attrs["thresholds"]
    steered = judged[frame["vector"] == "vector"]
    if not (steered[axis] == 0).any():
        raise ValueError("the sweep has no coefficient 0, with which all others are compared")
    signs = [sign for sign in (1, -1) if (sign * steered[axis] > 0).any()]
    if not signs:
        raise ValueError("the sweep has no coefficient but 0")
    prompts = steered["prompt_index"].nunique()
    if prompts < 2:
        raise ValueError(
            f"the sweep has {prompts} prompt; a bootstrap over prompts needs 2 or more"
        )
    if signal is None:
        measured = "trait" in frame.columns and bool(frame["trait"].notna().any())
        signal = "trait" if measured else "text"
    raw = frame.loc[steered.index, "coefficient"].to_numpy(dtype=float)
    own = steered[axis].to_numpy(dtype=float)
    scale = float(raw[np.abs(own).argmax()] / own[np.abs(own).argmax()])
    sides = {
        sign: _side(steered, axis, sign, signal, scale, seed, int(bootstrap), level)
        for sign in signs
    }
    return Ceiling(sides, unit, signal, level, int(bootstrap), seed, prompts, thresholds)


def intact(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns `gibberish`, `loop` and `intact` (booleans), by the module's rules.

    `attrs["thresholds"]` holds the bounds used.
    """
    share = frame["longest_repeat"] / frame["tokens"].clip(lower=1)
    unsteered = (frame["coefficient"] == 0) & frame["vector"].isin(["vector", "prompted"])
    if not unsteered.any():
        raise ValueError("the sweep has no coefficient 0, with which all others are compared")
    bounds = {
        "surprise": max(0.0, _bound(frame.loc[unsteered, "surprise"])),
        "longest_repeat": max(0.5, _bound(share[unsteered])),
        "distinct_2": min(0.5, 1 - _bound(1 - frame.loc[unsteered, "distinct_2"])),
    }
    gibberish = frame["surprise"] > bounds["surprise"]
    loop = (share > bounds["longest_repeat"]) | (frame["distinct_2"] < bounds["distinct_2"])
    result = frame.assign(gibberish=gibberish, loop=loop, intact=~(gibberish | loop))
    result.attrs = {**frame.attrs, "thresholds": bounds}
    return result


def _bound(values: pd.Series) -> float:
    """Median + 3 robust standard deviations (1.4826 times the median absolute deviation)."""
    known = values.dropna().to_numpy(dtype=float)
    if len(known) == 0:
        return -math.inf
    middle = np.median(known)
    return float(middle + 3 * 1.4826 * np.median(np.abs(known - middle)))


def _side(
    steered: pd.DataFrame,
    axis: str,
    sign: int,
    signal: str,
    scale: float,
    seed: int,
    bootstrap: int,
    level: float,
) -> Side:
    side = steered[sign * steered[axis] >= 0]

    def table(column: str | pd.Series) -> Floats:
        """(P, K): prompts by coefficients from 0 outwards, NaN where there is no text."""
        values = side[column] if isinstance(column, str) else column
        wide = pd.DataFrame(
            {"p": side["prompt_index"], "c": side[axis].abs(), "v": values.astype(float)}
        ).pivot_table(index="p", columns="c", values="v", aggfunc="mean", dropna=False)
        return wide.to_numpy(dtype=float)

    grid = np.sort(side[axis].abs().unique())
    whole = table("intact")
    rng = np.random.default_rng(seed)
    count = len(whole)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=bootstrap).astype(float)
    once = np.ones((1, count))

    fitted = falling(*means(once, whole))
    resampled = falling(*means(weights, whole))
    ceiling = crossing_estimate(grid, fitted, resampled, 0.5, level)
    recommended = crossing_estimate(grid, fitted, resampled, 0.9, level)

    moved = _movement(side, signal, table, whole)
    reach = grid <= (ceiling[0] if math.isfinite(ceiling[0]) else grid[-1])
    if signal == "text":
        limit = 0.5
        seen, reseen = (ratio(*means(w, moved[:, reach])) for w in (once, weights))
    else:
        limit = critical(moved[:, reach], rng, level)
        seen, reseen = (np.abs(strength(w, moved[:, reach])) for w in (once, weights))
    onset = rise_estimate(grid[reach], np.nan_to_num(seen), np.nan_to_num(reseen), limit, level)

    collapses, moves = math.isfinite(ceiling[0]), math.isfinite(onset[0])
    status: Status = "no effect" if not moves else "ok" if collapses else "no collapse in range"
    if not collapses:
        ceiling = (math.nan, *ceiling[1:])
        if not math.isfinite(recommended[0]):
            recommended = (grid[-1], *recommended[1:])
    if not moves:
        onset = (math.nan, math.nan, math.nan)
        recommended = (math.nan, math.nan, math.nan)

    with np.errstate(invalid="ignore"):
        average = ratio(*means(once, moved))[0]
    curve = pd.DataFrame(
        {
            "coefficient": sign * grid,
            "intact": ratio(*means(once, whole))[0],
            "fitted": fitted[0],
            "gibberish": ratio(*means(once, table("gibberish")))[0],
            "loop": ratio(*means(once, table("loop")))[0],
            "moved": average,
        }
    )
    reasons = _reasons(curve, sign, signal, status, onset, recommended, reach, count)
    return Side(
        sign=sign,
        status=status,
        onset=_signed(onset, sign, scale),
        recommended=_signed(recommended, sign, scale),
        ceiling=_signed(ceiling, sign, scale),
        reasons=reasons,
        curve=curve,
    )


def _signed(numbers: tuple[float, float, float], sign: int, scale: float) -> Estimate:
    value, low, high = (sign * number for number in numbers)
    return Estimate(value, low, high, scale)


# ---- movement -----------------------------------------------------------------------------------


def _movement(side: pd.DataFrame, signal: str, table: Any, whole: Floats) -> Floats:
    """Change from each prompt's unsteered text (P, K), NaN for texts that are broken."""
    if signal == "text":
        codes = pd.Series(pd.factorize(side["text"])[0], index=side.index)
        values = table(codes)
        change = np.where(np.isfinite(values), values != values[:, :1], np.nan)
    else:
        values = table(signal)
        change = values - values[:, :1]
    return np.where(whole > 0.5, change, np.nan)


# ---- words --------------------------------------------------------------------------------------


def _reasons(
    curve: pd.DataFrame,
    sign: int,
    signal: str,
    status: Status,
    onset: tuple[float, float, float],
    recommended: tuple[float, float, float],
    reach: NDArray[np.bool_],
    prompts: int,
) -> tuple[str, ...]:
    last = curve.iloc[-1]
    said = []
    what = f"the {signal}"
    end = float(curve["coefficient"].abs()[reach].max())
    if status == "no effect":
        said.append(
            f"fewer than half of the texts differ from the unsteered ones up to {end:.3g}"
            if signal == "text"
            else f"{what} of intact texts does not move by more than chance up to {end:.3g}"
        )
        if signal != "text" and prompts < 5:
            said.append(f"{prompts} prompts are too few to tell it from chance: give 5 or more")
    else:
        moved = curve["moved"][reach].dropna()
        strongest = float(moved[moved.abs().idxmax()])
        said.append(
            f"up to {strongest:.0%} of the intact texts differ from the unsteered ones"
            if signal == "text"
            else f"{what} moves by up to {strongest:+.2f} in intact texts"
        )
        if signal != "text" and strongest * sign < 0:
            said.append(f"it moves the wrong way for a coefficient of sign {sign:+d}")
        if math.isfinite(recommended[0]) and recommended[0] < onset[0]:
            said.append("texts begin to break before it moves")
    if last["fitted"] >= 0.5 * curve["fitted"].iloc[0]:
        said.append(
            f"{last['intact']:.0%} of the texts are intact at {abs(last['coefficient']):.3g}"
        )
    else:
        kind = "gibberish" if last["gibberish"] >= last["loop"] else "loops"
        said.append(
            f"at {abs(last['coefficient']):.3g}, {1 - last['intact']:.0%} of the texts are broken "
            f"({last['gibberish']:.0%} gibberish, {last['loop']:.0%} loops): mostly {kind}"
        )
    if curve["intact"].iloc[0] < 1:
        said.append(f"only {curve['intact'].iloc[0]:.0%} are intact without steering")
    return tuple(said)
