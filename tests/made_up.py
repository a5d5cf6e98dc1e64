"""A vector that nobody extracted, for tests that need one and not what it does."""

import torch

import workbench as wb
from workbench.loading.models import LM


def made_up(lm: LM, **provenance: str) -> wb.SteeringVector:
    """A random direction at layer 1."""
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(0))
    return wb.SteeringVector(
        directions={1: direction},
        residual_norm={1: 30.0},
        layer=1,
        method="made up",
        model=lm.name,
        fingerprint=lm.fingerprint,
        provenance=provenance,
    )
