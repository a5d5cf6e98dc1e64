"""Vectors without what they share with others."""

from __future__ import annotations

import pytest
import torch
from architectures import build
from conditioned import random_vector

from workbench.orthogonal import orthogonal_to


def test_nothing_of_the_others_is_left_and_nothing_else_is_taken() -> None:
    lm = build("llama")
    vector, one, two = (random_vector(lm, seed) for seed in range(1, 4))
    found = orthogonal_to(vector, [one, two, one * 3.0])
    for layer, direction in found.directions.items():
        spans = torch.stack([each.directions[layer] for each in (one, two)])
        torch.testing.assert_close(spans @ direction, torch.zeros(2), atol=1e-5, rtol=0)
        taken = vector.directions[layer] - direction
        assert torch.linalg.matrix_rank(torch.cat([spans, taken[None]]), atol=1e-4) == 2
    again = orthogonal_to(found, [two])
    for layer in found.layers:
        torch.testing.assert_close(again.directions[layer], found.directions[layer])


def test_what_leaves_nothing_is_refused() -> None:
    lm = build("llama")
    vector = random_vector(lm, 1)
    with pytest.raises(ValueError, match="others is empty"):
        orthogonal_to(vector, [])
    with pytest.raises(ValueError, match="nothing of it is left"):
        orthogonal_to(vector, [random_vector(lm, 2), vector * -2.0])
