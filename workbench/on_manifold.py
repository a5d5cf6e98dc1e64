"""Steering that keeps to the manifold of ordinary text: three ways, beside plain steering.

parts       v = v_in + v_out: its part along the tangent of the manifold, and the rest
natural     C v, with C the covariance of ordinary text: of all steps that move the projection on v
            by as much, the shortest in Mahalanobis distance
pull back   h + m v, then towards the manifold as far as needed and no further: on the straight line
            to the likeliest point with the same projection on v, μ + C v (v'h - v'μ) / v'C v, until
            the distance is within that of most ordinary text. The projection is kept.

Knows nothing of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from workbench.estimates import Principal
from workbench.manifold import Manifolds
from workbench.positions import Positions, everything
from workbench.streaming import as_stream
from workbench.updates import Add, Coefficient, Intervention, Origin
from workbench.vectors import SteeringVector, Unit

if TYPE_CHECKING:
    from workbench.models import LM

# At unit length a point that is pulled is lengthened again, which moves it a little.
_ROUNDS = 4


def parts(vector: SteeringVector, manifolds: Manifolds) -> tuple[SteeringVector, SteeringVector]:
    """What of a vector lies along the tangent, and what does not, at every layer of it that has a
    manifold; they add up to the vector there.

    In residual norms (the default unit of `at`) both are steered by at the full length.
    Raises ValueError where the default layer has no manifold, or a part has no length.
    """
    inside, outside = {}, {}
    for layer, direction in _known(vector, manifolds).items():
        inside[layer] = manifolds.at(layer).inside(direction)
        outside[layer] = direction - inside[layer]
    return (
        _derived(vector, inside, "along the tangent"),
        _derived(vector, outside, "off the tangent"),
    )


def natural(vector: SteeringVector, manifolds: Manifolds) -> SteeringVector:
    """C v at every layer of the vector that has a manifold, at the length of v; see above.

    Raises ValueError where the default layer has no manifold.
    """
    found = {}
    for layer, direction in _known(vector, manifolds).items():
        turned = _Cloud.of(_principal(manifolds, layer)).times(direction.double())
        found[layer] = turned * (direction.norm() / turned.norm())
    return _derived(vector, found, "times the covariance")


@dataclass(frozen=True, eq=False)
class PulledBack:
    """A vector that is steered by `PullBack`: `at` gives its interventions.

    level  the share of ordinary tokens that lie as near as steered ones may
    """

    vector: SteeringVector
    manifolds: Manifolds
    level: float = 0.95
    units: ClassVar[tuple[Unit, ...]] = SteeringVector.units

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(k for k in self.vector.layers if k in self.manifolds.layers)

    @property
    def default_layers(self) -> tuple[int, ...]:
        return self.vector.default_layers

    @property
    def width(self) -> int:
        return self.vector.width

    @property
    def residual_norm(self) -> Mapping[int, float]:
        return self.vector.residual_norm

    @property
    def method(self) -> str:
        return f"{self.vector.method}, pulled back"

    @property
    def provenance(self) -> Mapping[str, Any]:
        return {**self.vector.provenance, "derived": f"pulled back to {self.level:g}"}

    @property
    def texts(self) -> frozenset[str]:
        return self.vector.texts

    @property
    def held_out_texts(self) -> frozenset[str]:
        return self.vector.held_out_texts

    def norm(self, layer: int) -> float:
        return self.vector.norm(layer)

    def check(self, lm: LM) -> None:
        self.vector.check(lm)

    def scaled(self, factors: Mapping[int, float], residual_norm: Mapping[int, float]) -> Self:
        return replace(self, vector=self.vector.scaled(factors, residual_norm))

    def at(
        self,
        coefficient: Coefficient,
        *,
        layers: Sequence[int] | None = None,
        positions: Positions = everything,
        unit: Unit = "norm",
    ) -> tuple[Intervention, ...]:
        """As `SteeringVector.at`. Raises ValueError as there, and for a layer without a calibrated
        manifold of the kind "principal"."""
        steps = self.vector.at(coefficient, layers=layers, positions=positions, unit=unit)
        return tuple(replace(each, update=self._update(each)) for each in steps)

    def _update(self, step: Intervention) -> PullBack:
        assert isinstance(step.update, Add)
        here = self.manifolds.at(step.layer, "principal")
        return PullBack(
            step.update.direction,
            _Cloud.of(_principal(self.manifolds, step.layer)),
            here.threshold(self.level),
            here.unit,
            step.update.origin,
        )


@dataclass(frozen=True, eq=False)
class PullBack:
    """h + m v, pulled back to within a distance of the manifold; see above.

    What lies within after the step is left there. At unit length the stream keeps the length that
    the step gave it.
    """

    direction: Tensor
    cloud: _Cloud
    reach: float
    unit: bool
    origin: Origin | None = None

    @property
    def width(self) -> int:
        return self.direction.shape[0]

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        stepped = Add(self.direction)(hidden, scale).float()
        cloud = self.cloud.to(stepped.device)
        axis = torch.nn.functional.normalize(self.direction.to(stepped.device).float(), dim=0)
        spread = cloud.times(axis)  # C w
        length = stepped.norm(dim=-1, keepdim=True)
        point = stepped
        for _ in range(_ROUNDS if self.unit else 1):
            looked = as_stream(point, self.unit)
            moved = self._nearer(looked, cloud, axis, spread)
            point = moved if not self.unit else moved * (length / moved.norm(dim=-1, keepdim=True))
        beyond = cloud.squared(as_stream(stepped, self.unit)) > self.reach**2
        return torch.where(beyond[..., None], point, stepped).to(hidden.dtype)

    def _nearer(self, looked: Tensor, cloud: _Cloud, axis: Tensor, spread: Tensor) -> Tensor:
        """Streams (…, D) moved towards the likeliest ones with their projection."""
        along = (looked - cloud.mean) @ axis
        target = cloud.mean + along[..., None] * (spread / (axis @ spread))
        far, near = cloud.squared(looked), cloud.squared(target)
        # The gap to the target is at right angles to it, in this metric: d² falls by (1 - t)².
        rest = ((self.reach**2 - near).clamp_min(0) / (far - near).clamp_min(1e-12)).sqrt()
        return target + rest.clamp_max(1)[..., None] * (looked - target)


@dataclass(frozen=True, eq=False)
class _Cloud:
    """A `Principal` in tensors: mean (D,), components (k, D), variances (k,), and σ², 0 where the
    components span everything."""

    mean: Tensor
    components: Tensor
    variances: Tensor
    residual: float

    @classmethod
    def of(cls, made: Principal) -> _Cloud:
        whole = made.rank == len(made.mean)
        tensors = (
            torch.from_numpy(values.copy()).float()
            for values in (made.mean, made.components, made.variances)
        )
        return cls(*tensors, residual=0.0 if whole else made.residual)

    def to(self, device: torch.device) -> _Cloud:
        if self.mean.device == device:
            return self
        moved = (each.to(device) for each in (self.mean, self.components, self.variances))
        return _Cloud(*moved, residual=self.residual)

    def times(self, direction: Tensor) -> Tensor:
        """C v for v (D,)."""
        components = self.components.to(direction.dtype)
        inner = components @ direction
        within = (self.variances.to(direction.dtype) * inner) @ components
        return within + self.residual * (direction - inner @ components)

    def squared(self, values: Tensor) -> Tensor:
        """d² of streams (…, D)."""
        centred = values - self.mean
        inner = centred @ self.components.T
        within = (inner.square() / self.variances).sum(-1)
        if not self.residual:
            return within
        outer = centred.square().sum(-1) - inner.square().sum(-1)
        return within + outer.clamp_min(0) / self.residual


def _principal(manifolds: Manifolds, layer: int) -> Principal:
    found = manifolds.at(layer, "principal").estimate
    assert isinstance(found, Principal)
    return found


def _known(vector: SteeringVector, manifolds: Manifolds) -> dict[int, Tensor]:
    manifolds.at(vector.layer)  # raises
    return {k: v for k, v in vector.directions.items() if k in manifolds.layers}


def _derived(vector: SteeringVector, directions: dict[int, Tensor], how: str) -> SteeringVector:
    if float(directions[vector.layer].norm()) <= 1e-6 * vector.norm():
        raise ValueError(f"of this vector nothing lies {how} at layer {vector.layer}")
    provenance = {**vector.provenance, "derived": how}
    return replace(
        vector,
        directions={k: v.float() for k, v in directions.items()},
        method=f"{vector.method}, {how}",
        separation=None,
        provenance=provenance,
    )
