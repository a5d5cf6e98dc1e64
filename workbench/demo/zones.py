"""Green, amber, red: what `find_ceiling` says of a coefficient, in colour and in words.

green   up to the recommended coefficient
amber   beyond it, up to the ceiling
red     beyond the ceiling
unknown beyond what was swept, where the ceiling was not reached

on each sign by itself, and of one vector alone: with a second one, no ceiling is known (None).
Knows nothing of pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from workbench.sweeps.marks import Ceiling

Color = Literal["green", "amber", "red", "unknown"]


@dataclass(frozen=True)
class Span:
    """A zone from `low` to `high`, in residual norms."""

    low: float
    high: float
    color: Color


def ends(ceiling: Ceiling, sign: int) -> tuple[float, float, Color]:
    """Where green and amber end on one side, without sign, and what lies beyond: red where there is
    a ceiling, else unknown, as nothing was swept there.

    A side without an effect has no recommended coefficient, so no green.
    """
    if sign not in ceiling.sides:
        return 0.0, 0.0, "unknown"
    side = ceiling[sign]
    green, amber, beyond = abs(side.recommended.value), abs(side.ceiling.value), "red"
    if math.isnan(amber):
        amber, beyond = float(side.curve["coefficient"].abs().max()), "unknown"
    return (0.0 if math.isnan(green) else min(green, amber)), amber, beyond


def color(ceiling: Ceiling | None, coefficient: float) -> Color:
    """The zone of a coefficient; "unknown" where nothing was swept, green at 0."""
    if ceiling is None:
        return "unknown"
    if coefficient == 0:
        return "green"
    green, amber, beyond = ends(ceiling, 1 if coefficient > 0 else -1)
    size = abs(coefficient)
    # The slider's steps are decimal, a mark's value need not be.
    return "green" if size <= green + 1e-9 else "amber" if size <= amber + 1e-9 else beyond


def spans(ceiling: Ceiling | None, reach: float) -> list[Span]:
    """All zones from -reach to reach, in order, without empty ones."""
    if ceiling is None:
        return [Span(-reach, reach, "unknown")]
    found = []
    for sign in (-1, 1):
        *limits, beyond = ends(ceiling, sign)
        green, amber = (min(end, reach) for end in limits)
        cuts: list[tuple[float, float, Color]] = [
            (0.0, green, "green"), (green, amber, "amber"), (amber, reach, beyond),
        ]  # fmt: skip
        side = [
            Span(min(sign * a, sign * b), max(sign * a, sign * b), each)
            for a, b, each in cuts
            if b > a
        ]
        found += side if sign > 0 else side[::-1]
    return found


UNSWEPT = "Not swept: zones hold for the first vector alone."
OTHER_STYLE = "Not swept in this prompt style: zones hold for the one that was trained."


def words(ceiling: Ceiling | None, coefficient: float, conditions: str = "") -> str:
    """What the zone of a coefficient means, in one line; `conditions` are the sweep's, in words."""
    if ceiling is None:
        return "No sweep yet: nobody knows how far this may go."
    if coefficient == 0:
        return "Zero: nothing is added, both texts are the same."
    sign = 1 if coefficient > 0 else -1
    green, amber, beyond = ends(ceiling, sign)
    zone = color(ceiling, coefficient)
    side = ceiling.sides.get(sign)
    if side is None:
        return "Unknown: this side was not swept."
    if zone == "unknown":
        end = f"{sign * amber:+.3g}".replace("-", "−")
        return f"Unknown: the sweep ended at {end}, and at least half of the texts held there."
    under = f" ({conditions})" if conditions else ""
    calls = "find_ceiling calls"
    texts = f"of {ceiling.compared} texts intact{under}"
    if zone == "green":
        return f"Green: up to {side.recommended} {calls} at least 9 in 10 {texts}."
    if zone == "red" and abs(coefficient) >= abs(side.reentry):  # NaN: never
        return (
            f"Red: beyond the ceiling {side.ceiling}, where texts broke first; further out {calls} "
            f"more of them intact again."
        )
    if zone == "red":
        return f"Red: beyond the ceiling {side.ceiling} {calls} fewer than half {texts}."
    if green:
        why = f"beyond the recommended {side.recommended}"
    elif side.effect == "effect":
        why = "no coefficient is recommended on this side"
    elif side.effect == "unknown":
        why = "the effect is unknown on this side"
    elif side.effect == "wrong way":
        why = "the effect goes the wrong way on this side"
    else:
        why = "no effect was found on this side"
    if beyond == "unknown":
        return f"Amber: {why}; {calls} at least half {texts}, in all the swept range."
    return f"Amber: {why}; up to {side.ceiling} {calls} at least half {texts}."


def reasons(ceiling: Ceiling | None, coefficient: float) -> str:
    """Why the zones of a side stand where they do: its status and the ceiling's reasons; at 0 those
    of both sides, "" without a sweep."""
    if ceiling is None:
        return ""
    said = [
        f"{'+' if side.sign > 0 else '−'}: {'; '.join((side.status, *side.reasons))}."
        for side in ceiling.sides.values()
        if side.sign * coefficient >= 0
    ]
    if said:
        said.append(
            f"Counted are the {ceiling.compared} of {ceiling.prompts} prompts whose unsteered text "
            "is intact."
        )
    return "\n".join(said)
