"""A vector without what it shares with others.

At every layer v' = v - Q Q'v, with Q an orthonormal basis of what the others span there. Knows
nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from workbench.vectors import SteeringVector


def orthogonal_to(vector: SteeringVector, others: Sequence[SteeringVector]) -> SteeringVector:
    """The vector, at right angles to all others at each layer where they have a direction.

    It keeps its length less what is taken out; its separation is not known any more. Raises
    ValueError for no others, another width, and a layer where nothing is left.
    """
    if len(others) == 0:
        raise ValueError("others is empty; give at least one vector to be orthogonal to")
    wide = [other.width for other in others if other.width != vector.width]
    if wide:
        raise ValueError(f"the vector is {vector.width} wide, another is {wide[0]} wide")
    directions = {}
    for layer, direction in vector.directions.items():
        spans = [o.directions[layer].double() for o in others if layer in o.directions]
        left = direction.double()
        if spans:
            # Others may say the same, but for the rounding of float32.
            basis, sizes, _ = torch.linalg.svd(torch.stack(spans, dim=1), full_matrices=False)
            basis = basis[:, sizes > 1e-5 * sizes.max()]
            left = left - basis @ (basis.T @ left)
        if not left.norm() > 1e-6 * direction.norm():
            raise ValueError(f"at layer {layer} the others span the vector: nothing of it is left")
        directions[layer] = left.float()
    return replace(
        vector,
        directions=directions,
        method=f"{vector.method}, orthogonal to {len(others)}",
        separation=None,
    )
