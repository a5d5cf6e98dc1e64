"""Steering that keeps to the manifold: parts of a vector, the natural step, and pulling back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import SENTENCES
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import made_up
from test_geometry import manifolds as manifolds  # the fixture

import workbench as wb
from workbench.forward import tracing
from workbench.forward.reference import chosen_tokens
from workbench.forward.streaming import as_stream
from workbench.geometry import manifold
from workbench.geometry.manifold import Manifolds
from workbench.geometry.on_manifold import PulledBack, natural, parts
from workbench.geometry.pull_back import Cloud, PullBack, _Path
from workbench.interventions.updates import Add
from workbench.loading.models import LM
from workbench.statistics.estimates import Principal
from workbench.text.positions import content, generated, select
from workbench.text.tokens import Batch, encode
from workbench.vectors.steerable import Steerable


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


def streams(lm: LM, batch: Batch, way: Steerable, c: float) -> torch.Tensor:
    found = tracing.activations(lm, batch, [1], content, interventions=way.at(c))
    return found.values[:, 0]


@pytest.mark.parametrize("unit", [True, False])
def test_pulled_back_streams_lie_within_the_bound_and_keep_projection(
    tiny: LM, manifolds: Manifolds, unit: bool
) -> None:
    vector, batch = made_up(tiny), encode(tiny, list(SENTENCES))
    if not unit:
        texts = [" ".join(SENTENCES[i % 6 :] + SENTENCES[: i % 6])[: 50 + i] for i in range(60)]
        manifolds = manifold.fit(tiny, texts, [1], unit=False, kinds=["principal"], progress=False)
    here, bound = manifolds.at(1, "principal"), manifolds.at(1, "principal").threshold()
    axis = vector.directions[1] / vector.norm(1)
    count = 0
    for c in (-0.2, -0.05, 0.02, 0.05, 0.1):
        plain = streams(tiny, batch, vector, c)
        pulled = streams(tiny, batch, PulledBack(vector, manifolds), c)
        covered = chosen_tokens(tiny, batch, content, manifolds.skip)
        touched = covered[select(tiny, batch, content)]
        far, near = here.distance(plain), here.distance(pulled)
        beyond = touched & (far > bound)
        assert torch.equal(pulled[~beyond], plain[~beyond])
        cloud = Cloud.of(here.estimate)
        end = _Path.of(plain, vector.directions[1], cloud, unit).squared(torch.zeros(len(plain)))
        able = beyond & (end <= bound**2)
        count += int(able.sum())
        assert (near[able] <= 1.001 * bound).all()
        np.testing.assert_allclose(pulled @ axis, plain @ axis, rtol=1e-3, atol=1e-2)
        if unit:
            np.testing.assert_allclose(pulled.norm(dim=1), plain.norm(dim=1), rtol=1e-4)
    assert count > 30


def test_where_nothing_near_has_the_projection_a_stream_goes_to_the_path_s_end(
    tiny: LM, manifolds: Manifolds
) -> None:
    """Far out the likeliest stream with the projection lies beyond the bound, too."""
    vector, batch = made_up(tiny), encode(tiny, list(SENTENCES))
    here = manifolds.at(1, "principal")
    plain, pulled = (
        streams(tiny, batch, each, 5.0) for each in (vector, PulledBack(vector, manifolds))
    )
    moved = (plain != pulled).any(dim=1)
    assert moved.any()
    assert (here.distance(pulled)[moved] < here.distance(plain)[moved]).all()
    assert (here.distance(pulled)[moved] > here.threshold()).any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rank=st.integers(1, 6), unit=st.booleans())
def test_distances_along_a_path_are_those_of_its_points(seed: int, rank: int, unit: bool) -> None:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0].T
    fit = Principal(rng.standard_normal(6), basis[:rank], rng.uniform(0.2, 5, rank), 0.7)
    hidden = torch.from_numpy(3 * rng.standard_normal((5, 6))).float()
    path = _Path.of(hidden, torch.from_numpy(rng.standard_normal(6)), Cloud.of(fit), unit)
    for t in (0.0, 0.3, 1.0):
        here = torch.full((5,), t)
        points = as_stream(path.at(here), unit).double().numpy()
        np.testing.assert_allclose(path.squared(here).sqrt(), fit.distance(points), rtol=2e-3)
    np.testing.assert_allclose(path.at(torch.ones(5)), hidden, rtol=1e-3, atol=1e-3)


def test_nothing_changes_at_zero(tiny: LM, manifolds: Manifolds) -> None:
    batch = encode(tiny, list(SENTENCES[:2]))
    still = PulledBack(made_up(tiny), manifolds).at(torch.tensor([0.0, 0.5]))
    found = tracing.activations(tiny, batch, [2], content, interventions=still).split()
    plain = tracing.activations(tiny, batch, [2], content).split()
    assert torch.equal(found[0], plain[0])
    assert not torch.equal(found[1], plain[1])


def test_what_is_written_is_pulled_too_and_reads_back_the_same(
    tiny: LM, manifolds: Manifolds
) -> None:
    prompts, way = list(SENTENCES[:3]), PulledBack(made_up(tiny), manifolds)
    made = wb.generate(tiny, prompts, way.at(0.3), new_tokens=6)
    plain = wb.generate(tiny, prompts, made_up(tiny).at(0.3), new_tokens=6)
    assert not torch.equal(made.logprobs_steered, plain.logprobs_steered)
    written = made.batch.extend(made.ids, made.lengths, made.texts)
    read = tracing.logprobs(tiny, written, way.at(0.3))
    for row, count in enumerate(made.lengths.tolist()):
        own = read[row][~read[row].isnan()]
        torch.testing.assert_close(
            own[:count].double(),
            made.logprobs_steered[row, :count].double(),
            rtol=1e-3,
            atol=1e-3,
        )
    here, bound = manifolds.at(1, "principal"), manifolds.at(1, "principal").threshold()
    streams = tracing.activations(tiny, written, [1], generated, interventions=way.at(0.02)).values[
        :, 0
    ]
    far = tracing.activations(
        tiny, written, [1], generated, interventions=made_up(tiny).at(0.02)
    ).values[:, 0]
    assert (here.distance(streams) > 1.001 * bound).sum() < (here.distance(far) > bound).sum()


def test_a_stream_of_zeros_and_a_direction_without_length() -> None:
    width = 64
    fit = Principal(np.ones(width), np.eye(width)[:4], np.full(4, 2.0), 0.5)
    for unit in (True, False):
        pull = PullBack(torch.ones(width), Cloud.of(fit), 1.0, unit)
        moved = pull(torch.zeros(1, 2, width), torch.ones(1, 2, 1))
        assert torch.isfinite(moved).all()
    with pytest.raises(ValueError, match="has no length"):
        PullBack(torch.zeros(width), Cloud.of(fit), 1.0, True)


def test_a_sweep_of_another_level_or_manifold_is_another_sweep(
    tiny: LM, manifolds: Manifolds, tmp_path: Path
) -> None:
    def run(level: float) -> None:
        way = PulledBack(made_up(tiny), manifolds, level)
        wb.sweep(
            tiny, way, ["The fox"], [0.0, 0.2], new_tokens=2, directory=tmp_path, progress=False
        )

    run(0.95)
    run(0.95)
    with pytest.raises(ValueError, match="vectors"):
        run(0.5)


def test_what_is_missing_is_named(tiny: LM, manifolds: Manifolds) -> None:
    vector = made_up(tiny)
    other = wb.SteeringVector(
        {0: vector.directions[1], 9: vector.directions[1]}, {0: 1.0}, "x", "", "made up", 9
    )
    with pytest.raises(ValueError, match="no 'principal' manifold of layer 9"):
        parts(other, manifolds)
    added, pulled = PulledBack(vector, manifolds).at(1.0)
    assert isinstance(added.update, Add)
    update = pulled.update
    assert isinstance(update, PullBack)
    assert update.width == tiny.width
    assert update.origin is not None
