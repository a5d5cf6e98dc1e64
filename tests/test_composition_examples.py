"""Examples made of pairs, and what notebooks show of composition."""

from dataclasses import replace

import pytest

from workbench.composition.examples import of_pairs, of_wren, shown_by_pairs
from workbench.contrast.pairs import Pairs, load


def test_examples_of_any_pairs_are_the_same_on_both_sides() -> None:
    pairs = load("emotion")
    showing, opposite = shown_by_pairs(pairs, 3, 0)
    assert showing == shown_by_pairs(pairs, 3, 0)[0] != shown_by_pairs(pairs, 3, 1)[0]
    for one, other in zip(showing, opposite, strict=True):
        assert one != other
        assert one.split("\n")[-1] == other.split("\n")[-1]
        for side, prompt in enumerate((one, other)):
            assert all(any(line == pair.full[side] for pair in pairs)
                       for line in prompt.split("\n")[:-1])  # fmt: skip
    lines = [line for prompt in showing for line in prompt.split("\n")]
    assert len(set(lines)) == len(lines) == 3 * 3


def test_examples_need_texts_and_enough_of_them() -> None:
    few = Pairs.from_lists([" a", " b"], [" c", " d"], ["p", "q"], name="few", trait="x")
    with pytest.raises(ValueError, match=r"need 3 different .* hold 2, enough for 0 prompts"):
        shown_by_pairs(few, 1, 0)
    with pytest.raises(ValueError, match="'few' holds chats"):
        shown_by_pairs(few.as_chat(), 1, 0)
    own = Pairs(tuple(replace(pair, negative_prompt="other") for pair in few), name="own")
    with pytest.raises(ValueError, match="two sides of 'own' have prompts of their own"):
        shown_by_pairs(own, 1, 0)


def test_the_notebooks_properties_of_wren_and_of_pairs() -> None:
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
