"""What is composed in the demo: properties, each with its schedule, and a prompt, as one value.

A part of the state, so from a stranger's file perhaps: it is checked field by field. Schedules are
those of `workbench.composition.schedules`; Scalena et al. 2024, https://arxiv.org/abs/2406.17563.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from workbench.composition.schedules import Budget, Diminishing, Dynamic, Fixed, Schedule, Start
from workbench.contrast.catalogue import bundled
from workbench.support.checks import check_whole, number

# Traits of wren whose deltas change its texts at a strength that leaves them whole.
TRAITS = ("italian", "french", "english", "formality", "mood", "dialect")
VECTOR = "vector"  # the one in use
PARTS = 3  # as many as a figure has colours for
STRONGEST = 100.0  # as a state's coefficients; what is offered is less, see limits.py
MOST_TOKENS, LONGEST = 96, 200_000  # more tokens would not stand beside each other under a figure


@dataclass(frozen=True)
class Part:
    """A property, how strong it is, and when.

    adds      "" for none, "delta:" and a trait of wren, "data:" and a bundled data set, "vector",
              or "given:" and the name of what the demo was given
    schedule  a key of SCHEDULES
    strength  the coefficient, the greatest one where a schedule looks at the model: in deltas, or
              in residual norms
    top_p     of "dynamic": the share of probability that likely tokens hold
    nats      of "budget": KL(composed || unsteered) of the whole text

    Raises ValueError for anything out of range.
    """

    adds: str = ""
    schedule: str = "fixed"
    strength: float = 0.5
    top_p: float = 0.7
    nats: float = 10.0

    def __post_init__(self) -> None:
        if isinstance(self.adds, str) and self.adds.startswith("given:"):
            check_given(self.adds.partition(":")[2])
        elif self.adds not in properties():
            raise ValueError(
                f"property {self.adds!r:.80}: give '', 'vector', 'data:' and a bundled data "
                f"set, 'given:' and a name, or 'delta:' and one of {', '.join(TRAITS)}"
            )
        known = [*SCHEDULES]  # a list, which may be asked for anything
        if self.schedule not in known:
            raise ValueError(f"schedule {self.schedule!r:.80}: choose one of {known}")
        if not 0 <= number(self.strength) <= STRONGEST:
            raise ValueError(f"strength {self.strength!r}: give a number from 0 to {STRONGEST:g}")
        if not 0 < number(self.top_p) < 1:
            raise ValueError(f"top p {self.top_p!r}: give a share between 0 and 1")
        if not 0 <= number(self.nats) <= 1000:
            raise ValueError(f"KL budget {self.nats!r}: give nats from 0 to 1000")

    @property
    def name(self) -> str:
        """The property, in words."""
        return "vector in use" if self.adds == VECTOR else self.adds.partition(":")[2]

    def made(self) -> Schedule:
        """The schedule. What looks at the model looks at the property as strong as it may be."""
        return SCHEDULES[self.schedule](self)


SCHEDULES: Mapping[str, Callable[[Part], Schedule]] = {
    "fixed": lambda part: Fixed(part.strength),
    "start": lambda part: Start(part.strength),
    "diminishing": lambda part: Diminishing(part.strength),
    "dynamic": lambda part: Dynamic(part.top_p, clip=(0.0, part.strength), probe=part.strength),
    "budget": lambda part: Budget(part.nats, most=part.strength, probe=part.strength),
}


def check_given(name: object) -> None:
    """Raise ValueError unless that can name a property that a demo is given."""
    if not isinstance(name, str) or not name.strip() or len(name) > 60 or not name.isprintable():
        raise ValueError(f"a property is called {name!r:.80}: give one line of at most 60 letters")


def properties() -> list[str]:
    """All properties there may be, on one model or another, but for those that a demo is given."""
    traits = [f"delta:{trait}" for trait in TRAITS]
    return ["", VECTOR, *traits, *(f"data:{name}" for name in bundled())]


@dataclass(frozen=True)
class Mix:
    """Up to PARTS properties, the prompt to be continued, and the most tokens.

    Raises ValueError for anything out of range.
    """

    parts: tuple[Part, ...] = (Part(),) * PARTS
    prompt: str = "Nestor & Roland:"
    new_tokens: int = 40

    def __post_init__(self) -> None:
        if len(self.parts) != PARTS or not all(isinstance(each, Part) for each in self.parts):
            raise ValueError(
                f"a mix has {PARTS} parts, the last of them perhaps without a property"
            )
        if not isinstance(self.prompt, str) or len(self.prompt) > LONGEST:
            raise ValueError(f"prompt to continue: give a text of at most {LONGEST} letters")
        check_whole("length", self.new_tokens, 1, MOST_TOKENS)

    @property
    def chosen(self) -> tuple[Part, ...]:
        """The parts with a property. Raises ValueError for none, and for one twice."""
        found = [each for each in self.parts if each.adds]
        names = [each.name for each in found]
        if not found:
            raise ValueError("there is nothing to compose: choose a property")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is chosen twice: choose another property")
        return tuple(found)


def from_saved(found: object) -> Mix:
    """A mix, or what a saved state has in its place. Raises ValueError for anything else."""
    if isinstance(found, Mix):
        return found
    known = {each.name for each in fields(Mix)}
    if not isinstance(found, dict) or set(found) != known or not isinstance(found["parts"], list):
        raise ValueError(f"mix {found!r:.80}: give {', '.join(sorted(known))}")
    known = {each.name for each in fields(Part)}
    parts = []
    for part in found["parts"]:
        if not isinstance(part, dict) or set(part) != known:
            raise ValueError(f"mix has the part {part!r:.80}: give {', '.join(sorted(known))}")
        parts.append(Part(**part))
    return Mix(**{**found, "parts": tuple(parts)})
