"""What can be swept: a change of a model that one coefficient scales, wherever in it it acts.

A steering vector (steering_vector.py) adds to the residual stream, a LoRA or a local weight
(forms.py) to the weight of a down-projection. A sweep, and whatever finds a ceiling from one, asks
for no more than stands here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from workbench.interventions.updates import Coefficient, Intervention
from workbench.text.positions import Positions
from workbench.vectors.steering_vector import Unit

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from workbench.loading.models import LM


class Steerable(Protocol):
    """A change of a model, scaled by a coefficient.

    layers          the layers at which it can act; default_layers: where `at` acts unless told
    width           D, of what it changes
    units           what its coefficients may be counted in, the usual one first: "norm", residual
                    norms; "raw", multiples of the change as it is (m of a trained form)
    residual_norm   layer -> norm of the residual stream, for those where it is known
    method          how it was made; provenance: data, settings, versions, as JSON values
    texts           hashes of the texts that made it; held_out_texts: of those that chose its layer
    """

    units: ClassVar[tuple[Unit, ...]]

    @property
    def layers(self) -> tuple[int, ...]: ...
    @property
    def default_layers(self) -> tuple[int, ...]: ...
    @property
    def width(self) -> int: ...
    @property
    def residual_norm(self) -> Mapping[int, float]: ...
    @property
    def method(self) -> str: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...
    @property
    def texts(self) -> frozenset[str]: ...
    @property
    def held_out_texts(self) -> frozenset[str]: ...

    def norm(self, layer: int) -> float:
        """The size of what a raw coefficient of 1 changes at a layer: the length of a direction,
        the Frobenius norm of a change of weight and bias. Raises ValueError for another layer."""
        ...

    def at(
        self,
        coefficient: Coefficient,
        *,
        layers: Sequence[int] | None = None,
        positions: Positions = ...,
        unit: Unit = ...,
    ) -> tuple[Intervention, ...]:
        """The interventions that make the change, one per layer. Raises ValueError for layers and
        units that it does not have."""
        ...

    def scaled(self, factors: Mapping[int, float], residual_norm: Mapping[int, float]) -> Self:
        """Its change at these layers alone, each times its factor, where the residual stream has
        these norms."""
        ...

    def check(self, lm: LM) -> None:
        """Raise ValueError unless it fits the model."""
        ...


def is_steerable(given: object) -> TypeIs[Steerable]:
    """Whether it has a coefficient of its own, unlike a tensor or a list of interventions."""
    return callable(getattr(given, "at", None)) and bool(getattr(given, "units", ()))


def require_steerable(given: object) -> None:
    """Raise ValueError for what has no coefficient of its own."""
    if not is_steerable(given):
        raise ValueError(
            f"{str(given)[:200]!r} cannot be swept: give a SteeringVector, LoRA or LocalWeight, as "
            "extract and train return them"
        )
