"""Steering that keeps to the manifold: parts of a vector, the natural step, and pulling back."""

import numpy as np
import pytest
import torch
from architectures import SENTENCES
from made_up import made_up
from test_geometry import manifolds as manifolds  # the fixture

import workbench as wb
from workbench import manifold, tracing
from workbench.manifold import Manifolds
from workbench.models import LM
from workbench.on_manifold import PullBack, PulledBack, natural, parts
from workbench.positions import content
from workbench.tokens import encode


def test_the_parts_of_a_vector_add_up(tiny: LM, manifolds: Manifolds) -> None:
    vector = made_up(tiny)
    inside, outside = parts(vector, manifolds)
    np.testing.assert_allclose(
        inside.directions[1] + outside.directions[1], vector.directions[1], atol=1e-5
    )
    assert float(inside.directions[1] @ outside.directions[1]) == pytest.approx(0, abs=1e-3)
    here = manifolds.at(1)
    assert float(here.share_inside(inside.directions[1])) == pytest.approx(1, abs=1e-5)
    assert float(here.share_inside(outside.directions[1])) == pytest.approx(0, abs=1e-5)
    # Steered in residual norms, both are as long.
    steps = [part.at(0.5)[0].update.direction.norm() for part in (inside, outside)]
    np.testing.assert_allclose(steps, 30, rtol=1e-5)
    assert inside.provenance["derived"] == "along the tangent"


def test_a_vector_within_the_tangent_has_no_other_part(tiny: LM, manifolds: Manifolds) -> None:
    row = manifolds.at(1).tangent[0].float()
    vector = wb.SteeringVector({1: row}, {1: 30.0}, tiny.name, tiny.fingerprint, "made up", 1)
    with pytest.raises(ValueError, match="nothing lies off the tangent"):
        parts(vector, manifolds)


def test_the_natural_step_is_the_shortest_in_mahalanobis_distance(
    tiny: LM, manifolds: Manifolds
) -> None:
    vector = made_up(tiny)
    turned = natural(vector, manifolds).directions[1].double()
    axis = vector.directions[1].double()
    estimate = manifolds.at(1).estimate
    covariance = estimate.components.T @ np.diag(estimate.variances) @ estimate.components
    if estimate.rank < tiny.width:
        rest = np.eye(tiny.width) - estimate.components.T @ estimate.components
        covariance = covariance + estimate.residual * rest
    precision = np.linalg.inv(covariance)

    def length(step: np.ndarray) -> float:
        """Of a step that moves the projection by one."""
        step = step / (step @ axis.numpy())
        return float(step @ precision @ step)

    best = length(turned.numpy())
    rng = np.random.default_rng(0)
    others = [turned.numpy() + 0.1 * rng.standard_normal(tiny.width) for _ in range(50)]
    assert best < min(map(length, [axis.numpy(), *others]))
    assert float(turned.norm()) == pytest.approx(vector.norm(1), rel=1e-4)


def test_pulled_back_streams_lie_near_and_keep_their_projection(
    tiny: LM, manifolds: Manifolds
) -> None:
    vector, batch = made_up(tiny), encode(tiny, list(SENTENCES))
    here = manifolds.at(1, "principal")
    axis = vector.directions[1] / vector.norm(1)
    for c in (-0.4, 0.3, 0.6):
        plain, pulled = (
            tracing.activations(tiny, batch, [1], content, interventions=each.at(c)).values[:, 0]
            for each in (vector, PulledBack(vector, manifolds))
        )
        far, near = here.distance(plain), here.distance(pulled)
        bound = here.threshold()
        assert (far > bound).any()
        assert torch.equal(pulled[far <= bound], plain[far <= bound])
        assert (near <= far + 1e-3).all()
        assert float((near[far > bound] < 1.05 * bound).double().mean()) > 0.5
        # Lengthening after the pull moves the projection a little.
        kept = (pulled @ axis) / (plain @ axis)
        assert float((kept - 1).abs().median()) < 0.15
        np.testing.assert_allclose(pulled.norm(dim=1), plain.norm(dim=1), rtol=1e-4)


def test_in_their_own_length_the_projection_is_kept_exactly(tiny: LM) -> None:
    texts = [" ".join(SENTENCES[i % 6 :] + SENTENCES[: i % 6])[: 50 + i] for i in range(60)]
    raw = manifold.fit(tiny, texts, [1], unit=False, kinds=["principal"], progress=False)
    vector, batch = made_up(tiny), encode(tiny, list(SENTENCES))
    plain, pulled = (
        tracing.activations(tiny, batch, [1], content, interventions=each.at(0.5)).values[:, 0]
        for each in (vector, PulledBack(vector, raw))
    )
    axis = vector.directions[1] / vector.norm(1)
    np.testing.assert_allclose(pulled @ axis, plain @ axis, rtol=1e-3, atol=1e-2)
    near = raw.at(1).distance(pulled)
    assert (near <= raw.at(1).distance(plain) + 1e-3).all()


def test_nothing_changes_at_zero(tiny: LM, manifolds: Manifolds) -> None:
    batch = encode(tiny, list(SENTENCES[:2]))
    still = PulledBack(made_up(tiny), manifolds).at(torch.tensor([0.0, 0.5]))
    found = tracing.activations(tiny, batch, [2], content, interventions=still).split()
    plain = tracing.activations(tiny, batch, [2], content).split()
    assert torch.equal(found[0], plain[0])
    assert not torch.equal(found[1], plain[1])
    made = wb.generate(tiny, list(SENTENCES[:2]), still, new_tokens=4)
    assert len(made.texts) == 2


def test_what_is_missing_is_named(tiny: LM, manifolds: Manifolds) -> None:
    vector = made_up(tiny)
    other = wb.SteeringVector(
        {0: vector.directions[1], 9: vector.directions[1]}, {0: 1.0}, "x", "", "made up", 9
    )
    with pytest.raises(ValueError, match="no 'principal' manifold of layer 9"):
        parts(other, manifolds)
    update = PulledBack(vector, manifolds).at(1.0)[0].update
    assert isinstance(update, PullBack)
    assert update.width == tiny.width
    assert update.origin is not None
