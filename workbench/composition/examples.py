"""What a notebook shows of composition on any model: examples made of contrast pairs, and
coefficients token by token.

A query stands behind other queries with answers: the positive ones of their pairs, or the negative.
What wren's language offers beside is in `wren.composition_queries`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from workbench.composition import queries as composition_queries
from workbench.composition.compose import Property, compose
from workbench.composition.in_context import Example, Examples, contrast, deal
from workbench.composition.schedules import Schedule
from workbench.contrast.pairs import Pairs, load
from workbench.text.tokens import Prompt

if TYPE_CHECKING:
    from workbench.loading.models import LM

Sides = tuple[list[str], list[str]]  # prompts that show a property, and its opposite


def as_lines(answered: Sequence[Example], question: str) -> str:
    """A `Form` of `in_context`: a line for each, an answer right behind its question."""
    return "\n".join([*(each.input + each.output for each in answered), question])


def shown_by_pairs(pairs: Pairs, count: int, seed: int, *, shots: int = 2) -> Sides:
    """So many prompts of pairs behind `shots` answered ones, positively and negatively: the same
    draws on both sides, each pair once.

    Raises ValueError for chats, pairs whose sides have prompts of their own, and fewer pairs than
    the prompts take.
    """
    if any(not isinstance(pair.prompt, str) for pair in pairs):
        raise ValueError(f"{pairs.name!r} holds chats; examples are shown to a model as texts")
    if any(pair.prompts[0] != pair.prompts[1] for pair in pairs):
        raise ValueError(
            f"the two sides of {pairs.name!r} have prompts of their own; examples are answers to "
            "the same one"
        )
    sides = [
        Examples(tuple(Example(str(pair.prompt), getattr(pair, side)) for pair in pairs),
                 name=f"{pairs.name}, {side}")
        for side in ("positive", "negative")
    ]  # fmt: skip
    dealt = deal(sides, icl_examples=shots, support=count, evaluation_size=0, seed=seed)
    return contrast(dealt.extraction, *sides, form=as_lines)


def of_wren(seed: int) -> tuple[dict[str, Sides], list[str]]:
    """An Italian and an informal answer: property -> prompts that ask for it and for its opposite;
    and queries for stories that had no part in these."""
    without = composition_queries.lines("formality", 2, seed)
    sides = {
        name: composition_queries.sides(
            "formality", trait, value, 16, "instructions", seed, without
        )
        for name, trait, value in (("italian", "language", "it"),
                                   ("informal", "formality", "informal"))
    }  # fmt: skip
    judging = composition_queries.judging("formality", "it", 2, seed)
    return sides, [query.prompt() for query in judging]


def of_pairs(names: Sequence[str], seed: int) -> tuple[dict[str, Sides], list[str]]:
    """The same of two sets of pairs by their names, shown by examples, 12 prompts or as many as the
    pairs make; the queries are prompts of the first that are kept for reports.

    Raises ValueError as `shown_by_pairs`.
    """
    splits = {name: load(name).split(seed=seed) for name in names}
    sides = {
        name: shown_by_pairs(each.extract, max(1, min(12, len(each.extract) // 3)), seed)
        for name, each in splits.items()
    }
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
