"""What the parts of a mix add to the model: made when first asked for, and kept; or handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from workbench.composition.compose import Property, Same
from workbench.composition.deltas import StepDeltas, step_deltas
from workbench.demo import work
from workbench.demo.mix import VECTOR, Part, check_given
from workbench.demo.state import State
from workbench.vectors.steering_vector import SteeringVector
from workbench.wren.contrast import twin_prompts

if TYPE_CHECKING:
    from workbench.loading.models import LM

Given: TypeAlias = StepDeltas | SteeringVector

_EXAMPLES = 24  # prompts on either side of a delta


class Properties:
    """Vectors and deltas of one model; `given` are those that were handed over, by name.

    Raises ValueError for what is neither, and for a name that is not one short line.
    """

    def __init__(self, given: Mapping[str, Given]) -> None:
        for name, each in given.items():
            check_given(name)
            if not isinstance(each, StepDeltas | SteeringVector):
                raise ValueError(
                    f"the property {name!r} is a {type(each).__name__}: give a SteeringVector, or "
                    "StepDeltas as of workbench.composition.deltas.step_deltas"
                )
        self.given = dict(given)
        self._vectors: dict[tuple[object, ...], SteeringVector] = {}
        self._steps: dict[str, StepDeltas] = {}

    def find(
        self, lm: LM, part: Part, made: State, vector: SteeringVector | None, steps: int,
        say: Callable[[str], None],
    ) -> Given:  # fmt: skip
        """What a part adds.

        made    by which state vectors are made
        vector  the one in use
        steps   of deltas
        say     hears what takes a while

        Raises ValueError where there is none, and as what makes it.
        """
        kind, _, name = part.adds.partition(":")
        if kind == VECTOR:
            if vector is None:
                raise ValueError(
                    "there is no vector in use yet: press 'Train and sweep' in the tab Steer first"
                )
            return vector
        if kind == "given":
            return self._handed(name)
        if kind == "delta":
            return self._deltas(lm, name, steps, say)
        key = (name, made.style, made.method, made.layer, made.seed)
        if key not in self._vectors:
            say(f"Making {name} …")
            self._vectors[key] = work.data_vector(lm, name, made)
        return self._vectors[key]

    def _deltas(self, lm: LM, trait: str, steps: int, say: Callable[[str], None]) -> StepDeltas:
        """Those of more steps begin as those of fewer do, and are used for them."""
        found = self._steps.get(trait)
        if found is None or found.steps < steps:
            say(f"Making {trait} …")
            found = self._steps[trait] = deltas(lm, trait, steps)
        return found

    def _handed(self, name: str) -> Given:
        if name not in self.given:
            raise ValueError(
                f"{name!r} is a property that another demo was given: hand it over here too, by "
                f"demo(…, properties={{{name!r}: …}}), or choose another property"
            )
        return self.given[name]

    def forget(self) -> None:
        """Another model is used: what was made is none of it."""
        self._vectors.clear()
        self._steps.clear()

    def close(self) -> None:
        """Let go of all."""
        self.forget()
        self.given.clear()


def as_property(each: Given) -> Property:
    """As `compose` takes it."""
    return Same(each.at(1.0)) if isinstance(each, SteeringVector) else each


def deltas(lm: LM, trait: str, steps: int) -> StepDeltas:
    """A trait of wren: how its attention differs, step by step, where an instruction asks for it.

    Raises ValueError on another model, and as `step_deltas`.
    """
    if lm.name != "wren":
        raise ValueError(f"deltas of {trait} are of wren, not of {lm.name!r}: choose a vector")
    twins = [[text.removeprefix("<s>") for text in pair]
             for pair in twin_prompts(trait, _EXAMPLES, 0)]  # fmt: skip
    plain, asking = zip(*twins, strict=True)
    return step_deltas(lm, asking, plain, steps=steps)
