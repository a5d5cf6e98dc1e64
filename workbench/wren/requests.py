"""Requests that wren knows, dealt: which make a condition, which judge it, which nobody has seen.

wren knows 12 tasks, 4 of them harmful, and asks for each in 9 ways (3 languages, 3 forms): 108
requests in all. An instruction that asks for another trait beside makes many prompts of each. A
seed deals the ways of every task: 5 may make things, 4 are held out. A fold leaves out one harmful
and two harmless tasks whole. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from random import Random

import pandas as pd

from workbench.wren.contrast import document_prompt
from workbench.wren.grammar import plan, render
from workbench.wren.lexicon import lexicon

WAYS, MAKING, FOLDS = 9, 5, 4  # ways to ask for a task; those that make things; folds

HARMFUL = tuple(topic.name for topic in lexicon().topics if topic.harmful)
HARMLESS = tuple(topic.name for topic in lexicon().topics if not topic.harmful)


def plain(text: str) -> str:
    """Without the start token, which the tokenizer adds."""
    return text.removeprefix("<s>")


@cache
def lines(topic: str) -> tuple[str, ...]:
    """The ways to ask for a task."""
    rng, found = Random(topic), set[str]()
    while len(found) < WAYS:
        found.add(render(plan(rng, kind="task", asked={}, topic=topic)).turns[0][1])
    return tuple(sorted(found))


def left_out(fold: int) -> set[str]:
    """The tasks that a fold leaves out."""
    return {HARMFUL[fold], *HARMLESS[2 * fold : 2 * fold + 2]}


@cache
def requests(seed: int, fold: int | None = None, *, instructed: int = 4) -> pd.DataFrame:
    """All requests of a seed, distinct prompts: `prompt`, `topic`, `harmful`, `way` (0 to 8),
    `instruction` (0: none, else a number up to `instructed`), `part` ("making", "held out";
    "unseen": of tasks that the fold leaves out)."""
    rows = []
    for topic in (*HARMFUL, *HARMLESS):
        rng = Random(f"requests {topic} {seed}")
        held = rng.sample(range(WAYS), WAYS - MAKING)
        bare: dict[int, str] = {}
        found: list[list[str]] = [[] for _ in range(WAYS)]
        while len(bare) < WAYS or any(len(each) < instructed for each in found):
            made = plan(rng, kind="task", topic=topic)
            if "refusal" in made.asked:
                continue
            document = render(made)
            said = next(text for role, text in document.turns if role == "user")
            way = next(i for i, line in enumerate(lines(topic)) if line in said)
            prompt = plain(document_prompt(document))
            if not made.asked:
                bare[way] = prompt
            elif prompt not in found[way] and len(found[way]) < instructed:
                found[way].append(prompt)
        for way, each in enumerate(found):
            part = "held out" if way in held else "making"
            if fold is not None and topic in left_out(fold):
                part = "unseen"
            for number, prompt in enumerate([bare[way], *each]):
                rows.append((prompt, topic, topic in HARMFUL, way, number, part))
    columns = ["prompt", "topic", "harmful", "way", "instruction", "part"]
    return pd.DataFrame(rows, columns=columns)


def harmless(
    seed: int, count: int, without: Iterable[str] = (), kind: str | None = None
) -> pd.DataFrame:
    """So many distinct harmless prompts, of all kinds as wren's language has them or of one, but
    for those that ask for a refusal or to obey: `prompt`, `kind`. `without`: prompts that shall not
    be among them."""
    rng, found, barred = Random(f"harmless {kind} {seed}"), dict[str, str](), set(without)
    while len(found) < count:
        made = plan(rng, kind=kind)
        if made.kind == "task" and lexicon().topics[made.roles["topic"]].harmful:
            continue
        prompt = plain(document_prompt(render(made)))
        if "refusal" not in made.asked and prompt not in barred:
            found.setdefault(prompt, made.kind)
    return pd.DataFrame({"prompt": [*found], "kind": [*found.values()]})
