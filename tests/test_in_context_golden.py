"""The published template against the ids, indices and means of its own run."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from architectures import build
from outside import SHARED
from safetensors.torch import load_file

from workbench.composition.deltas import step_means
from workbench.composition.in_context import Example, Examples
from workbench.composition.in_context_reference import (
    reference_deal,
    reference_in_context,
    reference_questions,
)
from workbench.loading.models import LM

FOLDER = SHARED / "golden" / "3_dac"
needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/golden/3_dac is missing")


@cache
def golden() -> dict[str, Any]:
    return json.loads((FOLDER / "prompts.json").read_text())["qa_template"]


def data(name: str) -> Examples:
    held = golden()
    items = tuple(Example(row["input"], row["output"]) for row in held["dataset"][name])
    return Examples(items, held["instructions"][name], name)


@needs_golden
@pytest.mark.parametrize("name", "AB")
def test_prompts_and_means(stories: LM, name: str) -> None:
    held, examples = golden(), data(name)
    dealt = reference_deal(len(examples), icl_examples=held["icl_examples"], support=30)
    batch = reference_in_context(stories, dealt.evaluation, examples)
    found = [row[real].tolist() for row, real in zip(batch.ids, batch.attention, strict=True)]
    assert found == held["prompt_ids"][name]
    drawn = [dealt.evaluation.index(row) for row in dealt.extraction]
    assert drawn == held["support_indices"]
    means, _ = step_means(
        stories,
        reference_in_context(stories, dealt.extraction, examples),
        held["n_steps"],
        range(stories.layers),
    )
    expected = load_file(FOLDER / "activations.safetensors")[f"mean_qa_template.{name}"].flatten(2)
    torch.testing.assert_close(means, expected, atol=5e-6, rtol=0)


@needs_golden
def test_questions_alone(stories: LM) -> None:
    held, examples = golden(), data("A")
    dealt = reference_deal(len(examples), icl_examples=held["icl_examples"])
    batch = reference_questions(stories, dealt.evaluation, examples)
    found = [row[real].tolist() for row, real in zip(batch.ids, batch.attention, strict=True)]
    assert found == held["no_icl_prompt_ids"]
    assert [examples.items[row[-1]].output for row in dealt.evaluation] == held["labels"]


def test_one_example_fewer_and_the_first_prompts_evaluate() -> None:
    dealt = reference_deal(11, icl_examples=2, support=99, evaluation_size=2)
    assert dealt.evaluation == ((0, 2), (3, 5))
    assert len(dealt.extraction) == 3
    assert set(dealt.extraction) <= {(0, 2), (3, 5), (6, 8)}
    assert reference_deal(11, icl_examples=2, seed=1) != reference_deal(11, icl_examples=2, seed=2)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="4 items make no prompt of 4 examples"):
        reference_deal(4)
    with pytest.raises(ValueError, match="icl_examples"):
        reference_deal(9, icl_examples=0)
    lm: Any = SimpleNamespace(name="bare", tokenizer=SimpleNamespace(bos_token_id=None))
    examples = Examples((Example("a", "b"),), "Answer.")
    with pytest.raises(ValueError, match="has no beginning-of-text token"):
        reference_questions(lm, [(0,)], examples)


def test_a_prompt_longer_than_the_context_is_refused() -> None:
    lm = build("llama")
    examples = Examples((Example("a " * 300, "b"),), "Answer.")
    with pytest.raises(ValueError, match=r"a prompt of \d+ tokens is over the"):
        reference_questions(lm, [(0,)], examples)
