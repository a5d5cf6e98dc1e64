"""Random LoRAs and local weights, and models whose weights are changed by them in truth."""

import copy
import math

import torch
from torch import nn

from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.loading.models import LM, load
from workbench.vectors.forms import LocalWeight, LoRA, WeightForm


def make(lm: LM, form: str, layers=(1,), seed: int = 0) -> WeightForm:
    """A random change of about the size of the weight itself."""
    noise = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=noise) / math.sqrt(shape[0])

    def change(layer: int):
        into = lm.inner_width(layer)
        if form == "lora":
            return AddLowRank(draw(into, 4), draw(4, lm.width))
        return AddLinear(draw(into, lm.width), draw(lm.width))

    kind = LoRA if form == "lora" else LocalWeight
    return kind({layer: change(layer) for layer in layers}, lm.name, lm.fingerprint, "random")


def edited(lm: LM, form: WeightForm, coefficient: float) -> LM:
    """A copy of the model whose weights and biases are changed in truth."""
    model = copy.deepcopy(lm.model)
    for layer in form.layers:
        path = f"{lm.layer_path}.{layer}.{lm.projection_name(layer)}"
        module = model.get_submodule(path)
        weight, bias = form.delta(layer)
        with torch.no_grad():
            # Conv1D (GPT-2) keeps its matrix as (in, out).
            turned = weight.T if isinstance(module, nn.Linear) else weight
            module.weight += coefficient * turned
            if bias is not None and module.bias is None:
                module.bias = nn.Parameter(coefficient * bias)
            elif bias is not None:
                module.bias += coefficient * bias
    return load(model, tokenizer=lm.tokenizer)
