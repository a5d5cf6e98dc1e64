"""How strong a property of a mix may be made: the end of its slider, where it begins, and why.

A vector goes as far as in the tab that steers: to the ceiling of its sweep where one is known, else
to the ends that were chosen there. Deltas go to 2, the greatest coefficient in Scalena et al. 2024,
https://arxiv.org/abs/2406.17563. Knows nothing of sliders.
"""

from __future__ import annotations

import math

from workbench.composition.deltas import StepDeltas
from workbench.demo import zones
from workbench.demo.making import Making
from workbench.demo.mix import VECTOR, Part
from workbench.demo.state import State
from workbench.sweeps.marks import Side

DELTAS = 2.0
_BEGIN = 0.75  # of deltas: strong enough to be seen in a short text


def most(part: Part, state: State, made: Making) -> float:
    """The greatest strength that is offered, in deltas or residual norms; a part that is stronger,
    in a saved state perhaps, is offered as it is."""
    if not part.adds or of_deltas(part.adds, made):
        return max(DELTAS, part.strength)
    side = _side(part.adds, state, made)
    ceiling = math.nan if side is None else side.ceiling.value
    end = state.reach if math.isnan(ceiling) else math.ceil(100 * ceiling - 1e-9) / 100
    return max(end, part.strength)


def first(adds: str, state: State, made: Making) -> float:
    """How strong a property is when it is chosen: as recommended, where that is known."""
    if of_deltas(adds, made):
        return _BEGIN
    side = _side(adds, state, made)
    best = math.nan if side is None else side.recommended.value
    return round(state.reach / 3 if math.isnan(best) else best, 2)


def zone(part: Part, state: State, made: Making) -> tuple[zones.Color, str]:
    """The zone of a vector's strength and what it means, in words; ("unknown", "") of deltas."""
    if not part.adds or of_deltas(part.adds, made):
        return "unknown", ""
    if _side(part.adds, state, made) is None:
        return "unknown", "No sweep of this vector: nobody knows how far it may go."
    words = zones.words(made.ceiling, part.strength, made.conditions)
    return zones.color(made.ceiling, part.strength), f"Alone, at every token. {words}"


def of_deltas(adds: str, made: Making) -> bool:
    """Whether a property is deltas, which are strong in another unit than vectors."""
    kind, _, name = adds.partition(":")
    given = made.properties.given.get(name) if kind == "given" else None
    return kind == "delta" or isinstance(given, StepDeltas)


def _side(adds: str, state: State, made: Making) -> Side | None:
    """What the sweep found of more of the vector in use, in the style that texts are written in."""
    if adds != VECTOR or made.ceiling is None or made.trained_as is None:
        return None
    return made.ceiling.sides.get(1) if made.trained_as.style == state.style else None
