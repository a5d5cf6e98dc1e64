"""Steering vectors: what they add and how they add up."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.interventions.updates import Origin
from workbench.text.positions import everything, last
from workbench.vectors.controls import random_like
from workbench.vectors.steering_vector import SteeringVector


def vector(**changes) -> SteeringVector:
    fields = {
        "directions": {0: torch.tensor([3.0, 4.0]), 2: torch.tensor([0.0, 1.0])},
        "residual_norm": {0: 10.0, 2: 1 / 3},
        "model": "tiny",
        "fingerprint": "f" * 64,
        "method": "mean_difference",
        "layer": 2,
        "separation": pd.DataFrame({"layer": [0, 2], "d_prime": [0.1, math.inf]}),
        "provenance": {"trait": "mood", "texts": ["b", "a"], "seed": 0},
    }
    return SteeringVector(**{**fields, **changes})


def model(**changes):
    about = {"width": 2, "layers": 3, "name": "other", "fingerprint": "f" * 64, **changes}

    def check_origin(origin):
        origin.check(about["name"], about["fingerprint"])

    return SimpleNamespace(in_memory=True, check_origin=check_origin, **about)


def test_at_scales_by_the_residual_norm():
    (only,) = vector().at(0.5)
    assert (only.layer, only.coefficient, only.positions) == (2, 0.5, everything)
    assert torch.equal(only.update.direction, torch.tensor([0.0, torch.tensor(1 / 3)]))
    first, second = vector().at(-1.0, layers=(0, 2), positions=last)
    assert torch.allclose(first.update.direction, torch.tensor([6.0, 8.0]))
    assert second.positions is last
    (raw,) = vector().at(2.0, layers=[0], unit="raw")
    assert torch.equal(raw.update.direction, torch.tensor([3.0, 4.0]))


def test_arithmetic_layer_by_layer():
    left = vector()
    right = vector(directions={1: torch.tensor([1.0, 1.0]), 2: torch.tensor([1.0, 0.0])}, layer=1)
    both = left + right
    assert both.layers == (0, 1, 2)
    assert both.layer == 2
    assert torch.equal(both.directions[2], torch.tensor([1.0, 1.0]))
    assert torch.equal((left - right).directions[1], torch.tensor([-1.0, -1.0]))
    assert torch.equal((2 * left / 4).directions[0], torch.tensor([1.5, 2.0]))
    assert torch.equal((-left).directions[0], torch.tensor([-3.0, -4.0]))
    assert both.texts == {"a", "b"}
    assert both.separation is None
    assert (-left).separation is None


def test_sums_keep_every_text_that_a_split_must_see():
    left = vector(provenance={"texts": ["a"], "held_out_texts": ["x", "y"]})
    right = vector(provenance={"texts": ["b"], "held_out_texts": ["y", "z"]})
    for both in (left + right, left - right, (left + right) * 2.0 + vector(provenance={})):
        assert both.texts == {"a", "b"}
        assert both.held_out_texts == {"x", "y", "z"}
        assert both.provenance["held_out_texts"] == ["x", "y", "z"]


def test_what_it_adds_knows_the_model_that_made_it():
    for only in vector().at(1.0, layers=(0, 2)):
        assert only.update.origin == Origin("tiny", "f" * 64)
    assert vector(fingerprint="").at(1.0)[0].update.origin is None


def test_random_controls_differ_by_vector_seed_and_draw():
    def first(of, seed, **draw):
        direction = random_like(of, seed, **draw).directions[0]
        return direction / direction.norm()

    other = vector(directions={0: torch.tensor([4.0, 3.0]), 2: torch.tensor([0.0, 1.0])})
    found = [
        first(vector(), 1),
        first(vector(), 2),
        first(vector(), 1, draw=1),
        first(vector(), 2, draw=1),
        first(other, 1),
        first(other, 1, draw=1),
    ]
    for index, one in enumerate(found):
        assert not any(torch.allclose(one, two) for two in found[:index])
    assert torch.equal(first(vector(), 1), first(vector(), 1, draw=0))
    control = random_like(vector(), 1, draw=2)
    assert (control.provenance["random_seed"], control.provenance["random_draw"]) == (1, 2)
    for bad in ({"seed": -1}, {"seed": 0.5}, {"seed": 0, "draw": -3}):
        with pytest.raises(ValueError, match="give a whole number of at least 0"):
            random_like(vector(), **bad)


def test_norm_and_random_control():
    control = random_like(vector(), seed=1)
    assert vector().norm(0) == 5.0
    assert control.norm(0) == pytest.approx(5.0, rel=1e-6)
    assert control.norm() == pytest.approx(1.0, rel=1e-6)
    assert not torch.allclose(control.directions[0], vector().directions[0])
    assert torch.equal(control.directions[0], random_like(vector(), 1).directions[0])
    assert not torch.equal(control.directions[0], random_like(vector(), 2).directions[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vector(directions={}), "needs a direction at one layer"),
        (lambda: vector(directions={2: torch.zeros(2, 2)}), "got shapes [(2, 2)]"),
        (lambda: vector(directions={1: torch.zeros(3), 2: torch.zeros(2)}), "[(2,), (3,)]"),
        (lambda: vector(directions={2: torch.tensor([math.nan])}), "layer 2 has values"),
        (lambda: vector(directions={-1: torch.ones(2)}, layer=-1), "layer -1 is negative"),
        (lambda: vector(layer=1), "no direction at the default layer 1; has [0, 2]"),
        (lambda: vector().at(math.nan), "is not finite"),
        (lambda: vector().at(math.inf), "is not finite"),
        (lambda: vector().at(1.0, layers=[1]), "no direction at layer 1; this vector has (0, 2)"),
        (lambda: vector().at(1.0, layers=[]), "layers is empty"),
        (lambda: vector().at(1.0, unit="sd"), "unit 'sd' is not 'norm' or 'raw'"),  # type: ignore[arg-type]
        (lambda: vector(residual_norm={}).at(1.0), "use unit='raw'"),
        (lambda: (vector() - vector()).at(1.0), "has length 0"),
        (lambda: vector() * math.inf, "not by inf"),
        (lambda: vector() + vector(directions={2: torch.ones(3)}), "2 (made on 'tiny') and 3"),
        (lambda: vector() + vector(fingerprint="e" * 64), "made on different weights"),
        (lambda: vector().check(model(width=5)), "2 wide (made on 'tiny'), the model 'other' is 5"),
        (
            lambda: vector().check(model(layers=2)),
            "layer 2, the model 'other' has layers 0 to 1",
        ),
        (
            lambda: vector().check(model(fingerprint="0" * 64)),
            "made on 'tiny' (weights ffffffffffff), not on 'other' (weights 000000000000)",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_check_accepts():
    vector().check(model())
    vector().check(model(fingerprint="0" * 64), same_model=False)
    vector(fingerprint="").check(model(fingerprint="0" * 64))


def test_repr_says_layer_and_why():
    text = repr(replace(vector(), provenance={"trait": "mood", "layer_choice": "as asked"}))
    assert text == (
        "SteeringVector('mood', mean_difference, model 'tiny', width 2, 2 layer(s) [0, 2], "
        "default layer 2: as asked)"
    )


def test_numbers_of_numpy_scale_a_vector():
    for twice in (vector() * np.float32(2), vector() * np.int64(2), vector() / np.float64(0.5)):
        assert twice.directions[0].tolist() == [6.0, 8.0]
        assert twice.directions[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vector() / 0, "cannot be divided by 0; give another number"),
        (lambda: vector() / math.nan, "divided by a finite number, not by nan"),
        (lambda: vector() / "2", "divided by a finite number, not by '2'"),
        (lambda: vector() * np.float32("inf"), "multiplied by a finite number, not by .*inf"),
        (lambda: vector().norm(9), r"no direction at layer 9; this vector has \(0, 2\)"),
    ],
)
def test_bad_arithmetic_is_refused_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (2, r"layers 2 is not a list; give layers=\[2\]"),
        (np.int64(2), "is not a list; give layers="),
        ([2, 0, 2], "2 stands twice; give each once"),
        ([], "layers is empty"),
    ],
)
def test_layers_are_a_list_of_different_ones(layers: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vector().at(1.0, layers=layers)  # type: ignore[arg-type]
