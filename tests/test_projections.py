"""The output projection of attention: found by structure, read and steered at its input."""

from __future__ import annotations

import pytest
import torch
from architectures import NAMES, SENTENCES, build, steered_logits

from workbench import tracing
from workbench.positions import everything
from workbench.tokens import encode
from workbench.updates import Add, Intervention

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
