"""Relatives compute the same, share the weights, and are refused where they do not."""

import copy

import pytest
import torch
from architectures import NAMES, build, config
from transformers import AutoModelForCausalLM

from workbench.relatives import relatives, twin

LLAMA = "LlamaForCausalLM with mlp_bias=True"


def logits(model, length=100):
    ids = torch.randint(320, (2, length), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mask = torch.ones_like(ids)
        return model(input_ids=ids, attention_mask=mask, use_cache=False).logits


def random(settings, seed=0):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(settings).eval()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.1 * torch.randn_like(each))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_each_computes_the_same_on_texts_longer_than_any_window(name):
    model = build(name).model
    found = list(relatives(model))
    assert found[0][1] == ""
    assert type(found[0][0]) is type(model)
    for other, _ in found:
        if other is not None:
            torch.testing.assert_close(logits(other), logits(model), atol=1e-5, rtol=0)


def test_a_twin_shares_tensors_and_is_another_module():
    model = build("gpt2").model
    other = twin(model)
    assert other is not None
    own = dict(model.named_parameters())
    for name, each in other.named_parameters():
        assert each is not own[name]
        assert each.data_ptr() == own[name].data_ptr()


@pytest.mark.parametrize("name", ["qwen2", "phi3"])
def test_what_is_a_llama_but_for_its_settings_becomes_one(name):
    (found,) = [m for m, how in relatives(build(name).model) if how == LLAMA]
    assert type(found).__name__ == "LlamaForCausalLM"
    assert found.config.mlp_bias
    assert found.model.layers[0].mlp.down_proj.bias.abs().max() == 0


def test_a_window_that_ends_within_the_context_is_no_llamas():
    settings = config("mistral")
    ((none, why),) = [each for each in relatives(random(settings)) if each[1].startswith("Llama")]
    assert none is None
    assert why == f"{LLAMA}, which has no attention window of 8 tokens"
    settings.sliding_window = None
    assert any(m is not None and how == LLAMA for m, how in relatives(random(settings)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gpt2", "which has other norms"),
        ("qwen3", "which has other weights"),
        ("granite", "whose logits are others"),
    ],
)
def test_others_are_told_why_not(name, why):
    settings = copy.deepcopy(config(name))
    if name == "granite":
        settings.residual_multiplier = 0.5
    reasons = [how for model, how in relatives(random(settings)) if model is None]
    assert reasons == [f"{LLAMA}, {why}"]


def test_a_rotary_scale_that_only_far_positions_show_is_kept_or_refused():
    settings = config("qwen2")
    settings.rope_parameters = {
        "rope_type": "yarn",
        "factor": 4.0,
        "rope_theta": 1e4,
        "original_max_position_embeddings": 32,
    }
    model = random(settings)
    for other, how in relatives(model):
        if other is not None and how:
            torch.testing.assert_close(logits(other), logits(model), atol=1e-5, rtol=0)
