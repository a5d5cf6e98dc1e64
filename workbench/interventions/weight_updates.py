"""Updates that are changes of a weight: what they add depends on what their site reads.

    h' = h + m (x dW + db)

with x (…, I) the input of a linear map, h (…, D) its output, and m the coefficient. Placed on a
model's down-projection (site "mlp") this is that map with weight W + m dW and bias b + m db: the
"local weight" of arXiv 2602.02343 and, with dW = A B of low rank, LoRA (arXiv 2106.09685) without
its alpha / r. Matrices are (in, out), so that x stands on the left. Knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.interventions.updates import Origin


@dataclass(frozen=True, eq=False)
class AddLowRank:
    """h + m x A B, with A (I, r) and B (r, D).

    Raises ValueError for shapes that do not fit each other and values that are not finite.
    """

    a: Tensor
    b: Tensor
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[1] != self.b.shape[0]:
            raise ValueError(
                f"A has shape {tuple(self.a.shape)} and B {tuple(self.b.shape)}; give (I, r) and "
                "(r, D) with the same r"
            )
        _check_finite(A=self.a, B=self.b)

    @property
    def reads(self) -> int:
        return self.a.shape[0]

    @property
    def width(self) -> int:
        return self.b.shape[1]

    def matrix(self) -> Tensor:
        """dW = A B, (I, D)."""
        return self.a @ self.b

    def times(self, factor: float) -> AddLowRank:
        """The update whose change is `factor` times this one's."""
        return AddLowRank(self.a, factor * self.b, self.origin)

    def __call__(self, hidden: Tensor, scale: Tensor, read: Tensor) -> Tensor:
        inner = read @ self.a.to(read.device, read.dtype)  # (B, T, r)
        change = inner @ self.b.to(read.device, read.dtype)  # (B, T, D)
        return hidden + (scale * change).to(hidden.device, hidden.dtype)


@dataclass(frozen=True, eq=False)
class AddLinear:
    """h + m (x dW + db), with dW (I, D) and db (D,).

    Raises ValueError for shapes that do not fit each other and values that are not finite.
    """

    weight: Tensor
    bias: Tensor
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[1:]:
            raise ValueError(
                f"the weight has shape {tuple(self.weight.shape)} and the bias "
                f"{tuple(self.bias.shape)}; give (I, D) and (D,) with the same D"
            )
        _check_finite(weight=self.weight, bias=self.bias)

    @property
    def reads(self) -> int:
        return self.weight.shape[0]

    @property
    def width(self) -> int:
        return self.weight.shape[1]

    def matrix(self) -> Tensor:
        """dW, (I, D)."""
        return self.weight

    def times(self, factor: float) -> AddLinear:
        """The update whose change is `factor` times this one's."""
        return AddLinear(factor * self.weight, factor * self.bias, self.origin)

    def __call__(self, hidden: Tensor, scale: Tensor, read: Tensor) -> Tensor:
        change = read @ self.weight.to(read.device, read.dtype)  # (B, T, D)
        change = change + self.bias.to(read.device, read.dtype)
        return hidden + (scale * change).to(hidden.device, hidden.dtype)


def _check_finite(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"the {name} has values that are not finite numbers")
