"""Everything that is chosen in the demo, as one value that can be saved and restored.

A state may come from a stranger's file: it is checked field by field, and nothing in it is run.
This module knows nothing of models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from workbench.contrast.catalogue import bundled
from workbench.demo.mix import Mix, from_saved
from workbench.extraction.methods import METHODS
from workbench.support.checks import check_whole, number
from workbench.text.tokens import Prompt

Style = Literal["base", "chat"]
Source = Literal["data", "own"]
Turn = tuple[str, str]

VERSION = 1
# Letters of one text, and of a whole saved state: enough for any prompt that fits a context.
LONGEST, LARGEST = 200_000, 2_000_000
_ROLES = ("system", "user", "assistant")
_DEEPEST = 999  # no model has as many layers; a page lists those up to the chosen one
# What a vector and a sweep depend on, and what both texts do beside the vector.
TRAINS = (
    "model", "style", "source", "data", "positive", "negative", "template", "method", "layer",
    "seed",
)  # fmt: skip
SWEEPS = (*TRAINS, "reach")
WRITES = (
    "style", "coefficient", "second", "second_coefficient", "prompt", "history", "temperature",
    "text_seed", "new_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """What is chosen.

    model               "wren", a hub id or a path
    style               "base": the prompt is continued; "chat": it is the user's message
    source              "data": contrast pairs of a data set; "own": of the two personas
    data                a bundled data set; its prompts are swept in either case
    positive, negative  personas that show the trait and its opposite, one a line
    template            what is said to the model, with {persona} in it
    method              how the direction is found
    layer               where to steer; None: where held-out pairs answer most steeply,
                        or, for own personas, where the sides lie furthest apart
    coefficient         of the vector, in residual norms
    reach               the ends of the slider and of the sweep, in residual norms
    second              a bundled data set whose vector is added, "" for none
    second_coefficient  of that, in residual norms
    prompt              what the model continues, or answers
    history             earlier turns of the chat, (role, content)
    temperature         of both texts; 0 is greedy
    text_seed           of the sampling noise that both texts share
    new_tokens          the most tokens of a text
    seed                of the data's split and of the sweep
    mix                 what is composed

    Raises ValueError that names the field, its value and what to give, for anything out of range.
    """

    model: str = "wren"
    style: Style = "base"
    source: Source = "data"
    data: str = "wren-mood"
    positive: str = "cheerful"
    negative: str = "gloomy"
    template: str = "You are a {persona} person. "
    method: str = "mean_difference"
    layer: int | None = None
    coefficient: float = 0.0
    reach: float = 0.75
    second: str = ""
    second_coefficient: float = 0.0
    prompt: str = "Nestor & Roland:"
    history: tuple[Turn, ...] = ()
    temperature: float = 0.7
    text_seed: int = 1
    new_tokens: int = 48
    seed: int = 0
    mix: Mix = field(default_factory=Mix)

    def __post_init__(self) -> None:
        for name in ("model", "data", "positive", "negative", "template", "second", "prompt"):
            _check_text(name, getattr(self, name))
        _check_model(self.model)
        _check_choice("style", self.style, get_args(Style))
        _check_choice("source", self.source, get_args(Source))
        _check_choice("data", self.data, bundled())
        _check_choice("method", self.method, list(METHODS))
        _check_choice("second", self.second, ["", *bundled()])
        if "{persona}" not in self.template:
            raise ValueError(f"template {_short(self.template)}: write {{persona}} where it goes")
        if self.layer is not None:
            check_whole("layer", self.layer, 0, _DEEPEST)
        if not 0 < number(self.reach) <= 100:
            raise ValueError(f"reach {self.reach!r}: give a number of residual norms from 0 to 100")
        for name in ("coefficient", "second_coefficient"):
            value = getattr(self, name)
            if not abs(number(value)) <= 100:
                raise ValueError(f"{name} {value!r}: give a number from -100 to 100")
        if not 0 <= number(self.temperature) <= 10:
            raise ValueError(f"temperature {self.temperature!r}: give a number from 0 to 10")
        for name in ("seed", "text_seed"):
            check_whole(name, getattr(self, name), 0, 2**53)  # what every JSON reader keeps
        check_whole("new_tokens", self.new_tokens, 1, 4096)
        object.__setattr__(self, "history", _checked_history(self.history))
        object.__setattr__(self, "mix", from_saved(self.mix))
        _check_text("prompt to continue", self.mix.prompt)

    @property
    def asked(self) -> Prompt:
        """What the model gets: the prompt, or the chat that ends in it."""
        if self.style == "base":
            return self.prompt
        turns = [*self.history, ("user", self.prompt)]
        return [{"role": role, "content": content} for role, content in turns]

    def to_json(self) -> str:
        """The state as JSON that `from_json` reads."""
        return json.dumps({"workbench_demo": VERSION, **asdict(self)}, ensure_ascii=True, indent=1)


def differing(one: State, other: State, names: Sequence[str]) -> list[str]:
    """Which of the named fields differ between two states."""
    return [name for name in names if getattr(one, name) != getattr(other, name)]


def from_json(text: str) -> State:
    """A saved state. Raises ValueError for anything but what `State.to_json` writes."""
    if not isinstance(text, str) or len(text) > LARGEST:
        raise ValueError(f"a saved state is a text of at most {LARGEST} letters")
    try:
        found: Any = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a saved state: it is no JSON ({str(error)[:200]})") from None
    if not isinstance(found, dict) or "workbench_demo" not in found:
        raise ValueError("not a saved state: it lacks the key 'workbench_demo'")
    version = found.pop("workbench_demo")
    if version != VERSION:
        raise ValueError(f"workbench_demo {_short(version)}: this version reads {VERSION}")
    known = {field.name for field in fields(State)}
    unknown = sorted(set(found) - known)
    if unknown:
        raise ValueError(
            f"unknown key {_short(unknown[0])}: a state has {', '.join(sorted(known))}"
        )
    return State(**found)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number here")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} {_short(value)}: give a text")
    if len(value) > LONGEST:
        raise ValueError(f"{name} has {len(value)} letters: give at most {LONGEST}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        wrong = value[error.start]
        raise ValueError(f"{name} holds half a letter, {wrong!r}: leave it out") from None


def _check_model(name: str) -> None:
    if not name.strip() or len(name) > 500 or not name.isprintable():
        raise ValueError(f"model {_short(name)}: give 'wren', a hub id or a path")


def _check_choice(name: str, value: object, known: Any) -> None:
    if value not in known:
        shown = ", ".join(repr(each) for each in known)
        raise ValueError(f"{name} {_short(value)}: choose one of {shown}")


def _checked_history(history: object) -> tuple[Turn, ...]:
    """The turns as pairs of texts."""
    if not isinstance(history, list | tuple) or len(history) > 1000:
        raise ValueError(f"history {_short(history)}: give at most 1000 turns, [role, content]")
    turns = []
    for turn in history:
        if not isinstance(turn, list | tuple) or len(turn) != 2:
            raise ValueError(f"history holds {_short(turn)}: a turn is [role, content]")
        role, content = turn
        _check_choice("role", role, _ROLES)
        _check_text("content", content)
        turns.append((role, content))
    return tuple(turns)


def _short(value: object) -> str:
    """A value for a message: escaped, and cut."""
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:79]}…"


def steps(reach: float, count: int) -> list[list[float]]:
    """The coefficients of a sweep from the middle outwards, in rounds: [0, ±first], [±next], …

    They are `count` equal steps to `reach` on either side.
    """
    if not math.isfinite(reach) or reach <= 0:
        raise ValueError(f"reach {reach!r}: give a positive number")
    sizes = [round(reach * place / count, 6) for place in range(1, count + 1)]
    rounds = [[-size, size] for size in sizes]
    rounds[0].insert(1, 0.0)
    return rounds
