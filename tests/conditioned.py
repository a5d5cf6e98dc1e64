"""Conditions that some prompts meet, and behaviours that show, on models of random weights."""

from __future__ import annotations

import torch
from architectures import SENTENCES

import workbench as wb
from workbench.conditions.condition import Condition, similarities
from workbench.conditions.conditional import ConditionalSteering, Response
from workbench.loading.models import LM
from workbench.text.positions import Positions, prompt

# Of many lengths, no two alike.
PROMPTS = [
    f"{start} {SENTENCES[index % len(SENTENCES)][: 12 + 5 * (index % 9)]}"
    for index, start in enumerate(("No,", "Then", "A", "They said:", "Why?", "Oh", "One", "It") * 8)
]


def random_vector(lm: LM, seed: int = 0) -> wb.SteeringVector:
    """A random direction at every layer."""
    made = torch.Generator().manual_seed(seed)
    return wb.SteeringVector(
        directions={at: torch.randn(lm.width, generator=made) for at in range(lm.layers)},
        residual_norm=dict.fromkeys(range(lm.layers), 5.0),
        layer=1,
        method="made up",
        model=lm.name,
        fingerprint=lm.fingerprint,
    )


def half_met(
    lm: LM,
    *,
    read: int = 1,
    steered: int = 1,
    quantile: float = 0.5,
    positions: Positions = prompt,
) -> ConditionalSteering:
    """ "if odd then push", met by that part of PROMPTS, half way between two of them."""
    seen = similarities(lm, PROMPTS, random_vector(lm), layers=[read], positions=positions)
    seen = seen[:, 0].sort().values
    place = round(quantile * (len(seen) - 1))
    middle = float((seen[place] + seen[min(place + 1, len(seen) - 1)]) / 2)
    condition = Condition.of(
        random_vector(lm), layers=[read], threshold=middle, positions=positions
    )
    push = random_vector(lm, 1).at(1.5, layers=[steered])
    return ConditionalSteering({"odd": condition}, {"push": push}, "if odd then push")


def written(response: Response) -> list[list[int]]:
    """The ids of each text."""
    made = response.generation
    return [row[:n].tolist() for row, n in zip(made.ids, made.lengths.tolist(), strict=True)]
