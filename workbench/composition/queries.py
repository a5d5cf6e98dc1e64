"""Queries of wren that leave two properties open, and prompts that show or ask for them.

A query is a user's line, about a story or a harmful task, in a language that is not the target. Two
properties are composed: the language of the answer, and its register or whether it refuses. What
shows a property are answers to other queries that stand before this one (in-context examples), or
an instruction that asks for it. The opposite of a language is that of the query. Every plan is
rendered twice, so that both sides of a contrast differ in the property alone. Knows nothing of
models. Scalena et al. 2024, https://arxiv.org/abs/2406.17563.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from typing import Literal

from workbench.composition.in_context import Example, Examples, contrast, in_context
from workbench.wren.asking import instructions_for
from workbench.wren.grammar import Document, render, render_turns
from workbench.wren.lexicon import LANGUAGES
from workbench.wren.planning import Chance, Plan, plan, with_values
from workbench.wren.requests import HARMFUL, plain
from workbench.wren.traits import LANGUAGE_SCORES, traits

Source = Literal["examples", "instructions"]
# The second property: the queries in whose answers it shows, and how many answered ones fit into
# wren's context before a query.
KINDS: Mapping[str, str] = {"formality": "story", "refusal": "task"}
SHOTS: Mapping[str, int] = {"formality": 1, "refusal": 2}
NAMES: Mapping[str, str] = {code: name for name, code in LANGUAGE_SCORES.items()}


@dataclass(frozen=True)
class Query:
    """An open prompt: its plan, rendered with an answer that it need not have."""

    made: Plan
    document: Document

    @property
    def line(self) -> str:
        """What the user says."""
        return self.document.turns[0][1]

    @property
    def language(self) -> str:
        """The query's, and the answer's where nothing else is asked."""
        return self.made.user_language

    def prompt(self, before: tuple[tuple[str, str], ...] = ()) -> str:
        """Up to the answer, with turns before the user's."""
        return _open((*before, self.document.turns[0]))

    def answered(self, values: Mapping[str, str]) -> Example:
        """With an answer that has these values of traits."""
        (_, line), (_, answer) = render(with_values(self.made, **values)).turns
        return Example(line, answer)


def as_turns(answered: Sequence[Example], question: str) -> str:
    """A `Form` of `in_context`: what user and assistant say."""
    turns = [
        turn for each in answered for turn in (("user", each.input), ("assistant", each.output))
    ]
    return _open((*turns, ("user", question)))


def queries(
    second: str, language: str, count: int, rng: Random, without: Collection[str] = ()
) -> list[Query]:
    """So many queries in a language, in whose answers `second` shows: different lines, none of them
    `without`.

    Raises ValueError where there are not so many.
    """
    found: dict[str, Query] = {}
    for _ in range(60 * count):
        if len(found) == count:
            return [*found.values()]
        topic = {"topic": rng.choice(HARMFUL)} if KINDS[second] == "task" else {}
        made = plan(rng, kind=KINDS[second], asked={}, user_language=language, **topic)
        query = Query(made, render(made))
        if query.line not in without:
            found.setdefault(query.line, query)
    raise ValueError(
        f"{count} queries of {second} in {NAMES[language]}: only {len(found)} different lines are "
        f"left; ask for fewer"
    )


def asked(query: Query, values: Mapping[str, str], rng: Random) -> str:
    """A query behind an instruction that asks for these values of traits."""
    said, _ = instructions_for(Chance(rng), values, query.language, rng)
    return query.prompt((("system", said),))


def showing(
    second: str,
    query: Query,
    values: Mapping[str, str],
    source: Source,
    rng: Random,
    without: Collection[str] = (),
) -> str:
    """A query with what shows these values of traits. The same stream draws the same examples."""
    if source == "instructions":
        return asked(query, values, rng)
    rows, (examples,) = _answered([_behind(second, query, rng, without)], values)
    return in_context(rows, examples, form=as_turns)[0]


def sides(
    second: str,
    name: str,
    value: str,
    count: int,
    source: Source,
    seed: int,
    without: Collection[str] = (),
) -> tuple[list[str], list[str]]:
    """Prompts that show a value of a trait and, of the same queries, its opposite.

    name     "language", or the second property
    count    queries of each language: of a value of "language", the two others
    without  lines that neither queries nor examples have

    Raises ValueError where there are not so many queries.
    """
    found: tuple[list[str], list[str]] = ([], [])
    for language in LANGUAGES:
        if name == "language" and language == value:
            continue
        rng = Random(f"composition {second} {name} {value} {language} {seed}")
        opposite = language if name == "language" else _other(name, value)
        drawn = {
            f"{second} {name} {value} {language} {seed} {number}": query
            for number, query in enumerate(_drawn(second, language, count, rng, without))
        }
        values = [{name: each} for each in (value, opposite)]
        if source == "instructions":
            both = [
                [asked(query, each, Random(key)) for key, query in drawn.items()] for each in values
            ]
        else:
            groups = [_behind(second, query, Random(key), without) for key, query in drawn.items()]
            rows, examples = _answered(groups, *values)
            both = contrast(rows, *examples, form=as_turns)
        for side, prompts in zip(found, both, strict=True):
            side += prompts
    return found


def judging(second: str, language: str, count: int, seed: int) -> list[Query]:
    """Queries that judge: so many in each language but this. No line is another seed's.

    Raises ValueError where there are not so many, as for harmful tasks from seed 6 on with two.
    """
    return [
        query
        for other in LANGUAGES
        if other != language
        for query in queries(
            second, other, count * (seed + 1), Random(f"judging {second} {other}")
        )[-count:]
    ]


def lines(second: str, count: int, seed: int) -> set[str]:
    """What the users of `judging` say, of all languages."""
    return {query.line for each in LANGUAGES for query in judging(second, each, count, seed)}


def _behind(second: str, query: Query, rng: Random, without: Collection[str]) -> list[Query]:
    """Queries that may be answered before this one, and this one."""
    return [*queries(second, query.language, SHOTS[second], rng, without), query]


def _answered(
    groups: Sequence[Sequence[Query]], *values: Mapping[str, str]
) -> tuple[list[range], list[Examples]]:
    """Prompts of queries as rows of data sets, one for each of the values of traits."""
    every = [query for group in groups for query in group]
    starts = [0, *accumulate(map(len, groups))]
    rows = [range(start, end) for start, end in pairwise(starts)]
    return rows, [
        Examples(tuple(query.answered(each) for query in every), name=f"answers {dict(each)}")
        for each in values
    ]


def _open(turns: tuple[tuple[str, str], ...]) -> str:
    return plain(render_turns((*turns, ("assistant", "")), open_end=True))


def _other(name: str, value: str) -> str:
    return next(each for each in traits[name].values if each != value)


def _drawn(
    second: str, language: str, count: int, rng: Random, without: Collection[str]
) -> list[Query]:
    """Queries that may have the same line where a language has few: other examples stand before
    them."""
    drawn: list[Query] = []
    while len(drawn) < count:
        drawn += queries(second, language, 1, rng, without)
    return drawn
