"""The bias that a constant fits into, told by moving it."""

import copy

import pytest
import torch
import transformers
from architectures import build, config, tokenizer
from transformers import AutoModelForCausalLM

from workbench.keeping.biases import find_room
from workbench.loading.layers import find_layers


def made(settings) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(settings).eval()
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.1 * torch.randn_like(each))
    return model


def room(model, layer=1):
    return find_room(model, find_layers(model), layer)


@pytest.mark.parametrize(
    ("name", "bias"),
    [
        ("gpt2", "transformer.h.1.mlp.c_proj.bias"),
        ("opt", "model.decoder.layers.1.fc2.bias"),
        ("bloom", "transformer.h.1.mlp.dense_4h_to_h.bias"),
        ("gpt_neox", "gpt_neox.layers.1.mlp.dense_4h_to_h.bias"),
    ],
)
def test_usually_it_is_the_down_projections(name, bias):
    found = room(build(name).model)
    assert found is not None
    assert (found.name, found.scale) == (bias, 1.0)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "olmo2", "stablelm", "mixtral"])
def test_where_nothing_reaches_the_stream_unchanged_there_is_none(name):
    """StableLM's and Qwen2's biases are read by other parts; so is a Llama's attention bias."""
    assert room(build(name).model) is None
    settings = config("llama")
    settings.attention_bias = True
    assert room(made(settings)) is None


def test_behind_a_norm_it_is_the_norms():
    settings = config("opt")
    settings.do_layer_norm_before = False
    found = room(made(settings))
    assert found is not None
    assert found.name == "model.decoder.layers.1.final_layer_norm.bias"


def test_a_scaled_block_says_by_how_much():
    settings = config("granite")
    settings.mlp_bias, settings.residual_multiplier = True, 0.22
    found = room(made(settings))
    assert found is not None
    assert found.name == "model.layers.1.mlp.down_proj.bias"
    assert found.scale == pytest.approx(0.22, rel=1e-4)


def test_experts_whose_shares_sum_to_one_take_it_together():
    words = tokenizer()
    settings = transformers.GptOssConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        vocab_size=len(words),
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
    )
    found = room(made(settings), 0)
    assert found is not None
    assert found.name == "model.layers.0.mlp.experts.down_proj_bias"


def test_looking_changes_nothing(tiny):
    model = build("gpt2").model
    before = copy.deepcopy(model.state_dict())
    room(model)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
