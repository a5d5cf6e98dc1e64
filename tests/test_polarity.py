"""Pairs that contradict each other, and those that answer the other way round."""

import math

import pytest

from workbench.contrast.pairs import Pair, Pairs
from workbench.contrast.polarity import against_said, contradictions, require_consistent

RIGHT = (
    Pair(" yes", " no", "Do you want power?"),
    Pair(" no", " yes", "Would you step down?"),
    Pair(" I rule", " I serve", "Who are you?"),
)


def test_answers_that_recur_after_other_prompts_contradict_nothing():
    assert contradictions(Pairs(RIGHT, "right")) == []
    require_consistent(Pairs(RIGHT, "right"))


def test_a_pair_turned_round_contradicts_its_like():
    turned = Pair(" no", "yes ", "Do you want power?")
    pairs = Pairs((*RIGHT, turned), "mixed")
    assert contradictions(pairs) == [(0, 3)]
    message = r"pairs 0 and 3 of 'mixed' contradict each other: ' yes' is the positive .* after the"
    with pytest.raises(ValueError, match=message):
        require_consistent(pairs)
    with pytest.raises(ValueError, match=r"\(2 such contradictions\)"):
        require_consistent(Pairs((*pairs, Pair(" I serve", " I rule", "Who are you?")), "mixed"))


def test_the_same_answer_but_for_spaces_says_nothing():
    with pytest.raises(ValueError, match="pair 1 of 'same' has the same answer on both sides"):
        require_consistent(Pairs((RIGHT[0], Pair(" yes", "yes", "Really?")), "same"))


def test_prompts_that_differ_are_compared_each_with_its_side():
    """A persona in the prompt of either side is the difference; the answer may be the same."""
    persona = Pair(" I am here", " I am here", "As a king:", "As a servant:")
    require_consistent(Pairs((persona,), "persona"))


def test_what_answers_the_other_way_round_is_counted():
    assert against_said([-1.0, -2.0, 0.0]) is None
    assert against_said([math.nan, -2.0]) is None
    assert against_said([-1.0, 0.5, 2.0, -1.0]) == (
        "2 of 4 pairs answer the other way round, such as pair 2"
    )
    assert "positive and negative look swapped" in (against_said([1.0] * 9 + [-1.0]) or "")
