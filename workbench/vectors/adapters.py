"""A trained LoRA as a PEFT adapter, that plain peft loads onto the plain model.

peft computes x + (alpha / r) B A x with A (r, I) and B (D, r): alpha is r here, the matrices are
turned, and the coefficient, which peft does not know, is multiplied in. Written without peft.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
from torch import Tensor

from workbench.support.checks import number
from workbench.support.store import write_atomically
from workbench.vectors.forms import LoRA

if TYPE_CHECKING:
    from workbench.loading.models import LM


def save_peft(
    lora: LoRA, lm: LM, directory: str | os.PathLike[str], *, coefficient: float = 1.0
) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into a directory.

    `PeftModel.from_pretrained(model, directory)` is then the model under
    `lora.at(coefficient)`. The model says what its down-projections are called.

    Raises ValueError for a LoRA that does not fit the model, a coefficient that is not a finite
    number, and ranks that differ between layers, and OSError (a full disk, say).
    """
    if not isinstance(lora, LoRA):
        raise ValueError(f"{lora!r} is no LoRA; peft has no adapter for other forms")
    if not abs(number(coefficient)) < float("inf"):
        raise ValueError(f"the coefficient {coefficient!r} is not a finite number")
    lora.check(lm)
    ranks = {layer: change.a.shape[1] for layer, change in lora.changes.items()}
    if len(set(ranks.values())) > 1:
        raise ValueError(f"the layers have different ranks, {ranks}; export them one by one")
    names = {layer: f"{lm.layer_path}.{layer}.{lm.projection_name(layer)}" for layer in ranks}
    tensors: dict[str, Tensor] = {}
    for layer, name in names.items():
        change = lora.changes[layer]
        tensors[f"base_model.model.{name}.lora_A.weight"] = change.a.T.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = (coefficient * change.b.T).contiguous()
    modules = [lm.model.get_submodule(name) for name in names.values()]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": lm.name,
        "r": lora.rank,
        "lora_alpha": lora.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        # GPT-2's Conv1D keeps its matrix as (in, out).
        "fan_in_fan_out": type(modules[0]).__name__ == "Conv1D",
        "inference_mode": True,
        "target_modules": list(names.values()),
    }
    folder = Path(directory)
    metadata = {"format": "pt"}
    write_atomically(
        folder / "adapter_model.safetensors", safetensors.torch.save(tensors, metadata)
    )
    write_atomically(folder / "adapter_config.json", json.dumps(config, indent=1).encode())
