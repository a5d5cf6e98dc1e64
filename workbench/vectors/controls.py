"""Controls of a steered change: others of its shape and size that say nothing of its trait.

Of a vector: a Gaussian direction of its length. Of a weight: a Gaussian change of its Frobenius
norm, of a LoRA's two factors one whose product has its norm, so that it has the same rank. Equal
norms are not equal effects: what is trained lies along the activations that its layer reads, and
noise lies along few of them. Knows nothing of sweeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.support.checks import check_whole
from workbench.support.store import tensors_hash
from workbench.vectors.forms import WeightForm, tensors_of
from workbench.vectors.steerable import Steerable
from workbench.vectors.steering_vector import SteeringVector

Steered = TypeVar("Steered", bound=Steerable)


def random_like(steered: Steered, seed: int, *, draw: int = 0) -> Steered:
    """A control: a Gaussian change of the same shape, size and layers, without the trait.

    The noise is keyed by the change itself, the seed and the draw: changes for different traits
    have different controls, and draws 0, 1, 2, … of one are independent.
    Raises ValueError for a seed or a draw that is not a whole number of at least 0, and for what is
    neither a vector nor a change of weights.
    """
    seed, draw = check_whole("seed", seed, 0), check_whole("draw", draw, 0)
    content = tensors_hash(_tensors(steered))
    noise = np.random.default_rng([int(content[:16], 16), seed, draw])
    title = steered.provenance.get("trait") or steered.provenance.get("pairs") or steered.method
    provenance = {
        **steered.provenance,
        "trait": f"random control for {title}",
        "random_seed": seed,
        "random_draw": draw,
        "layer_choice": "as the vector that it stands beside",
    }
    made: Any = steered
    if isinstance(steered, SteeringVector):
        drawn = {k: _gaussian(v, noise) for k, v in steered.directions.items()}
        made = replace(steered, directions=drawn, separation=None)
    else:
        drawn = {layer: _random_change(change, noise) for layer, change in made.changes.items()}
        made = replace(made, changes=drawn)
    return replace(made, method="random", provenance=provenance)


def as_strong_as(
    steered: Steerable, control: Steerable, name: str, layers: Sequence[int] | None = None
) -> Steerable:
    """A control with the size of what it stands beside, and its residual norm, at every steered
    layer (by default those that `steered` acts at unless told).

    name  of the control, for messages
    Raises ValueError for a control of another kind or width, without a layer, or of size 0.
    """
    if type(control) is not type(steered):
        raise ValueError(
            f"the control {name!r} is a {type(control).__name__}, what is swept a "
            f"{type(steered).__name__}: their sizes cannot be compared; give one of its kind, such "
            "as random_like(…, seed)"
        )
    if control.width != steered.width:
        raise ValueError(
            f"the control {name!r} is {control.width} wide, what it stands beside {steered.width}"
        )
    factors = {}
    for layer in steered.default_layers if layers is None else layers:
        if layer not in control.layers or layer not in steered.layers:
            raise ValueError(
                f"the control {name!r} or what it stands beside has nothing at layer {layer!r}"
            )
        size = control.norm(layer)
        if size == 0:
            raise ValueError(f"the control {name!r} has size 0 at layer {layer}")
        factors[layer] = steered.norm(layer) / size
    return control.scaled(factors, steered.residual_norm)


def _tensors(steered: Steerable) -> dict[str, Tensor]:
    """What a change is made of, by name."""
    if isinstance(steered, SteeringVector):
        return {str(layer): direction for layer, direction in steered.directions.items()}
    if isinstance(steered, WeightForm):
        return steered.tensors()
    raise ValueError(
        f"{steered!r} is neither a steering vector nor a LoRA or local weight: no random control "
        "can be made of it; give one by name"
    )


def _random_change(change: AddLowRank | AddLinear, noise: np.random.Generator) -> Any:
    """Gaussian tensors of the same norms; of factors, so that their product has the same too."""
    made = replace(change, **{k: _gaussian(v, noise) for k, v in tensors_of(change).items()})
    own = float(made.matrix().norm())
    if isinstance(change, AddLinear) or own == 0:
        return made
    return made.times(float(change.matrix().norm()) / own)


def _gaussian(like: Tensor, noise: np.random.Generator) -> Tensor:
    gaussian = torch.from_numpy(noise.standard_normal(tuple(like.shape))).float()
    return gaussian * (like.norm() / gaussian.norm())
