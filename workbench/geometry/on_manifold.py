"""Steering that keeps to the manifold of ordinary text: three ways, beside plain steering.

parts       v = v_in + v_out: its part along the tangent of the manifold, and the rest
natural     C v, with C the covariance of ordinary text: of all steps that move the projection on v
            by as much, the shortest in Mahalanobis distance
pull back   h + m v, then towards the manifold as far as needed and no further (pull_back.py); the
            projection on v is kept

Knows nothing of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from workbench.forward.reference import chosen_tokens
from workbench.geometry.manifold import Manifolds
from workbench.geometry.pull_back import Cloud, PullBack
from workbench.interventions.updates import Coefficient, Intervention
from workbench.text.positions import Positions, everything, select
from workbench.text.tokens import Batch
from workbench.vectors.steering_vector import SteeringVector, Unit

if TYPE_CHECKING:
    from workbench.loading.models import LM


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
        turned = Cloud.of(manifolds.principal(layer)).times(direction.double())
        found[layer] = turned * (direction.norm() / turned.norm())
    return _derived(vector, found, "times the covariance")


@dataclass(frozen=True, eq=False)
class PulledBack:
    """A vector that is added, and then pulled back: `at` gives both interventions of each layer.
    Tokens of a prompt that manifolds are not for, such as its first ones, are not pulled; of what
    is written all are, or none.

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
        about = self.manifolds.provenance
        return {
            **self.vector.provenance,
            "derived": f"pulled back to {self.level:g}",
            "manifold": {name: about[name] for name in ("unit", "documents") if name in about},
        }

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
        known = self.manifolds.positions, self.manifolds.skip
        return tuple(
            each
            for step in steps
            for each in (
                step,
                replace(step, update=self._pull(step), positions=_Covered(positions, *known)),
            )
        )

    def _pull(self, step: Intervention) -> PullBack:
        here = self.manifolds.at(step.layer, "principal")
        return PullBack(
            self.vector.directions[step.layer],
            Cloud.of(self.manifolds.principal(step.layer)),
            here.threshold(self.level),
            here.unit,
            step.update.origin,
        )


@dataclass(frozen=True)
class _Covered:
    """Of the tokens of a rule those that manifolds are for."""

    chosen: Positions
    known: Positions
    skip: int

    @property
    def generated(self) -> bool:
        return self.chosen.generated and self.known.generated

    def __call__(self, lm: LM, batch: Batch) -> Tensor:
        return select(lm, batch, self.chosen) & chosen_tokens(lm, batch, self.known, self.skip)


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
