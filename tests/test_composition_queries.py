"""Queries of wren for two properties, and prompts that show them."""

from random import Random

import pytest

from workbench.composition import queries as data
from workbench.wren.grammar import render
from workbench.wren.judge import trait
from workbench.wren.planning import with_values
from workbench.wren.prompts import read_prompt


@pytest.mark.parametrize("second", data.KINDS)
def test_what_judges_makes_no_delta(second: str) -> None:
    without = data.lines(second, 2, seed=1)
    assert len(without) == 6
    for source in ("instructions", "examples"):
        sides = data.sides(second, "language", "it", 4, source, 1, without)
        for prompt in (*sides[0], *sides[1]):
            assert not any(line in prompt for line in without)


def test_the_two_sides_differ_in_the_property_alone() -> None:
    showing, opposite = data.sides("formality", "formality", "formal", 2, "examples", 0)
    assert len(showing) == len(opposite) == 6
    for one, other in zip(showing, opposite, strict=True):
        (first, answer), (second, contrary) = (
            each.split("<|assistant|>")[:2] for each in (one, other)
        )
        assert first == second
        assert trait(answer.split("<|user|>")[0], "formality") > 0
        assert trait(contrary.split("<|user|>")[0], "formality") < 0


def test_instructions_ask_for_the_value_or_for_the_querys_own_language() -> None:
    showing, opposite = data.sides("refusal", "language", "fr", 2, "instructions", 0)
    assert {read_prompt(each).asked["language"] for each in showing} == {"fr"}
    assert {read_prompt(each).asked["language"] for each in opposite} == {"en", "it"}


def test_the_same_seed_gives_the_same_queries() -> None:
    first, again, other = (
        [query.line for query in data.judging("formality", "it", 3, seed)] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert {query.language for query in data.judging("formality", "it", 3, 1)} == {"en", "fr"}


@pytest.mark.parametrize("second", [*data.KINDS])
def test_no_line_judges_in_two_seeds(second: str) -> None:
    every = [line for seed in range(6) for line in data.lines(second, 2, seed)]
    assert len(set(every)) == len(every) == 6 * 3 * 2


def test_too_many_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="only 12 different lines are left; ask for fewer"):
        data.judging("refusal", "it", 40, 0)
    with pytest.raises(ValueError, match="only 12 different lines are left; ask for fewer"):
        data.judging("refusal", "it", 2, 6)


@pytest.mark.parametrize("second", data.KINDS)
def test_a_query_stands_behind_turns_as_they_were_written(second: str) -> None:
    """As a document of the grammar reads, by way of no example."""
    query = data.queries(second, "en", 1, Random(3))[0]
    prompt = data.showing(second, query, {"language": "it"}, "examples", Random(4))
    shots = data.queries(second, "en", data.SHOTS[second], Random(4))
    written = "".join(
        render(with_values(shot.made, language="it")).text.removeprefix("<s>") for shot in shots
    )
    assert prompt == written + query.prompt()
