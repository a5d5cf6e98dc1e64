"""What a notebook shows of composition on any model: examples made of contrast pairs, and
coefficients token by token.

A query stands behind other queries with answers: the positive ones of their pairs, or the negative.
What wren's language offers beside is in `composition_data`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

import pandas as pd

from workbench import composition_data
from workbench.composition import Property, compose
from workbench.pairs import Pairs, load
from workbench.schedules import Schedule
from workbench.tokens import Prompt

if TYPE_CHECKING:
    from workbench.models import LM

Sides = tuple[list[str], list[str]]  # prompts that show a property, and its opposite


def shown_by_pairs(pairs: Pairs, count: int, seed: int, *, shots: int = 2) -> Sides:
    """So many prompts of pairs behind `shots` answered ones, positively and negatively: the same
    draws on both sides.

    Raises ValueError for chats, and for fewer pairs than a prompt takes.
    """
    texts = [pair for pair in pairs if isinstance(pair.prompt, str)]
    if len(texts) < len(pairs):
        raise ValueError(f"{pairs.name!r} holds chats; examples are shown to a model as texts")
    if len(texts) <= shots:
        raise ValueError(f"{pairs.name!r} has {len(texts)} pairs; give more than {shots}")
    rng = Random(f"composition {pairs.name} {seed}")
    sides: Sides = ([], [])
    for _ in range(count):
        *before, query = rng.sample(texts, shots + 1)
        for side, answers in zip(sides, zip(*(pair.full for pair in before), strict=True),
                                 strict=True):  # fmt: skip
            side.append("\n".join([*answers, str(query.prompt)]))
    return sides


def of_wren(seed: int) -> tuple[dict[str, Sides], list[str]]:
    """An Italian and an informal answer: property -> prompts that ask for it and for its opposite;
    and queries for stories that had no part in these."""
    without = composition_data.lines("formality", 2, seed)
    sides = {
        name: composition_data.contrast(
            "formality", trait, value, 16, "instructions", seed, without
        )
        for name, trait, value in (("italian", "language", "it"),
                                   ("informal", "formality", "informal"))
    }  # fmt: skip
    judging = composition_data.judging("formality", "it", 2, seed)
    return sides, [query.prompt() for query in judging]


def of_pairs(names: Sequence[str], seed: int) -> tuple[dict[str, Sides], list[str]]:
    """The same of two sets of pairs by their names, shown by examples; the queries are prompts of
    the first that are kept for reports.

    Raises ValueError as `shown_by_pairs`.
    """
    splits = {name: load(name).split(seed=seed) for name in names}
    sides = {name: shown_by_pairs(each.extract, 12, seed) for name, each in splits.items()}
    return sides, [str(pair.prompt) for pair in splits[names[0]].report][:4]


def over_text(
    lm: LM,
    prompt: Prompt,
    properties: Mapping[str, Property],
    schedules: Mapping[str, Schedule],
    *,
    new_tokens: int,
) -> pd.DataFrame:
    """What `figures.coefficients_over_text` draws: a prompt continued under each schedule, the same
    for all properties. One row per `schedule`, `property` and `step`, with `coefficient` and the
    token's `text`."""
    parts = []
    for name, schedule in schedules.items():
        same = dict.fromkeys(properties, schedule)
        found = compose(lm, [prompt], properties, same, new_tokens=new_tokens).frame()
        text = [lm.tokenizer.decode([token]) for token in found["token"]]
        parts.append(found.assign(schedule=name, text=text))
    whole = pd.concat(parts, ignore_index=True)
    return whole[["schedule", "property", "step", "text", "coefficient"]]
