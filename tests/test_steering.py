"""What a run steers: tables of scales, and what does not fit the model."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from architectures import build, config, steered_logits, tokenizer
from transformers import AutoModelForCausalLM

from workbench.forward import tracing
from workbench.forward.steering import check_layer, last_step, plan
from workbench.generation.generate import generate
from workbench.interventions.updates import Add, Intervention, Origin, Place
from workbench.loading.models import LM
from workbench.text import positions
from workbench.text.tokens import encode
from workbench.vectors.steering_vector import SteeringVector

PROMPTS = ("A girl and her dog", "I am")
COMPLETIONS = (" went to the river.", " sad")


@pytest.fixture
def batch(tiny):
    return encode(tiny, PROMPTS, COMPLETIONS)


def ones(lm, layer=1, coefficient=1.0, rule=positions.everything):
    return Intervention(layer, Add(torch.ones(lm.width)), coefficient, rule)


def vector_of(lm) -> SteeringVector:
    return SteeringVector({1: torch.ones(lm.width)}, {1: 1.0}, lm.name, lm.fingerprint, "hand", 1)


def test_a_plan_leaves_out_what_is_zero(tiny, batch):
    edits = [ones(tiny, 0, 0.0), ones(tiny, 1, 2.0, positions.generated)]
    made = plan(tiny, batch, edits, new_tokens=4)
    assert list(made) == [Place(1)]
    ((_, table),) = made[Place(1)]
    assert table.shape == (2, batch.width + 4)
    assert torch.equal(table[:, : batch.width] != 0, batch.completion)
    assert table[0, batch.width :].tolist() == [2, 2, 2, 0]  # the last token is not fed back


def test_layers_come_in_order_and_updates_of_one_layer_as_given(tiny, batch):
    edits = [ones(tiny, 2), ones(tiny, 0, 3.0), ones(tiny, 2, -1.0)]
    made = plan(tiny, batch, edits)
    assert list(made) == [Place(0), Place(2)]
    assert [float(table[batch.attention].unique()) for _, table in made[Place(2)]] == [1.0, -1.0]


def test_the_last_step_is_the_last_column_that_anything_steers(tiny, batch):
    width = batch.width

    def until_step_two(step):
        return float(step <= 2)

    assert last_step({}, width) == -1
    assert last_step(plan(tiny, batch, [ones(tiny, 0, 1.0, positions.prompt)], 5), width) == 0
    assert last_step(plan(tiny, batch, [ones(tiny)], 5), width) == 4
    bare = encode(tiny, PROMPTS)
    made = plan(tiny, bare, [ones(tiny, 0, until_step_two)], 5)
    assert last_step(made, bare.width) == 2


def test_a_vector_of_another_model_of_equal_width_is_refused(tiny, batch):
    other = build("llama", seed=5)
    assert other.width == tiny.width
    vector = vector_of(other)
    expected = f"weights {other.fingerprint[:12]}.*weights {tiny.fingerprint[:12]}"
    ran = []
    handle = tiny.model.register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        with pytest.raises(ValueError, match=expected):
            generate(tiny, PROMPTS, vector.at(1.0))
        with pytest.raises(ValueError, match=expected):
            tracing.logprobs(tiny, batch, vector.at(1.0))
    finally:
        handle.remove()
    assert ran == []
    with pytest.raises(ValueError, match=r"made on 'elsewhere'.*not on"):
        plan(tiny, batch, [Intervention(1, Add(torch.ones(32), Origin("elsewhere", "a" * 64)))])


def test_its_own_vectors_and_those_of_unknown_origin_run(tiny, batch):
    steered = steered_logits(tiny, batch, vector_of(tiny).at(1.0, unit="raw"))
    foreign = replace(vector_of(build("llama", seed=5)), fingerprint="")
    assert torch.equal(steered_logits(tiny, batch, foreign.at(1.0, unit="raw")), steered)
    assert torch.equal(steered_logits(tiny, batch, [ones(tiny)]), steered)


def test_a_model_whose_weights_are_elsewhere_takes_any_vector(tiny, batch):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config("llama"))
    traced = SimpleNamespace(_module=model, tokenizer=tokenizer())
    away = LM(traced, "away", "model.layers")  # type: ignore[arg-type]
    assert tiny.in_memory
    assert not away.in_memory
    assert list(plan(away, batch, vector_of(tiny).at(1.0))) == [Place(1)]


def test_layers_are_whole_numbers_of_the_model(tiny):
    assert check_layer(tiny, 2) == 2
    for bad in (True, 3, -1, 0.5):
        with pytest.raises(ValueError, match=f"layer {bad} is out of range: .* has 0 … 2"):
            check_layer(tiny, bad)


@pytest.mark.parametrize("bad", ["abc", None, float("nan"), [1]])
def test_what_is_no_number_is_no_layer(tiny, bad):
    with pytest.raises(ValueError, match=re.escape(f"layer {bad!r} is out of range: ")):
        check_layer(tiny, bad)
    assert check_layer(tiny, np.int64(1)) == 1


def test_interventions_are_a_list_of_interventions(tiny, batch):
    with pytest.raises(ValueError, match=r"is one Intervention \(layer 1\); wrap it in a list"):
        plan(tiny, batch, ones(tiny))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"interventions is SteeringVector\(.*vector\.at"):
        plan(tiny, batch, vector_of(tiny))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'joy' is not an intervention; give Intervention\(layer"):
        plan(tiny, batch, ["joy"])  # type: ignore[list-item]


def test_a_coefficient_is_asked_only_for_steps_that_are_fed_back(tiny):
    batch = encode(tiny, PROMPTS)
    asked = []

    def coefficient(step):
        asked.append(step)
        return 1.0

    plan(tiny, batch, [ones(tiny, 1, coefficient)], new_tokens=3)
    assert asked == [0, 1, 2]
