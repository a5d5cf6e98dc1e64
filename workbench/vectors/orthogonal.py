"""A vector without what it shares with others.

At every layer v' = v - Q Q'v, with Q an orthonormal basis of what the others span there. Knows
nothing of models: what takes a direction out of weights is in orthogonalise.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workbench.vectors.steering_vector import SteeringVector

# The share of its length with which a vector is called little left: it is then much like the
# others, and what is left of it may be the noise of its estimate.
_LITTLE = 0.2
# Of two directions of length 1, the angle below which they say the same but for rounding.
_SAME = 1e-5


def orthogonal_to(vector: SteeringVector, others: Sequence[SteeringVector]) -> SteeringVector:
    """The vector, at right angles to all others at each layer where they have a direction.

    It keeps its length less what is taken out, which is what unit "raw" adds; in unit "norm" `at`
    makes any vector a residual norm long, however little is left of it. The others' lengths do not
    matter. Its separation is not known any more.

    `provenance` gains orthogonal_to, a list of the others' method, trait and sha256, and left, the
    share of its length that is left by layer. Warns where that is below 0.2. Raises ValueError for
    no others, one of another width or other weights, and a layer where nothing is left.
    """
    if len(others) == 0:
        raise ValueError("others is empty; give at least one vector to be orthogonal to")
    for other in others:
        vector.check_same_stream(other)
    directions, left = {}, {}
    for layer, direction in vector.directions.items():
        spans = [o.directions[layer] for o in others if layer in o.directions]
        rest = _without(direction.double(), [each.double() for each in spans if each.any()])
        length = float(direction.norm())
        left[layer] = float(rest.norm()) / length if length else 0.0
        if not left[layer] > 1e-6:
            raise ValueError(f"at layer {layer} the others span the vector: nothing of it is left")
        directions[layer] = rest.float()
    low = min(left, key=lambda layer: left[layer])
    if left[low] < _LITTLE:
        warnings.warn(
            f"the others take most of the vector: {left[low]:.2g} of its length is left at layer "
            f"{low}, which unit 'norm' makes a whole residual norm again; use unit='raw', or steer "
            "another layer (provenance['left'])",
            stacklevel=2,
        )
    texts = sorted(vector.texts.union(*(other.texts for other in others)))
    held_out = sorted(vector.held_out_texts.union(*(other.held_out_texts for other in others)))
    return replace(
        vector,
        directions=directions,
        method=f"{vector.method}, orthogonal to {len(others)}",
        separation=None,
        provenance={
            **vector.provenance,
            "texts": texts,
            "held_out_texts": held_out,
            "orthogonal_to": [_named(other) for other in others],
            "left": {str(layer): share for layer, share in left.items()},
        },
    )


def _without(direction: Tensor, spans: Sequence[Tensor]) -> Tensor:
    """A direction (D,) without its part in what others of any length but 0 span, float64."""
    if not spans:
        return direction
    units = torch.stack([each / each.norm() for each in spans], dim=1)
    # Others may say the same, but for the rounding of float32.
    basis, sizes, _ = torch.linalg.svd(units, full_matrices=False)
    basis = basis[:, sizes > _SAME * sizes.max()]
    return direction - basis @ (basis.T @ direction)


def _named(vector: SteeringVector) -> dict[str, Any]:
    trait = vector.provenance.get("trait") or vector.provenance.get("pairs")
    return {"method": vector.method, "trait": trait, "sha256": vector.sha256}
