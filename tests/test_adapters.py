"""A LoRA as a PEFT adapter: what is written, and that plain peft computes the same with it."""

import copy
import json

import architectures
import pytest
import torch
from safetensors.torch import load_file
from test_forms import COMPLETIONS, PROMPTS, make

from workbench.forward.streams import model_inputs
from workbench.interventions.weight_updates import AddLowRank
from workbench.text.tokens import encode
from workbench.vectors.adapters import save_peft
from workbench.vectors.forms import LoRA


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma2"])
def test_the_written_matrices_are_the_change(name, tmp_path):
    lm = architectures.build(name)
    lora = make(lm, "lora", (0, 2))
    save_peft(lora, lm, tmp_path, coefficient=0.5)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert config["lora_alpha"] == config["r"] == 4
    assert len(tensors) == 4
    for layer, path in zip(lora.layers, config["target_modules"], strict=True):
        module = lm.model.get_submodule(path)
        a, b = (tensors[f"base_model.model.{path}.lora_{side}.weight"] for side in "AB")
        weight = module.weight.T if config["fan_in_fan_out"] else module.weight
        assert (b @ a).shape == weight.shape
        torch.testing.assert_close((b @ a).T, 0.5 * lora.delta(layer)[0])


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma2", "olmo2"])
def test_plain_peft_gives_equal_logits(name, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    lm = architectures.build(name)
    lora = make(lm, "lora", (0, 2))
    save_peft(lora, lm, tmp_path, coefficient=-1.5)
    batch = encode(lm, PROMPTS, COMPLETIONS)
    plain = peft.PeftModel.from_pretrained(copy.deepcopy(lm.model), str(tmp_path)).eval()
    with torch.no_grad():
        found = plain(**model_inputs(lm.model, batch)).logits
    expected = architectures.steered_logits(lm, batch, lora.at(-1.5))
    assert (found - expected)[batch.attention].abs().max() < 2e-5
    unsteered = architectures.steered_logits(lm, batch)
    assert (found - unsteered)[batch.attention].abs().max() > 0.1


def test_what_peft_cannot_hold_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="is no LoRA"):
        save_peft(make(tiny, "local_weight"), tiny, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="coefficient nan is not a finite number"):
        save_peft(make(tiny, "lora"), tiny, tmp_path, coefficient=float("nan"))
    with pytest.raises(ValueError, match="was made on"):
        save_peft(make(tiny, "lora"), architectures.build("llama", seed=5), tmp_path)
    ranks = {
        layer: AddLowRank(torch.ones(64, r), torch.ones(r, 32)) for layer, r in ((0, 1), (1, 2))
    }
    with pytest.raises(ValueError, match=r"different ranks, \{0: 1, 1: 2\}"):
        save_peft(LoRA(ranks, tiny.name, "", "hand"), tiny, tmp_path)
    assert not any(tmp_path.iterdir())
