"""Layer profiles on a budget: what a profile gains, what it costs, and how long it may be.

Knows nothing of which profiles are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.anatomy.layer_strengths import STEP, Strengths
from workbench.contrast.pairs import Pairs
from workbench.text.tokens import Batch

# How near the budget (in logarithms) is near enough, and how many looks that may take.
_NEAR, _LOOKS = 0.01, 24


@dataclass(frozen=True)
class ProfileTask:
    """What is moved, what it must not cost, and how much it may."""

    strengths: Strengths
    pairs: Pairs
    texts: Batch
    kl: float

    def gains(self, table: Tensor) -> Tensor:
        """(P,) mean rise of the preference under profiles (P, L)."""
        with_none = torch.cat([torch.zeros(1, table.shape[1], dtype=table.dtype), table])
        means = self.strengths.preferences(self.pairs, with_none).mean(dim=1)
        return means[1:] - means[0]

    def slopes(self, at: Tensor, *, costs: bool = True) -> tuple[Tensor, Tensor]:
        """(L,) the slopes of mean preference and divergence at a profile, by central differences;
        those of the divergence 0 unless they are asked for."""
        steps = torch.eye(len(at), dtype=at.dtype) * STEP
        around = torch.cat([at + steps, at - steps])
        found = [self.strengths.preferences(self.pairs, around).mean(dim=1)]
        found.append(
            self.strengths.divergences(self.texts, around) if costs else torch.zeros(len(around))
        )
        slope, cost = ((each[: len(at)] - each[len(at) :]) / (2 * STEP) for each in found)
        return slope, cost.to(at.dtype)

    def at_budget(self, shapes: Tensor, fisher: Tensor | None) -> Tensor:
        """Profiles (P, L) of these shapes whose divergence is the budget, sought together: outwards
        or inwards until the budget is bracketed, then between the ends, by the line through them
        in logarithms and by halves in turn. Raises ValueError where there is none."""
        scale = torch.zeros(len(shapes), dtype=shapes.dtype)  # logarithms, as all here
        if fisher is not None:
            curve = torch.einsum("pi,ij,pj->p", shapes, fisher, shapes).clamp_min(1e-12)
            scale = (2 * self.kl / curve).log() / 2
        ends = torch.full((len(shapes), 2, 2), torch.nan, dtype=shapes.dtype)  # scale, off
        open_ = torch.arange(len(shapes))
        for look in range(_LOOKS):
            tried = scale[open_].exp()[:, None] * shapes[open_]
            off = (self.strengths.divergences(self.texts, tried).clamp_min(1e-12) / self.kl).log()
            ends[open_, (off > 0).long()] = torch.stack([scale[open_], off], dim=1)
            far = off.abs() > _NEAR
            open_, off = open_[far], off[far]
            if len(open_) == 0:
                return scale.exp()[:, None] * shapes
            (low, under), (high, over) = ends[open_, 0].T, ends[open_, 1].T
            share = torch.full_like(under, 0.5) if look % 3 == 2 else -under / (over - under)
            # While there is one end only, as if the divergence grew with the square.
            alone = scale[open_] - (off / 2).clamp(-1.5, 1.5)
            between = low + share * (high - low)
            scale[open_] = torch.where(between.isnan(), alone, between)
        raise ValueError(
            f"a divergence of {self.kl:g} nats per token is not found along the layer profile "
            f"{by_layer(self.strengths.layers, shapes[open_[0]])}: give another budget, or fewer "
            "layers"
        )


def by_layer(layers: Sequence[int], profile: Tensor) -> dict[int, float]:
    """Layer -> strength, without layers of none."""
    return {layer: each for layer, each in zip(layers, profile.tolist(), strict=True) if each}
