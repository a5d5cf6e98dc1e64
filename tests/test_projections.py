"""The output projection of attention: found by structure, read and steered at its input."""

from __future__ import annotations

import pytest
import torch
from architectures import MIXTURES_OF_EXPERTS, NAMES, SENTENCES, build, steered_logits

from workbench.forward import tracing
from workbench.interventions.updates import SITES, Add, Intervention
from workbench.interventions.weight_updates import AddLinear
from workbench.text.positions import everything
from workbench.text.tokens import encode

KNOWN = {
    "llama": "self_attn.o_proj",
    "gpt2": "attn.c_proj",
    "gpt_neox": "attention.dense",
    "gptj": "attn.out_proj",
    "opt": "self_attn.out_proj",
    "bloom": "self_attention.dense",
    "falcon": "self_attention.dense",
    "phi": "self_attn.dense",
    "mpt": "attn.out_proj",
    "gemma2": "self_attn.o_proj",
    "mixtral": "self_attn.o_proj",
    "qwen3_moe": "self_attn.o_proj",
}


def test_it_is_found_in_every_architecture() -> None:
    names = {name: build(name).attention_name(1) for name in NAMES}
    assert {name: names[name] for name in KNOWN} == KNOWN
    assert set(names.values()) <= {*KNOWN.values(), "self_attn.o_proj"}


def test_what_writes_to_the_stream_is_the_norm_that_follows_where_there_is_one() -> None:
    for name in NAMES:
        lm = build(name)
        path, attention = f"{lm.layer_path}.1", lm.attention_name(1)
        written, expected = lm.attention_write(1), f"{path}.{attention}"
        if name in ("gemma2", "gemma3", "olmo2"):
            expected = f"{path}.post_attention_layernorm"
            norm = lm.model.get_submodule(f"{path}.post_feedforward_layernorm")
            assert lm.mlp_write(1)._module is norm
        elif name not in MIXTURES_OF_EXPERTS:
            assert lm.mlp_write(1)._module is lm.down_projection(1)._module
        assert written._module is lm.model.get_submodule(expected)
    with pytest.raises(ValueError, match="no single MLP down-projection"):
        build("mixtral").mlp_write(1)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_added_to_its_input_is_added_through_its_weights(name: str) -> None:
    """Beside it, by a plain hook on the module itself."""
    lm = build(name)
    batch = encode(lm, list(SENTENCES[:3]))
    torch.manual_seed(0)
    delta = torch.randn(lm.heads_width(1))
    each = Intervention(1, Add(delta), 0.7, everything, "heads")
    found = steered_logits(lm, batch, [each])[batch.attention]
    module = lm.model.get_submodule(f"{lm.layer_path}.1.{lm.attention_name(1)}")
    hook = module.register_forward_pre_hook(lambda _, given: (given[0] + 0.7 * delta, *given[1:]))
    try:
        expected = steered_logits(lm, batch, [])[batch.attention]
    finally:
        hook.remove()
    assert (steered_logits(lm, batch, [])[batch.attention] - expected).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
def test_it_is_read_where_the_module_reads(name: str) -> None:
    lm = build(name)
    batch = encode(lm, list(SENTENCES[:2]))
    seen = []
    module = lm.model.get_submodule(f"{lm.layer_path}.2.{lm.attention_name(2)}")
    hook = module.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    try:
        found = tracing.activations(lm, batch, [2], everything, site="heads").values
    finally:
        hook.remove()
    expected = seen[-1].view(*batch.ids.shape, -1)[batch.attention]
    torch.testing.assert_close(found[:, 0], expected)


def test_another_width_is_refused() -> None:
    lm = build("llama")
    batch = encode(lm, ["a text"])
    wide = Intervention(0, Add(torch.ones(lm.heads_width(0) + 1)), site="heads")
    with pytest.raises(ValueError, match=r"the attention output of layer 0 of .* has width"):
        steered_logits(lm, batch, [wide])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_added_to_its_output_is_added_by_a_hook(name: str) -> None:
    lm = build(name)
    batch = encode(lm, list(SENTENCES[:3]))
    delta = torch.randn(lm.width)
    found = steered_logits(lm, batch, [Intervention(1, Add(delta), 0.7, site="attention")])
    module = lm.model.get_submodule(f"{lm.layer_path}.1.{lm.attention_name(1)}")
    hook = module.register_forward_hook(lambda _, _given, output: output + 0.7 * delta)
    try:
        expected = steered_logits(lm, batch, [])
    finally:
        hook.remove()
    own = batch.attention
    assert (steered_logits(lm, batch, [])[own] - expected[own]).abs().max() > 1e-3
    torch.testing.assert_close(found[own], expected[own], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("remote", [False, "local"])
def test_all_sites_of_a_block_in_one_forward(remote: tracing.Remote) -> None:
    """Input and output of one projection are two sites; each is read as the former left it."""
    lm = build("llama")
    batch = encode(lm, list(SENTENCES[:2]))
    delta = torch.randn(lm.width)
    edits = [Intervention(1, Add(delta), 1.0, everything, site) for site in SITES[::-1]]
    read = {
        site: tracing.activations(
            lm, batch, [1], everything, site=site, interventions=edits, remote=remote
        ).values
        for site in ("heads", "attention", "attention_write")
    }
    weight = lm.model.get_submodule(f"{lm.layer_path}.1.{lm.attention_name(1)}").weight
    expected = read["heads"] @ weight.detach().T + delta
    torch.testing.assert_close(read["attention"], expected)
    # No norm follows: the write is the output, steered once more.
    torch.testing.assert_close(read["attention_write"], expected + delta)


def test_an_update_of_the_output_may_read_the_input() -> None:
    """A change of the projection's own weights."""
    lm = build("gpt2")
    batch = encode(lm, list(SENTENCES[:2]))
    change = torch.randn(lm.heads_width(1), lm.width)
    edit = Intervention(1, AddLinear(change, torch.zeros(lm.width)), 0.5, site="attention")
    found = steered_logits(lm, batch, [edit])
    weight = lm.model.get_submodule(f"{lm.layer_path}.1.{lm.attention_name(1)}").weight
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight += 0.5 * change  # GPT-2 keeps them (I, D)
        expected = steered_logits(lm, batch, [])
    finally:
        with torch.no_grad():
            weight.copy_(before)
    own = batch.attention
    torch.testing.assert_close(found[own], expected[own], atol=1e-4, rtol=1e-4)


def test_a_changed_weight_of_another_width_is_refused() -> None:
    lm = build("llama")
    wide = AddLinear(torch.ones(5, lm.width), torch.zeros(lm.width))
    with pytest.raises(ValueError, match="reads a width of 5, the attention's output projection"):
        steered_logits(lm, encode(lm, ["a text"]), [Intervention(0, wide, site="attention")])
