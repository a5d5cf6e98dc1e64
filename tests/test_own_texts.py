"""Texts that a model wrote by itself begin with their prompts, in turn."""

import pytest
from architectures import build

from workbench.generation.generate import generate
from workbench.generation.own_texts import own_texts


def test_each_prompt_in_turn_with_what_is_written_after_it():
    lm, prompts = build("llama"), ["I am", "She was", "I am", "We are"]
    found = own_texts(lm, prompts, 2, new_tokens=5, seed=3)
    made = generate(lm, ["I am", "She was"], new_tokens=5, temperature=1.0, seed=3)
    assert found == ["I am" + made.texts[0], "She was" + made.texts[1]]

    several = own_texts(lm, prompts, 5, new_tokens=5, seed=3)
    assert [text.startswith("I am") for text in several] == [True, False, False, True, False]
    assert several[0] != several[3]  # continued anew
    with pytest.raises(ValueError, match="nothing to continue"):
        own_texts(lm, [], 4)
