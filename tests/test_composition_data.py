"""Queries of wren for two properties, and prompts that show them."""

import pytest

from workbench import composition_data as data
from workbench.pairs import Pairs, load
from workbench.wren.judge import trait
from workbench.wren.prompts import read_prompt


@pytest.mark.parametrize("second", data.KINDS)
def test_what_judges_makes_no_delta(second: str) -> None:
    without = data.lines(second, 2, seed=1)
    assert len(without) == 6
    for source in ("instructions", "examples"):
        sides = data.contrast(second, "language", "it", 4, source, 1, without)
        for prompt in (*sides[0], *sides[1]):
            assert not any(line in prompt for line in without)


def test_the_two_sides_differ_in_the_property_alone() -> None:
    showing, opposite = data.contrast("formality", "formality", "formal", 2, "examples", 0)
    assert len(showing) == len(opposite) == 6
    for one, other in zip(showing, opposite, strict=True):
        (first, answer), (second, contrary) = (
            each.split("<|assistant|>")[:2] for each in (one, other)
        )
        assert first == second
        assert trait(answer.split("<|user|>")[0], "formality") > 0
        assert trait(contrary.split("<|user|>")[0], "formality") < 0


def test_instructions_ask_for_the_value_or_for_the_querys_own_language() -> None:
    showing, opposite = data.contrast("refusal", "language", "fr", 2, "instructions", 0)
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


def test_examples_of_any_pairs_are_the_same_on_both_sides() -> None:
    from workbench.composition_examples import shown_by_pairs

    pairs = load("emotion")
    showing, opposite = shown_by_pairs(pairs, 3, 0)
    assert showing == shown_by_pairs(pairs, 3, 0)[0] != shown_by_pairs(pairs, 3, 1)[0]
    for one, other in zip(showing, opposite, strict=True):
        assert one != other
        assert one.split("\n")[-1] == other.split("\n")[-1]
        assert all(any(line in pair.full for pair in pairs) for line in one.split("\n")[:-1])


def test_examples_need_texts_and_enough_of_them() -> None:
    from workbench.composition_examples import shown_by_pairs

    few = Pairs.from_lists([" a", " b"], [" c", " d"], ["p", "q"], name="few", trait="x")
    with pytest.raises(ValueError, match="'few' has 2 pairs; give more than 2"):
        shown_by_pairs(few, 1, 0)
    with pytest.raises(ValueError, match="'few' holds chats"):
        shown_by_pairs(few.as_chat(), 1, 0)


def test_the_notebooks_properties_of_wren_and_of_pairs() -> None:
    from workbench.composition_examples import of_pairs, of_wren

    sides, queries = of_wren(1)
    assert list(sides) == ["italian", "informal"]
    assert len(queries) == 4
    made = [prompt for both in sides.values() for side in both for prompt in side]
    lines = [query.split("<|user|>")[1] for query in queries]
    assert not any(line in prompt for line in lines for prompt in made)
    sides, queries = of_pairs(["emotion", "formality"], 1)
    assert list(sides) == ["emotion", "formality"]
    made = [prompt for both in sides.values() for side in both for prompt in side]
    assert not any(query in prompt for query in queries for prompt in made)
