"""What `find_ceiling` found: coefficients with intervals, a side per sign; and how it shows.

Knows nothing of how it was found.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from workbench.statistics.effects import Effect

MARKS = ("onset", "recommended", "ceiling")
# One of a sweep's coefficients, in words; several take an s.
UNITS = {"norm": "residual norm", "raw": "raw unit"}


@dataclass(frozen=True)
class Estimate:
    """A coefficient with its interval, with its sign, in the unit of its `Ceiling`.

    `low` is nearer to 0 than `high`. A value that does not exist is NaN, and so are the ends of
    an interval that too few prompts allow; an end that lies beyond the swept range is infinite.
    `scale` is the raw coefficient of one residual norm (1 where norms are unknown and all is raw,
    NaN where several layers are steered, whose norms differ).
    """

    value: float
    low: float
    high: float
    scale: float = 1.0

    @property
    def raw(self) -> Estimate:
        """The same in multiples of what is steered as it is."""
        return Estimate(self.value * self.scale, self.low * self.scale, self.high * self.scale)

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:+.2f} [no interval]"
        return f"{self.value:+.2f} [{_end(self.low)}, {_end(self.high)}]"


def _end(end: float) -> str:
    return "beyond" if math.isinf(end) else f"{end:+.2f}" if end else "0"


@dataclass(frozen=True, eq=False)
class Side:
    """What was found for one sign.

    effect    "effect": what is measured moves the way the sign says, and more than under the
              random control where there is one; "wrong way": it moves the other way; "no effect":
              neither can be told from chance; "unknown": nothing measures it, or too few prompts
    p         of the test behind `effect`; NaN where nothing was tested
    collapses whether half of the texts break in the swept range; the ceiling is NaN if not
    reentry   the coefficient at which texts are intact again after they broke; NaN if none
    reasons   in words, with numbers
    curve     one row per coefficient from 0 outwards: `coefficient`, `intact`, `gibberish`,
              `loop`, `empty` (shares of the compared texts), `fitted` (`intact` made to fall) and
              `moved` (mean change of intact texts, NaN where nothing measures it)
    """

    sign: int
    effect: Effect
    p: float
    collapses: bool
    onset: Estimate
    recommended: Estimate
    ceiling: Estimate
    reentry: float
    reasons: tuple[str, ...]
    curve: pd.DataFrame = field(repr=False)

    @property
    def status(self) -> str:
        """`effect`, and whether the texts stay intact, in one line."""
        said = "effect unknown" if self.effect == "unknown" else self.effect
        return said if self.collapses else f"{said}, no collapse in range"


@dataclass(frozen=True, eq=False)
class Ceiling:
    """The result of `find_ceiling`: `result[1]` and `result[-1]` are its sides.

    unit        "norm" (residual norms) or "raw" (the m of a LoRA or local weight), where the
                sweep knew no norms
    signal      the column whose movement is the effect, None where nothing measures it
    controlled  whether the effect was compared with a random control
    prompts     how many the sweep has; `compared` of them have an intact unsteered text and count
    thresholds  what makes a text broken, see `breakage.intact`
    swept       what was swept, of the frame's `attrs`: model, weights, vector, layers, positions,
                prompts and how texts were written; empty for a frame that does not say
    """

    sides: Mapping[int, Side]
    unit: str
    signal: str | None
    controlled: bool
    level: float
    bootstrap: int
    seed: int
    prompts: int
    compared: int
    thresholds: Mapping[str, float]
    swept: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __getitem__(self, sign: int) -> Side:
        if sign not in self.sides:
            raise KeyError(
                f"no side {sign!r}: the sweep has coefficients of sign {list(self.sides)}"
            )
        return self.sides[sign]

    def summary(self, *, whole: bool = False) -> pd.DataFrame:
        """One row per sign and mark: value, low, high in the ceiling's unit, the side's `effect`,
        and whether it `collapses`, which fits a terminal of 80 columns. `whole` gives the side's
        `status`, which has both in words, and raw_value, raw_low, raw_high beside the others."""
        rows = []
        for sign, side in self.sides.items():
            for mark in MARKS:
                found: Estimate = getattr(side, mark)
                ends = {"value": found.value, "low": found.low, "high": found.high}
                if whole:
                    raw = found.raw
                    row = {"sign": sign, "status": side.status, "mark": mark, **ends}
                    row |= {"raw_value": raw.value, "raw_low": raw.low, "raw_high": raw.high}
                else:
                    row = {"sign": sign, "mark": mark, **ends}
                    row |= {"effect": side.effect, "collapses": side.collapses}
                rows.append(row)
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
        lines = [f"Ceiling over {self._scope}"]
        for side in self.sides.values():
            marks = ", ".join(f"{mark} {getattr(side, mark)}" for mark in MARKS)
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
        return (
            f"<table><caption>{self._scope}</caption>"
            "<tr><th>sign</th><th>status</th><th>onset</th><th>recommended</th><th>ceiling</th>"
            f"<th>why</th></tr>{rows}</table>"
        )

    @property
    def _scope(self) -> str:
        return f"{self.prompts} prompts, {UNITS[self.unit]}s, {self.level:.0%} intervals"
