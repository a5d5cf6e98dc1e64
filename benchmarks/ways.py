"""The ways of steering that study_methods.py puts side by side, and what each is given.

A seed draws its own pairs, its own prompts that choose a coefficient and its own that report, from
wren's language. All ways share them, and all have the same number of trials of their own settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from workbench import extract, train
from workbench.contrast.pairs import Pairs
from workbench.text import positions
from workbench.text.splits import PromptSet, text_hash
from workbench.training.trainable import FORMS
from workbench.vectors.steerable import Steerable
from workbench.vectors.steering_vector import SteeringVector, Unit
from workbench.wren.contrast import trait_pairs, twin_prompts

if TYPE_CHECKING:
    from workbench.loading.models import LM

Settings = Mapping[str, Any]

TUNING = 9000  # the seed of the draw on which trials are made
PAIRS, CHOOSING, REPORTING = 24, 24, 24
# Coefficients as shares of the largest that each form is trained with, or of half a residual norm.
SHARES = (0.0, 0.3, 0.5, 0.75, 1.1, 1.7)
UNTRAINED = 0.5
_TRAINED: tuple[Settings, ...] = (
    {"rate": 1, "epochs": 2},
    {"rate": 3, "epochs": 1},
    {"rate": 3, "epochs": 2},
)
#: What each method tries. A rate is a multiple of the form's published learning rate.
TRIALS: Mapping[str, tuple[Settings, ...]] = {
    "prompting": (
        {"place": "system", "times": 1},
        {"place": "user", "times": 1},
        {"place": "system", "times": 2},
    ),
    "difference of means": ({"layer": 2}, {"layer": 3}, {"layer": 4}),
    **dict.fromkeys(("sft", "reps", "split"), _TRAINED),
}


@dataclass(frozen=True)
class Way:
    """A method in one form ("vector", "lora", "local_weight"; "" for what steers nothing)."""

    method: str
    form: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.form}".strip().replace(" ", "-")

    @property
    def trials(self) -> tuple[Settings, ...]:
        """The settings that it tries: one, without any, where there is nothing to set."""
        return TRIALS.get(self.method, ({},))

    @property
    def unit(self) -> Unit:
        return "norm" if self.method == "difference of means" else "raw"

    @property
    def coefficients(self) -> list[float]:
        """What it tries, 0 the first; 0 alone where nothing is steered."""
        if not self.form:
            return [0.0]
        largest = UNTRAINED if self.unit == "norm" else max(FORMS[self.form].factors)
        return [largest * share for share in SHARES]


VANILLA, PROMPTING = Way("vanilla"), Way("prompting")
WAYS = (
    VANILLA,
    PROMPTING,
    Way("difference of means", "vector"),
    *(Way(m, f) for f, m in itertools.product(FORMS, ("sft", "reps", "split"))),
)


@dataclass(frozen=True, eq=False)
class Draw:
    """What one seed has of a trait.

    choosing, reporting  prompts that leave the trait open, by role
    asking               their twins that ask for it, by (place, times)
    """

    pairs: Pairs
    choosing: PromptSet
    reporting: PromptSet
    asking: Mapping[tuple[str, int], tuple[PromptSet, PromptSet]]


@cache
def draw(trait: str, seed: int) -> Draw:
    """Nothing that chooses or reports is a text of the pairs, nor of the draw on which trials are
    made, whose pairs a seed's pairs may share."""
    rows = [tuple(map(_plain, row)) for row in trait_pairs(trait, PAIRS, seed)]
    prompts, positive, negative = zip(*rows, strict=True)
    pairs = Pairs.from_lists(positive, negative, prompts, name=f"wren-{trait}", trait=trait)
    taken = set(pairs.texts)
    if seed != TUNING:
        tuning = draw(trait, TUNING)
        taken |= {*tuning.pairs.texts, *tuning.choosing.texts}
    wanted = CHOOSING + REPORTING
    found: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for how in TRIALS["prompting"]:
        twins = twin_prompts(trait, 3 * wanted, seed, **how)
        plain = [(_plain(one), _plain(other)) for one, other in twins]
        free = [twin for twin in plain if text_hash(twin[0]) not in taken]
        found[how["place"], how["times"]] = free[:wanted]
    asking = {how: _dealt(trait, [asked for _, asked in twins]) for how, twins in found.items()}
    return Draw(pairs, *_dealt(trait, [p for p, _ in next(iter(found.values()))]), asking)


def _dealt(trait: str, prompts: Sequence[str]) -> tuple[PromptSet, PromptSet]:
    """Those that choose, and those that report."""
    name = f"wren-{trait}"
    return (
        PromptSet(tuple(prompts[:CHOOSING]), name, "select"),
        PromptSet(tuple(prompts[CHOOSING:]), name, "report"),
    )


def _plain(text: str) -> str:
    """Without the start token, which the tokenizer adds."""
    return text.removeprefix("<s>")


def make(lm: LM, way: Way, settings: Settings, pairs: Pairs, seed: int) -> Steerable:
    """What a way steers with: all pairs make it, none is held out."""
    if not way.form:
        return SteeringVector({0: torch.ones(lm.width)}, {}, lm.name, "", "none", 0)
    if way.method == "difference of means":
        layer = settings["layer"]
        return extract(
            lm, pairs, positions=positions.generated, held_out=0, layer=layer, quiet=True
        )
    return train(
        lm,
        pairs,
        way.method,
        way.form,
        epochs=settings["epochs"],
        learning_rate=settings["rate"] * FORMS[way.form].learning_rate,
        held_out=0,
        seed=seed,
        progress=False,
        quiet=True,
    )
