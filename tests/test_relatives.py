"""Relatives compute the same, share the weights, and are refused where they do not."""

import copy

import pytest
import torch
from architectures import NAMES, build, config
from transformers import AutoModelForCausalLM

import workbench.keeping.relatives as module
from workbench.keeping.relatives import relatives, twin

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


KINDS = ["full_attention", "sliding_attention", "sliding_attention"]


@pytest.mark.parametrize("kinds", [None, KINDS])
@pytest.mark.parametrize("window", [8, 20])
def test_windows_are_kept_where_a_family_has_them(kinds, window):
    settings = config("qwen2" if kinds else "mistral")
    settings.sliding_window = window
    if kinds:
        settings.layer_types, settings.use_sliding_window = kinds, True
    model = random(settings)
    found = {how: other for other, how in relatives(model)}
    assert found[f"{LLAMA}, which has no attention window of {window} tokens"] is None
    other = found["SmolLM3ForCausalLM with mlp_bias=True"]
    torch.testing.assert_close(logits(other), logits(model), atol=1e-5, rtol=0)
    settings = copy.deepcopy(settings)
    settings.sliding_window = None
    if kinds:
        settings.layer_types = ["full_attention"] * 3
    whole = random(settings)
    assert not torch.allclose(logits(whole), logits(model), atol=1e-3)  # it matters
    assert any(m is not None and how == LLAMA for m, how in relatives(whole))


def test_a_wider_window_than_the_check_is_long_is_compared_too():
    """A family that lost the window would pass on short texts."""
    settings = config("mistral")
    settings.sliding_window = 100  # of 128
    lost = module._Family("SmolLM3", True, lambda given: {"no_rope_layers": [1, 1, 1]})
    made, why = module._as(random(settings), lost)
    assert made is None
    assert why.endswith("whose logits are others")


def test_normed_queries_have_a_family_of_their_own():
    found = [how for m, how in relatives(build("qwen3").model) if m is not None]
    assert found[-1] == "HYV3ForCausalLM with mlp_bias=True"


LATER = tuple(f"{family}ForCausalLM with mlp_bias=True" for family in ("SmolLM3", "HYV3"))


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("gpt2", ["families of the Llama kind, which have other norms"]),
        ("olmo2", [f"{each}, which has other weights" for each in (LLAMA, *LATER)]),
        (
            "gemma3",
            [
                f"{LLAMA}, which has no attention window of 8 tokens",
                f"{LATER[0]}, which takes other settings",
                f"{LATER[1]}, which has no attention window of 8 tokens",
            ],
        ),
        (
            "granite",
            [
                f"{LLAMA}, whose logits are others",
                f"{LATER[0]}, whose logits are others",
                f"{LATER[1]}, which has other weights",
            ],
        ),
    ],
)
def test_others_are_told_why_not(name, reasons):
    settings = copy.deepcopy(config(name))
    if name == "granite":
        settings.residual_multiplier = 0.5
    assert [how for model, how in relatives(random(settings)) if model is None] == reasons


def test_a_rotary_scale_that_only_far_positions_show_is_kept():
    settings = config("qwen2")
    settings.rope_parameters = {
        "rope_type": "yarn",
        "factor": 4.0,
        "rope_theta": 1e4,
        "original_max_position_embeddings": 32,
    }
    model = random(settings)
    kept = [other for other, how in relatives(model) if other is not None and how]
    assert kept
    for other in kept:
        torch.testing.assert_close(logits(other), logits(model), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("scale", "same"), [(1.0, True), (0.998, False)])
def test_half_precision_hides_no_difference(scale, same):
    """Logits that are half a per cent off are another model's, in bfloat16 too."""
    settings = config("granite")
    settings.residual_multiplier, settings.attention_multiplier = scale, 8**-0.5
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    found = {how: other for other, how in relatives(model)}
    assert (found.get(LLAMA) is not None) == same
    assert (f"{LLAMA}, whose logits are others" in found) != same
    assert all(m is None or m.dtype == torch.bfloat16 for m in found.values())
