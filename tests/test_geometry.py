"""Projection, distance and displacement over the coefficient, against what they must be."""

from random import Random

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import SENTENCES
from made_up import made_up

import workbench as wb
from workbench.forward import tracing
from workbench.forward.reference import chosen_tokens
from workbench.geometry import manifold
from workbench.geometry.displacement import asked, displacement, own_texts
from workbench.geometry.manifold import Manifolds
from workbench.interventions.weight_updates import AddLowRank
from workbench.loading.models import LM
from workbench.text.positions import mask
from workbench.text.tokens import encode
from workbench.vectors.forms import LoRA

TEXTS = (SENTENCES[0], SENTENCES[2], SENTENCES[4])
GRID = (-0.5, 0.0, 0.25, 0.5)


@pytest.fixture(scope="module")
def manifolds(tiny: LM) -> Manifolds:
    rng = Random(0)
    texts = [" ".join(rng.sample(SENTENCES, 2))[: rng.randint(40, 90)] for _ in range(80)]
    return manifold.fit(tiny, texts, sample=200, clusters=(1,), progress=False)


@pytest.fixture(scope="module")
def vector(tiny: LM) -> wb.SteeringVector:
    """Directions at every layer, steering layer 1."""
    own = made_up(tiny)
    rng = torch.Generator().manual_seed(1)
    directions = {layer: torch.randn(tiny.width, generator=rng) for layer in range(3)}
    return wb.SteeringVector(
        directions={**directions, 1: own.directions[1]},
        residual_norm={0: 20.0, 1: 30.0, 2: 40.0},
        layer=1,
        method="made up",
        model=tiny.name,
        fingerprint=tiny.fingerprint,
    )


@pytest.fixture(scope="module")
def frame(tiny: LM, vector: wb.SteeringVector, manifolds: Manifolds) -> pd.DataFrame:
    return displacement(tiny, vector, TEXTS, GRID, manifolds)


def test_one_row_for_each_text_coefficient_and_layer(frame: pd.DataFrame) -> None:
    keys = frame[["text", "coefficient_norm", "layer"]].apply(tuple, axis=1)
    assert sorted(keys) == [(t, c, x) for t in range(3) for c in GRID for x in (1, 2)]
    assert (frame["route"] == "fixed").all()
    assert (frame["steered_layer"] == 1).all()
    assert frame.attrs["chance"].keys() == {"1", "2"}
    assert set(frame.attrs["thresholds"]) == {
        f"{layer} {kind}" for layer in (1, 2) for kind in manifold.KINDS
    }


def test_numbers_are_those_of_the_streams(
    tiny: LM, vector: wb.SteeringVector, manifolds: Manifolds, frame: pd.DataFrame
) -> None:
    batch = encode(tiny, TEXTS[1:2])
    chosen = mask(chosen_tokens(tiny, batch, manifolds.positions, manifolds.skip))
    for c in GRID:
        both = [
            tracing.activations(tiny, batch, [1, 2], chosen, interventions=vector.at(m)).values
            for m in (0.0, c)
        ]
        for index, layer in enumerate((1, 2)):
            before, after = (each[:, index].double() for each in both)
            row = frame.query("text == 1 and coefficient_norm == @c and layer == @layer").iloc[0]
            unit = vector.directions[layer].double() / vector.norm(layer)
            size = vector.residual_norm[layer]
            assert row["tokens"] == len(before)
            expected = {
                "projection": (after @ unit / size).mean(),
                "shift": ((after - before).norm(dim=1) / size).mean(),
                "growth": (after.norm(dim=1) / before.norm(dim=1)).mean(),
                "distance_principal": manifolds.at(layer).distance(after).mean(),
            }
            beyond = manifolds.at(layer).distance(after) > manifolds.at(layer).threshold()
            expected["beyond_principal"] = beyond.double().mean()
            for name, value in expected.items():
                assert row[name] == pytest.approx(float(value), abs=2e-3), (name, c, layer)
            cos = torch.nn.functional.cosine_similarity(before, after).clamp(-1, 1)
            assert row["angle"] == pytest.approx(float(cos.acos().rad2deg().mean()), abs=0.05)


def test_at_the_steered_layer_all_change_is_along_the_target(
    frame: pd.DataFrame, vector: wb.SteeringVector, manifolds: Manifolds
) -> None:
    here = frame[(frame["layer"] == 1) & (frame["coefficient_norm"] != 0)]
    np.testing.assert_allclose(here["shift"], here["coefficient_norm"].abs(), rtol=1e-4)
    np.testing.assert_allclose(here["along"], 1, rtol=1e-4)
    share = float(manifolds.at(1).share_inside(vector.directions[1]))
    np.testing.assert_allclose(here["inside"], share, rtol=1e-4)
    wide = here.pivot(index="text", columns="coefficient_norm", values="projection")
    np.testing.assert_allclose(wide[0.5] - wide[-0.5], 1, rtol=1e-4)
    there = frame[(frame["layer"] == 2) & (frame["coefficient_norm"] != 0)]
    assert (there["along"] < 0.9).all()


def test_nothing_has_changed_at_zero(frame: pd.DataFrame) -> None:
    still = frame[frame["coefficient_norm"] == 0]
    assert (still[["shift", "angle", "kl"]].abs() < 1e-6).all(axis=None)
    assert (still["growth"] == 1).all()
    assert still[["inside", "along"]].isna().all(axis=None)
    np.testing.assert_allclose(still["explained"], 0, atol=1e-9)


def test_what_the_target_explains(
    tiny: LM, vector: wb.SteeringVector, manifolds: Manifolds, frame: pd.DataFrame
) -> None:
    """At the steered layer: without its own step a stream is where it was."""
    wide = frame[(frame["layer"] == 1) & (frame["text"] == 0)].set_index("coefficient_norm")
    batch = encode(tiny, TEXTS[:1])
    chosen = mask(chosen_tokens(tiny, batch, manifolds.positions, manifolds.skip))
    before, after = (
        tracing.activations(tiny, batch, [1], chosen, interventions=vector.at(m)).values[:, 0]
        for m in (0.0, 0.5)
    )
    one, other = (manifolds.at(1).distance(each).square() for each in (before, after))
    expected = float((1 - one / other).mean())
    assert wide.loc[0.5, "explained"] == pytest.approx(expected, abs=1e-3)


def test_the_three_routes_of_written_text(
    tiny: LM, vector: wb.SteeringVector, manifolds: Manifolds
) -> None:
    options = {"new_tokens": 6, "kinds": ["principal"]}
    found = own_texts(tiny, vector, TEXTS, (0.0, 0.6), manifolds, **options)
    own, unread = (found[found["route"] == route] for route in ("own", "unread"))
    assert set(own["coefficient_norm"]) == {0.0, 0.6}
    keys = ["text", "coefficient_norm", "layer"]
    both = own.merge(unread, on=keys, suffixes=("", "_unread"))
    assert len(both) == len(own) == len(unread)
    assert (both["tokens"] <= 6).all()
    still = both[both["coefficient_norm"] == 0]
    np.testing.assert_allclose(still["projection"], still["projection_unread"], rtol=1e-6)
    # Read without steering, the stream at the steered layer lacks the step.
    moved = both[(both["coefficient_norm"] == 0.6) & (both["layer"] == 1)]
    gap = moved["projection"] - moved["projection_unread"]
    np.testing.assert_allclose(gap, 0.6, rtol=1e-4)
    assert (unread["shift"] == 0).all()
    natural = asked(tiny, vector, TEXTS, manifolds, **options)
    assert (natural["route"] == "asked").all()
    at_zero = own[own["coefficient_norm"] == 0].set_index(["text", "layer"])["distance_principal"]
    same = natural.set_index(["text", "layer"])["distance_principal"]
    np.testing.assert_allclose(same.loc[at_zero.index], at_zero, rtol=1e-5)


def test_another_form_is_looked_at_along_a_vectors_target(
    tiny: LM, vector: wb.SteeringVector, manifolds: Manifolds
) -> None:
    rng = torch.Generator().manual_seed(3)
    width = tiny.inner_width(1)
    change = AddLowRank(
        torch.randn(width, 2, generator=rng), torch.randn(2, tiny.width, generator=rng)
    )
    form = LoRA({1: change}, tiny.name, tiny.fingerprint, "made up")
    found = displacement(
        tiny, form, TEXTS, (0.0, 0.5), manifolds, target=vector, kinds=["clusters"]
    )
    assert set(found["layer"]) == {1, 2}
    assert found["projection"].notna().all()
    moved = found[(found["coefficient_norm"] == 0.5) & (found["layer"] == 1)]
    assert (moved["shift"] > 0).all()
    without = displacement(tiny, form, TEXTS, (0.5,), manifolds, kinds=["clusters"])
    assert "projection" not in without.columns


def test_bad_input_is_refused(tiny: LM, vector: wb.SteeringVector, manifolds: Manifolds) -> None:
    for wrong in ([], [0.0, np.nan], [[0.1]]):
        with pytest.raises(ValueError, match="a list of finite numbers"):
            displacement(tiny, vector, TEXTS, wrong, manifolds)
    with pytest.raises(ValueError, match="no 'flat' manifold"):
        displacement(tiny, vector, TEXTS, [0.0], manifolds, kinds=["flat"])
    with pytest.raises(ValueError, match="name some from 1 on"):
        displacement(tiny, vector, TEXTS, [0.0], manifolds, layers=[0])
    with pytest.raises(ValueError, match="no token"):
        displacement(tiny, vector, ["a"], [0.0], manifolds)
