"""Contrast pairs written out of templates: personas, questions with two answers, suffixes.

This module knows nothing of files or models.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.contrast.pairs import Pair, Pairs
from workbench.support.checks import require_lists
from workbench.text.chats import Message
from workbench.text.splits import as_text
from workbench.text.tokens import Prompt


def from_templates(
    template: Prompt,
    positive_personas: Sequence[str],
    negative_personas: Sequence[str],
    suffixes: Sequence[str],
    *,
    name: str = "templates",
    trait: str = "",
) -> Pairs:
    """One pair for each (persona pair, suffix): "Act like a {persona} person." + suffix.

    `template` holds {persona}, and may hold {suffix} (otherwise the suffix follows it). As chat
    messages it becomes the prompt, with the persona on either side, and the suffix the completion.
    The two persona lists are read side by side.
    Raises ValueError for persona lists of different lengths, a text in place of a list, a template
    without {persona}, and chat messages with {suffix}.
    """
    require_lists(
        positive_personas=positive_personas, negative_personas=negative_personas, suffixes=suffixes
    )
    if len(positive_personas) != len(negative_personas):
        raise _one_sided("personas", positive_personas, negative_personas)
    if "{persona}" not in as_text(template):
        raise ValueError(f"the template {template!r} does not hold '{{persona}}'")
    if not isinstance(template, str) and "{suffix}" in as_text(template):
        raise ValueError(
            f"the chat template {template!r} holds '{{suffix}}', but the suffix of a chat is its "
            "completion: leave '{suffix}' out"
        )
    sides = zip(positive_personas, negative_personas, strict=True)
    pairs = [_from_sides(template, *personas, end) for personas in sides for end in suffixes]
    return Pairs(tuple(pairs), name, trait)


def from_ab(
    questions: Sequence[Prompt],
    matching: Sequence[str],
    not_matching: Sequence[str],
    *,
    name: str = "questions",
    trait: str = "",
) -> Pairs:
    """Questions with the answer that matches the behaviour and the one that does not.

    Raises ValueError for lists of different lengths and for one text in place of a list.
    """
    require_lists(questions=questions, matching=matching, not_matching=not_matching)
    return Pairs.from_lists(matching, not_matching, questions, name=name, trait=trait)


def from_suffixes(
    instructions: Sequence[Prompt],
    positive_suffixes: Sequence[str],
    negative_suffixes: Sequence[str],
    *,
    name: str = "suffixes",
    trait: str = "",
) -> Pairs:
    """Each instruction with one positive and one negative way to begin the answer.

    The i-th instruction takes the i-th suffix of each list, beginning again at their ends.
    Raises ValueError for a list without suffixes and for one text in place of a list.
    """
    require_lists(
        instructions=instructions,
        positive_suffixes=positive_suffixes,
        negative_suffixes=negative_suffixes,
    )
    if not positive_suffixes or not negative_suffixes:
        raise _one_sided("suffixes", positive_suffixes, negative_suffixes)
    positive, negative = (
        [suffixes[i % len(suffixes)] for i in range(len(instructions))]
        for suffixes in (positive_suffixes, negative_suffixes)
    )
    return Pairs.from_lists(positive, negative, instructions, name=name, trait=trait)


def crossed(
    prompts: Sequence[Prompt],
    positive_suffixes: Sequence[str],
    negative_suffixes: Sequence[str],
    *,
    negative_prompts: Sequence[Prompt] | None = None,
    name: str = "suffixes",
    trait: str = "",
) -> Pairs:
    """Every prompt with every pair of suffixes: all prompts with the first, then with the second …

    The suffixes are read side by side; one list for both where `negative_prompts`, read beside
    `prompts`, are what makes the difference. So conditional activation steering forms its pairs.
    Raises ValueError for lists of different lengths, empty ones, and one text in place of a list.
    """
    require_lists(
        prompts=prompts,
        positive_suffixes=positive_suffixes,
        negative_suffixes=negative_suffixes,
        negative_prompts=negative_prompts,
    )
    if len(positive_suffixes) != len(negative_suffixes) or not positive_suffixes:
        raise _one_sided("suffixes", positive_suffixes, negative_suffixes)
    others = prompts if negative_prompts is None else negative_prompts
    if len(prompts) != len(others) or not prompts:
        raise _one_sided("prompts", prompts, others)
    pairs = [
        Pair(good, bad, prompt, None if negative_prompts is None else other)
        for good, bad in zip(positive_suffixes, negative_suffixes, strict=True)
        for prompt, other in zip(prompts, others, strict=True)
    ]
    return Pairs(tuple(pairs), name, trait)


def _one_sided(what: str, positive: Sequence[Prompt], negative: Sequence[Prompt]) -> ValueError:
    return ValueError(f"one-sided {what}: {len(positive)} positive and {len(negative)} negative")


def _from_sides(template: Prompt, positive: str, negative: str, suffix: str) -> Pair:
    if isinstance(template, str):
        whole = template if "{suffix}" in template else template + "{suffix}"
        good, bad = (_fill(whole, persona=p, suffix=suffix) for p in (positive, negative))
        return Pair(good, bad)
    asked, asked_otherwise = (_with_persona(template, p) for p in (positive, negative))
    return Pair(suffix, suffix, asked, asked_otherwise)


def _with_persona(messages: Sequence[Message], persona: str) -> Prompt:
    return tuple({**m, "content": _fill(m["content"], persona=persona)} for m in messages)


def _fill(template: str, **words: str) -> str:
    # Not str.format: the texts of others may hold braces of their own.
    for name, word in words.items():
        template = template.replace("{" + name + "}", word)
    return template
