"""A steering vector: one direction per layer, what it is measured in, and where it came from.

This module knows how to turn a vector into interventions and add vectors up; it knows nothing of
how directions are found, nor of files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd
import torch
from torch import Tensor

from workbench.interventions.updates import Add, Coefficient, Intervention, Origin
from workbench.support.checks import number, require_layers
from workbench.support.store import tensors_hash
from workbench.text.positions import Positions, everything

if TYPE_CHECKING:
    from workbench.loading.models import LM

Unit = Literal["norm", "raw"]


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """Directions of the residual stream, by 0-based decoder layer.

    directions     layer -> (D,) float32 on the CPU; unit length where extraction made them
    residual_norm  layer -> median norm of the residual stream over tokens other than the first
    model          name of the model it was made on; fingerprint: sha256 of its config and weights
                   ("" when unknown, as in files of other tools)
    method         how the directions were found
    layer          the layer that `at` steers unless told otherwise
    separation     one row per layer, from held-out pairs; see `extract.extract`
    provenance     data and text hashes, positions, seed, versions: JSON values

    Raises ValueError for no direction, unequal widths, values that are not finite, or a default
    layer without a direction.
    """

    directions: Mapping[int, Tensor]
    residual_norm: Mapping[int, float]
    model: str
    fingerprint: str
    method: str
    layer: int
    separation: pd.DataFrame | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    # What its coefficients may be counted in, see `at`; the first is the usual one.
    units: ClassVar[tuple[Unit, ...]] = ("norm", "raw")

    def __post_init__(self) -> None:
        if not self.directions:
            raise ValueError("a steering vector needs a direction at one layer at least")
        plain = {
            int(layer): self.directions[layer].detach().to("cpu", torch.float32)
            for layer in sorted(self.directions)
        }
        shapes = {tuple(direction.shape) for direction in plain.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"directions must be (D,) of one width, got shapes {sorted(shapes)}")
        for layer, direction in plain.items():
            if layer < 0:
                raise ValueError(f"layer {layer} is negative; layers are counted from 0")
            if not bool(torch.isfinite(direction).all()):
                raise ValueError(f"the direction of layer {layer} has values that are not finite")
        if self.layer not in plain:
            raise ValueError(f"no direction at the default layer {self.layer}; has {list(plain)}")
        object.__setattr__(self, "directions", plain)
        norms = {int(k): float(v) for k, v in sorted(self.residual_norm.items())}
        object.__setattr__(self, "residual_norm", norms)

    @property
    def width(self) -> int:
        """D, the width of the residual stream."""
        return len(self.directions[self.layer])

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have a direction."""
        return tuple(self.directions)

    @property
    def default_layers(self) -> tuple[int, ...]:
        """The layers that `at` steers unless told otherwise."""
        return (self.layer,)

    @property
    def origin(self) -> Origin | None:
        """The model that it was made on, None when its weights are not known."""
        return Origin(self.model, self.fingerprint) if self.fingerprint else None

    @property
    def sha256(self) -> str:
        """Of its directions by layer."""
        return tensors_hash({str(layer): each for layer, each in self.directions.items()})

    @property
    def texts(self) -> frozenset[str]:
        """Hashes of the texts that made the vector, for `splits.require_disjoint`."""
        return frozenset(self.provenance.get("texts", ()))

    @property
    def held_out_texts(self) -> frozenset[str]:
        """Hashes of the other texts that chose its layer: a report keeps apart from them too."""
        return frozenset(self.provenance.get("held_out_texts", ()))

    @property
    def explained_variance(self) -> dict[int, float]:
        """Layer -> share of the pairs' variance along its direction, where a PCA method found it
        (`methods.explained_variance`); empty for other methods and for vectors derived from it."""
        known = self.provenance.get("explained_variance") or {}
        shares = known["layers"] if known.get("method") == self.method else {}
        return {layer: float(shares[str(layer)]) for layer in self.layers if str(layer) in shares}

    def norm(self, layer: int | None = None) -> float:
        """Length of the direction at `layer` (default layer: None), in the model's own units.

        Raises ValueError for a layer without a direction.
        """
        return float(self._direction(self.layer if layer is None else layer).norm())

    def scaled(
        self, factors: Mapping[int, float], residual_norm: Mapping[int, float]
    ) -> SteeringVector:
        """Its directions at these layers alone, each times its factor, for a stream of these norms.

        The first of the layers is its own. Raises ValueError for a layer without a direction.
        """
        directions = {layer: self._direction(layer) * by for layer, by in factors.items()}
        return replace(
            self, directions=directions, residual_norm=residual_norm, layer=next(iter(factors))
        )

    def _direction(self, layer: int) -> Tensor:
        if layer not in self.directions:
            raise ValueError(f"no direction at layer {layer!r}; this vector has {self.layers}")
        return self.directions[layer]

    def __repr__(self) -> str:
        trait = self.provenance.get("trait") or self.provenance.get("pairs") or "vector"
        span = ", ".join(map(str, self.layers[:3])) + (", ..." if len(self.layers) > 3 else "")
        why = self.provenance.get("layer_choice")
        return (
            f"SteeringVector({trait!r}, {self.method}, model {self.model!r}, width {self.width}, "
            f"{len(self.layers)} layer(s) [{span}], default layer {self.layer}"
            + (f": {why}" if why else "")
            + ")"
        )

    def at(
        self,
        coefficient: Coefficient | Mapping[int, Coefficient],
        *,
        layers: Sequence[int] | None = None,
        positions: Positions = everything,
        unit: Unit = "norm",
    ) -> tuple[Intervention, ...]:
        """The interventions that add this vector, one per layer (default: the vector's layer).

        `at({4: 1.0, 6: 0.5})` gives each layer a coefficient of its own; `layer_profile.find` looks
        for good ones, which its `at` gives. They run on the weights that made the vector, and on
        any if those are not known.

        unit "norm": h + c * r_l * v_l / |v_l|, with r_l the layer's residual norm, so that
        c = 1 adds as much as the stream usually holds; unit "raw": h + c * v_l.
        Raises ValueError for layers that are no list of different layers, or that stand beside
        coefficients by layer; a layer without a direction, an unknown unit, a direction of length 0
        or a missing residual norm (unit "norm").
        """
        if isinstance(coefficient, Mapping):
            if layers is not None:
                raise ValueError(
                    f"layers {layers!r} beside coefficients by layer; give one of them"
                )
            if not coefficient:
                raise ValueError("coefficient {} names no layer; give one at least")
            return tuple(
                each
                for layer, own in coefficient.items()
                for each in self.at(own, layers=[layer], positions=positions, unit=unit)
            )
        require_layers(layers)
        chosen = self.default_layers if layers is None else tuple(layers)
        if not chosen:
            raise ValueError("layers is empty; name at least one layer")
        twice = [layer for layer in chosen if chosen.count(layer) > 1]
        if twice:
            raise ValueError(f"layers {layers!r}: {twice[0]} stands twice; give each once")
        return tuple(
            Intervention(layer, Add(self._step(layer, unit), self.origin), coefficient, positions)
            for layer in chosen
        )

    def _step(self, layer: int, unit: str) -> Tensor:
        """What coefficient 1 adds at `layer`: (D,)."""
        direction = self._direction(layer)
        if unit == "raw":
            return direction
        if unit != "norm":
            raise ValueError(f"unit {unit!r} is not 'norm' or 'raw'")
        size = self.residual_norm.get(layer, math.nan)
        if not size > 0:
            raise ValueError(
                f"the residual norm of layer {layer} is not known to this vector; use unit='raw', "
                "or measure it: from workbench.extraction.extract import with_norms; "
                "vector = with_norms(vector, lm, texts)"
            )
        length = float(direction.norm())
        if length == 0:
            raise ValueError(f"the direction of layer {layer} has length 0")
        return direction * (size / length)

    def check(self, lm: LM, *, same_model: bool = True) -> None:
        """Raise ValueError unless this vector fits `lm`: width, layers and, unless `same_model` is
        False, the weights. A vector of unknown origin is not asked for its weights."""
        if self.width != lm.width:
            raise ValueError(
                f"this vector is {self.width} wide (made on {self.model!r}), the model "
                f"{lm.name!r} is {lm.width} wide"
            )
        if max(self.layers) >= lm.layers:
            raise ValueError(
                f"this vector has a direction at layer {max(self.layers)}, the model {lm.name!r} "
                f"has layers 0 to {lm.layers - 1}"
            )
        # Weights that run on a server or lie on disk cannot be compared.
        if same_model and self.origin is not None and lm.in_memory:
            lm.check_origin(self.origin)

    def check_same_stream(self, other: SteeringVector) -> None:
        """Raise ValueError unless both are directions of one residual stream: of one width, and
        made on the same weights where those are known of both."""
        if self.width != other.width:
            raise ValueError(
                f"widths differ: {self.width} (made on {self.model!r}) and {other.width} "
                f"(made on {other.model!r})"
            )
        if self.fingerprint and other.fingerprint and self.fingerprint != other.fingerprint:
            raise ValueError(
                f"the vectors were made on different weights: {self.model!r} "
                f"({self.fingerprint[:12]}) and {other.model!r} ({other.fingerprint[:12]})"
            )

    def __add__(self, other: SteeringVector) -> SteeringVector:
        return self._combine(other, 1.0, "+")

    def __sub__(self, other: SteeringVector) -> SteeringVector:
        return self._combine(other, -1.0, "-")

    def __mul__(self, factor: float) -> SteeringVector:
        """Every direction times a number. In the default unit of `at`, residual norms, only its
        sign shows: there a vector is a direction without a length."""
        factor = _finite(factor, "multiplied")
        scaled = {layer: direction * factor for layer, direction in self.directions.items()}
        # A turned direction separates the other way round; a scaled one separates the same.
        separation = self.separation if factor > 0 else None
        return replace(self, directions=scaled, separation=separation)

    __rmul__ = __mul__

    def __truediv__(self, factor: float) -> SteeringVector:
        divisor = _finite(factor, "divided")
        if divisor == 0:
            raise ValueError(f"a vector cannot be divided by {factor!r}; give another number")
        return self * (1 / divisor)

    def __neg__(self) -> SteeringVector:
        return self * -1.0

    def _combine(self, other: SteeringVector, sign: float, symbol: str) -> SteeringVector:
        """Layer by layer; a layer that only one of the two has counts as 0 in the other."""
        if not isinstance(other, SteeringVector):
            raise TypeError(f"cannot combine a SteeringVector with {type(other).__name__}")
        self.check_same_stream(other)
        nothing = torch.zeros(self.width)
        directions = {
            layer: self.directions.get(layer, nothing) + sign * other.directions.get(layer, nothing)
            for layer in sorted({*self.layers, *other.layers})
        }
        return replace(
            self,
            directions=directions,
            residual_norm={**other.residual_norm, **self.residual_norm},
            fingerprint=self.fingerprint or other.fingerprint,
            method=f"{self.method} {symbol} {other.method}",
            separation=None,
            provenance={
                "trait": f"{_title(self)} {symbol} {_title(other)}",
                "texts": sorted(self.texts | other.texts),
                "held_out_texts": sorted(self.held_out_texts | other.held_out_texts),
                "terms": [dict(self.provenance), dict(other.provenance)],
            },
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, whole or not at all; `SteeringVector.load` reads it back.

        Raises ValueError for the ending of another format, and OSError (a full disk, say).
        """
        from workbench.vectors.files import save  # which knows this class

        save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SteeringVector:
        """Read what `save` wrote; the same as `workbench.files.load`, and errors as there."""
        from workbench.vectors.files import load

        return load(path)


def _finite(factor: float, verb: str) -> float:
    """A number, of Python or numpy, as a float."""
    if not math.isfinite(number(factor)):
        raise ValueError(f"a vector can be {verb} by a finite number, not by {factor!r}")
    return float(factor)


def _title(vector: SteeringVector) -> str:
    return str(vector.provenance.get("trait") or vector.provenance.get("pairs") or vector.method)
