"""Texts that a model wrote by itself begin with their prompts, each once."""

import pytest
from architectures import build

from workbench.generate import generate
from workbench.own_texts import own_texts


def test_each_prompt_once_with_what_is_written_after_it():
    lm, prompts = build("llama"), ["I am", "She was", "I am", "We are"]
    found = own_texts(lm, prompts, 2, new_tokens=5, seed=3)
    made = generate(lm, ["I am", "She was"], new_tokens=5, temperature=1.0, seed=3)
    assert found == ["I am" + made.texts[0], "She was" + made.texts[1]]
    with pytest.raises(ValueError, match="only 3 of the prompts are different"):
        own_texts(lm, prompts, 4)
