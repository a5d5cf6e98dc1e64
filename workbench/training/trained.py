"""Results of training: parameters as a vector, LoRA or local weight, and back; their losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd
from torch import Tensor

from workbench.forward.reading import residual_norms
from workbench.text.tokens import Batch
from workbench.training.fitting import COLUMNS, State
from workbench.training.trainable import Form, Parameters, layers_of, of_layer
from workbench.vectors.forms import LocalWeight, LoRA, WeightForm
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

Trained: TypeAlias = SteeringVector | LoRA | LocalWeight

_KINDS: Mapping[str, type[WeightForm]] = {"lora": LoRA, "local_weight": LocalWeight}


def make_result(
    lm: LM, form: Form, parameters: Parameters, method: str, texts: Batch, about: Mapping[str, Any]
) -> Trained:
    """The parameters as what they are: a vector gets the residual norms of `texts` beside them."""
    layers = layers_of(parameters)
    tensors = {layer: of_layer(parameters, layer) for layer in layers}
    if form.name == "vector":
        return SteeringVector(
            directions={layer: named["direction"] for layer, named in tensors.items()},
            residual_norm=residual_norms(lm, texts, layers),
            model=lm.name,
            fingerprint=lm.fingerprint,
            method=method,
            layer=layers[len(layers) // 2],
            provenance=about,
        )
    changes = {layer: form.update(**named) for layer, named in tensors.items()}
    kind: Any = _KINDS[form.name]
    return kind(changes, lm.name, lm.fingerprint, method, about)


def as_parameters(result: Trained, form: Form, layers: Sequence[int]) -> dict[str, Tensor]:
    """The parameters of a result at some layers, to begin from.

    Raises ValueError for a result of another form, and for a layer that it lacks.
    """
    kind = SteeringVector if form.name == "vector" else _KINDS[form.name]
    if not isinstance(result, kind):
        raise ValueError(f"start is {result!r}; to train a {form.name} give a {kind.__name__}")
    missing = [layer for layer in layers if layer not in result.layers]
    if missing:
        raise ValueError(f"start has nothing at layer {missing[0]}; it has {result.layers}")
    found: dict[str, Tensor] = {}
    for layer in layers:
        if isinstance(result, SteeringVector):
            found[f"{layer}.direction"] = result.directions[layer].clone()
        else:
            update = result.changes[layer]
            names = ("a", "b") if form.name == "lora" else ("weight", "bias")
            found |= {f"{layer}.{name}": getattr(update, name).clone() for name in names}
    return found


def history(state: State) -> dict[str, list[float | None]]:
    """The losses of a run by column, as JSON values."""
    return {
        name: [None if math.isnan(row[index]) else row[index] for row in state.history]
        for index, name in enumerate(COLUMNS)
    }


def loss_history(result: Trained) -> pd.DataFrame:
    """The losses of training, one row per step.

    step, epoch      counted from 0
    loss             the objective on the step's examples
    winning, losing  mean loss per token of the two sides, nats; NaN where the objective needs none
    gradient         norm before clipping
    learning_rate    of the step
    held_out         the objective on the held-out pairs after the step; NaN within an epoch

    Raises ValueError for a result that training did not make.
    """
    table = result.provenance.get("history")
    if not isinstance(table, Mapping):
        raise ValueError(f"{result!r} was not trained here: it has no history of losses")
    frame = pd.DataFrame({name: pd.Series(table[name], dtype=float) for name in COLUMNS})
    return frame.astype({"step": int, "epoch": int})
