"""What makes a vector in the demo and what it is swept on: contrast pairs and prompts.

Pairs are those of a bundled data set, or of two personas that a reader names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.contrast import catalogue
from workbench.contrast.pairs import Pair, Pairs, load
from workbench.generation.generate import generate
from workbench.text.chats import Message
from workbench.text.splits import PromptSet
from workbench.text.tokens import Prompt

if TYPE_CHECKING:
    from workbench.loading.models import LM

_ENDINGS = 24  # texts that own personas are read with


def in_chats(data: str, style: str) -> bool:
    """Whether a data set's prompts become a user's messages: in the style "chat", unless they are
    made for one model, which reads them as they are."""
    return style == "chat" and "model" not in catalogue.about(data)


def data_pairs(data: str, style: str = "base") -> Pairs:
    """A bundled data set, in chats where `in_chats` says so."""
    return load(data).as_chat() if in_chats(data, style) else load(data)


def data_prompts(data: str, style: str = "base", seed: int = 0) -> PromptSet:
    """What a sweep steers on: prompts of the data set that leave its trait open, else those of its
    "select" pairs."""
    own = data_pairs(data, style).split(seed=seed).select
    return catalogue.open_prompts(data, "select") or own.prompts


def own_pairs(
    lm: LM,
    positive: str,
    negative: str,
    template: str,
    prompts: Sequence[Prompt],
    *,
    style: str = "base",
    seed: int = 0,
) -> Pairs:
    """Pairs that differ in the persona that the prompt names, and in nothing else.

    Personas stand one a line, the same number on both sides; {persona} in the template takes their
    place. What follows on both sides are beginnings that the unsteered model itself writes to
    neutral prompts, so that this works in any language a model has. In the style "chat" the
    template is the user's message and such a beginning the answer, else it stands before the text.
    Raises ValueError for sides of different length or without a persona.
    """
    sides = [[line.strip() for line in side.splitlines() if line.strip()] for side in
             (positive, negative)]  # fmt: skip
    if not sides[0] or len(sides[0]) != len(sides[1]):
        raise ValueError(
            f"{len(sides[0])} positive and {len(sides[1])} negative personas: write as many on "
            "both sides, one a line"
        )
    few = -(-_ENDINGS // len(sides[0]))
    asked = [prompts[i % len(prompts)] for i in range(few)]
    written = generate(lm, asked, new_tokens=12, temperature=1.0, seed=seed, score=False)
    # Equal beginnings would be equal pairs.
    endings = dict.fromkeys(text for text in written.texts if text.strip())
    pairs = [
        Pair(ending, ending, _said(template, good, style), _said(template, bad, style))
        for good, bad in zip(*sides, strict=True)
        for ending in endings
    ]
    trait = f"{sides[0][0]} against {sides[1][0]}"
    return Pairs(tuple(pairs), "own personas", trait)


def _said(template: str, persona: str, style: str) -> Prompt:
    said = template.replace("{persona}", persona)
    if style == "base":
        return said
    messages: tuple[Message, ...] = ({"role": "user", "content": said},)
    return messages
