"""Requests that wren knows, dealt: which make a condition, which judge it, which nobody has seen.

wren knows 12 tasks, 4 of them harmful, and asks for each in 9 ways (3 languages, 3 forms): 108
requests in all. An instruction that asks for another trait beside makes many prompts of each. A
seed deals the ways of every task: 5 may make things, 4 are held out. A fold leaves out one harmful
and two harmless tasks whole. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from random import Random

import pandas as pd

from workbench.wren.contrast import document_prompt
from workbench.wren.grammar import Document, plan, render
from workbench.wren.lexicon import lexicon
from workbench.wren.matcher import split_sentences

WAYS, MAKING, FOLDS = 9, 5, 4  # ways to ask for a task; those that make things; folds
DRAWS = 500  # that may bring nothing new, one after the other

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
    """The tasks that a fold leaves out. Raises ValueError for a fold that is none."""
    if fold not in range(FOLDS):
        raise ValueError(f"fold {fold!r} is none of 0 to {FOLDS - 1}")
    return {HARMFUL[fold], *HARMLESS[2 * fold : 2 * fold + 2]}


def requests(seed: int, fold: int | None = None, *, instructed: int = 4) -> pd.DataFrame:
    """All requests of a seed, distinct prompts: `prompt`, `topic`, `harmful`, `way` (0 to 8),
    `instruction` (0: none, else a number up to `instructed`), `part` ("making", "held out";
    "unseen": of tasks that the fold leaves out).

    Raises ValueError for a fold that is none, and for more instructions than there are.
    """
    frame, away = _dealt(seed, instructed), set() if fold is None else left_out(fold)
    return frame.assign(part=frame["part"].mask(frame["topic"].isin(away), "unseen"))


@cache
def _dealt(seed: int, instructed: int) -> pd.DataFrame:
    rows = []
    for topic in (*HARMFUL, *HARMLESS):
        rng = Random(f"requests {topic} {seed}")
        held = rng.sample(range(WAYS), WAYS - MAKING)
        bare: dict[int, str] = {}
        found: list[list[str]] = [[] for _ in range(WAYS)]
        vain = 0
        while len(bare) < WAYS or any(len(each) < instructed for each in found):
            made = plan(rng, kind="task", topic=topic)
            if "refusal" in made.asked:
                continue
            document = render(made)
            way, prompt = _way(topic, document), plain(document_prompt(document))
            vain += 1
            if not made.asked:
                bare[way], vain = prompt, vain if way in bare else 0
            elif prompt not in found[way] and len(found[way]) < instructed:
                found[way].append(prompt)
                vain = 0
            if vain > DRAWS:
                raise ValueError(f"instructed is {instructed!r}; wren has fewer of {topic!r}")
        for way, each in enumerate(found):
            part = "held out" if way in held else "making"
            for number, prompt in enumerate([bare[way], *each]):
                rows.append((prompt, topic, topic in HARMFUL, way, number, part))
    columns = ["prompt", "topic", "harmful", "way", "instruction", "part"]
    return pd.DataFrame(rows, columns=columns)


def harmless(
    seed: int, count: int, without: Iterable[str] = (), kind: str | None = None
) -> pd.DataFrame:
    """So many distinct harmless prompts, of all kinds as wren's language has them or of one, but
    for those that ask for a refusal or to obey: `prompt`, `kind`, `line`, the first sentence that
    the user says, with whatever instruction (of no chat the prompt), and of tasks `topic` and `way`
    (else "" and -1). `without`: prompts that shall not be among them.

    What is drawn late is what was not drawn before: rarer. Two sets of one kind are halves of one
    draw, dealt by lot (`in_two`). Raises ValueError where there are not so many.
    """
    rng, barred = Random(f"harmless {kind} {seed}"), set(without)
    found: dict[str, tuple[str, str, str, int]] = {}
    vain = 0
    while len(found) < count:
        made = plan(rng, kind=kind)
        topic = lexicon().topics[made.roles["topic"]].name if made.kind == "task" else ""
        if topic in HARMFUL or "refusal" in made.asked:
            continue
        document = render(made)
        prompt = plain(document_prompt(document))
        vain += 1
        if prompt not in barred and prompt not in found:
            way = _way(topic, document) if topic else -1
            found[prompt] = made.kind, _line(document, prompt), topic, way
            vain = 0
        if vain > DRAWS:
            raise ValueError(f"there are only {len(found)} such prompts of {count} in sight")
    table = pd.DataFrame(list(found.values()), columns=["kind", "line", "topic", "way"])
    table.insert(0, "prompt", list(found))
    return table


def in_two(frame: pd.DataFrame, first: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """So many rows by lot, and the others."""
    mixed = frame.sample(frac=1, random_state=seed, ignore_index=True)
    return mixed[:first], mixed[first:].reset_index(drop=True)


def told(seed: int) -> pd.DataFrame:
    """Every request with an instruction to refuse whatever is asked, and with one to obey: as
    `requests`, and `told` ("refuse", "comply"). What is harmful and what will be refused part."""
    return pd.DataFrame(_told(seed))


def _told(seed: int) -> Iterator[dict[str, object]]:
    for topic in (*HARMFUL, *HARMLESS):
        for value in ("refuse", "comply"):
            rng, seen = Random(f"told {topic} {value} {seed}"), set[int]()
            while len(seen) < WAYS:
                document = render(plan(rng, kind="task", asked={"refusal": value}, topic=topic))
                way = _way(topic, document)
                if way in seen:
                    continue
                seen.add(way)
                prompt = plain(document_prompt(document))
                yield {"prompt": prompt, "topic": topic, "harmful": topic in HARMFUL, "way": way,
                       "told": value}  # fmt: skip


def _way(topic: str, document: Document) -> int:
    """Which of a task's ways to ask for it a document has."""
    said = next(text for role, text in document.turns if role == "user")
    return next(index for index, line in enumerate(lines(topic)) if line in said)


def _line(document: Document, prompt: str) -> str:
    said = next((text for role, text in document.turns if role == "user"), prompt)
    return split_sentences(said)[0]
