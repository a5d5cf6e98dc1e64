"""Green, amber, red: what the detector says of a coefficient, in colour and in words.

green   up to the recommended coefficient
amber   beyond it, up to the ceiling
red     beyond the ceiling

on each sign by itself. Knows nothing of pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from workbench.marks import Ceiling

Color = Literal["green", "amber", "red", "unknown"]


@dataclass(frozen=True)
class Span:
    """A zone from `low` to `high`, in residual norms."""

    low: float
    high: float
    color: Color


def ends(ceiling: Ceiling, sign: int) -> tuple[float, float]:
    """Where green and amber end on one side, without sign; infinite where nothing broke in range.

    A side without an effect has no recommended coefficient, so no green.
    """
    if sign not in ceiling.sides:
        return 0.0, 0.0
    side = ceiling[sign]
    green = abs(side.recommended.value)
    red = abs(side.ceiling.value)
    red = math.inf if math.isnan(red) else red
    return (0.0 if math.isnan(green) else min(green, red)), red


def color(ceiling: Ceiling | None, coefficient: float) -> Color:
    """The zone of a coefficient; "unknown" without a sweep. 0 is green: nothing is added."""
    if ceiling is None:
        return "unknown"
    if coefficient == 0:
        return "green"
    green, red = ends(ceiling, 1 if coefficient > 0 else -1)
    size = abs(coefficient)
    # The slider's steps are decimal, a mark's value need not be.
    return "green" if size <= green + 1e-9 else "amber" if size <= red + 1e-9 else "red"


def spans(ceiling: Ceiling | None, reach: float) -> list[Span]:
    """All zones from -reach to reach, in order, without empty ones."""
    if ceiling is None:
        return [Span(-reach, reach, "unknown")]
    found = []
    for sign in (-1, 1):
        green, red = (min(end, reach) for end in ends(ceiling, sign))
        cuts: list[tuple[float, float, Color]] = [
            (0.0, green, "green"), (green, red, "amber"), (red, reach, "red"),
        ]  # fmt: skip
        side = [
            Span(min(sign * a, sign * b), max(sign * a, sign * b), each)
            for a, b, each in cuts
            if b > a
        ]
        found += side if sign > 0 else side[::-1]
    return found


def words(ceiling: Ceiling | None, coefficient: float) -> str:
    """What the zone of a coefficient means, in one line."""
    if ceiling is None:
        return "No sweep yet: nobody knows how far this may go."
    if coefficient == 0:
        return "Zero: nothing is added, both texts are the same."
    sign = 1 if coefficient > 0 else -1
    green, red = ends(ceiling, sign)
    zone = color(ceiling, coefficient)
    if zone == "green":
        return f"Green: up to {_signed(sign * green)} at least nine in ten texts stay whole."
    if zone == "amber" and green == 0:
        side = ceiling.sides.get(sign)
        why = "no effect was found" if side is not None and side.effect != "effect" else "no margin"
        return f"Amber: {why} on this side" + _until(sign, red)
    if zone == "amber":
        return f"Amber: beyond the recommended {_signed(sign * green)}" + _until(sign, red)
    return (
        f"Red: beyond the ceiling {_signed(sign * red)}, where more than half of the texts break."
    )


def _until(sign: int, red: float) -> str:
    if math.isinf(red):
        return "; half of the texts break nowhere in the swept range."
    return f"; texts begin to break, half of them at {_signed(sign * red)}."


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
