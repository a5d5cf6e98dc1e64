"""How much an activation resembles a direction: pure tensor maths, in float64.

    cosine      h·c / |h| |c|
    projection  h·c / |c|, in the units of the stream
    probe       h·c + b, the log-odds of a logistic probe with weights c and bias b
    unsigned    cos(h, tanh(P h)), P = c c' / c·c: what the library of conditional activation
                steering computes; never negative, close to |cos(h, c)| for small projections

Lee et al. 2024, https://arxiv.org/abs/2409.05907. Knows nothing of layers or texts.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Similarity: TypeAlias = Literal["cosine", "projection", "probe", "unsigned"]
SIMILARITIES: tuple[Similarity, ...] = ("cosine", "projection", "probe", "unsigned")


def similarity(kind: Similarity, hidden: Tensor, direction: Tensor, bias: float = 0.0) -> Tensor:
    """(…,) float64, of activations (…, D) with a direction (D,). `bias` belongs to a probe alone.

    A stream of length 0 resembles nothing: 0. Raises ValueError for another kind.
    """
    hidden, direction = hidden.double(), direction.to(hidden.device).double()
    along = hidden @ direction
    length = direction.norm()
    if kind == "probe":
        return along + bias
    if kind == "projection":
        return along / length
    if kind == "cosine":
        return _cosine(along, hidden.norm(dim=-1) * length)
    if kind == "unsigned":
        shown = torch.tanh((along / length**2)[..., None] * direction)
        return _cosine((hidden * shown).sum(-1), hidden.norm(dim=-1) * shown.norm(dim=-1))
    raise ValueError(f"similarity {kind!r} is unknown; choose one of {', '.join(SIMILARITIES)}")


def _cosine(product: Tensor, lengths: Tensor) -> Tensor:
    # A stream of length 0 resembles nothing; one that is no number stays none.
    return torch.where(lengths == 0, torch.zeros_like(product), product / lengths)
