"""Vectors without what they share with others."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from architectures import build
from conditioned import random_vector

from workbench.vectors.files import load, save
from workbench.vectors.orthogonal import orthogonal_to


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


@pytest.mark.parametrize("length", [1e-7, 1e7])
def test_the_lengths_of_the_others_do_not_matter(length: float) -> None:
    lm = build("llama")
    vector, one, two = (random_vector(lm, seed) for seed in range(1, 4))
    none = one - one
    found = orthogonal_to(vector, [one, two * length, none])
    for layer, direction in found.directions.items():
        for other in (one, two):
            unit = other.directions[layer] / other.directions[layer].norm()
            assert abs(float(unit @ direction)) < 1e-5 * float(direction.norm())


def test_what_was_taken_and_how_much_is_left_is_kept(tmp_path) -> None:
    """Left is the sine of the angle between the two, layer by layer."""
    lm = build("llama")
    vector, other = random_vector(lm, 1), random_vector(lm, 2)
    other = replace(other, provenance={"trait": "mood", "texts": ["b"]})
    vector = replace(vector, provenance={"seed": 7, "texts": ["a"]})
    save(orthogonal_to(vector, [other]), tmp_path / "v.safetensors")
    found = load(tmp_path / "v.safetensors")
    assert found.provenance["seed"] == 7
    assert found.texts == {"a", "b"}
    assert found.provenance["orthogonal_to"] == [
        {"method": other.method, "trait": "mood", "sha256": other.sha256}
    ]
    for layer, share in found.provenance["left"].items():
        one, two = (each.directions[int(layer)] for each in (vector, other))
        cosine = float(torch.cosine_similarity(one, two, dim=0))
        assert share == pytest.approx((1 - cosine**2) ** 0.5, abs=1e-6)
        length = found.norm(int(layer)) / vector.norm(int(layer))
        assert share == pytest.approx(length, abs=1e-6)


def test_little_left_is_said() -> None:
    lm = build("llama")
    one, two = random_vector(lm, 1), random_vector(lm, 2)
    with pytest.warns(UserWarning, match=r"0\.0\d+ of its length is left at layer"):
        orthogonal_to(one + two * 0.05, [one])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        orthogonal_to(one, [two])


def test_what_leaves_nothing_is_refused() -> None:
    lm = build("llama")
    vector = random_vector(lm, 1)
    with pytest.raises(ValueError, match="others is empty"):
        orthogonal_to(vector, [])
    with pytest.raises(ValueError, match="nothing of it is left"):
        orthogonal_to(vector, [random_vector(lm, 2), vector * -2.0])
    with pytest.raises(ValueError, match="made on different weights"):
        orthogonal_to(vector, [replace(vector, fingerprint="ab" * 32)])
