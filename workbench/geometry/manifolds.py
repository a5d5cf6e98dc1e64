"""One distance from ordinary text for each layer and kind of estimate, calibrated.

Pure arithmetic on activations: how a manifold is fitted stands in manifold.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.forward.streaming import as_stream
from workbench.geometry.calibration import Calibration, Per
from workbench.statistics.estimates import Estimate, Principal, Spectrum
from workbench.statistics.intervals import Floats
from workbench.text.positions import Positions

KINDS = ("principal", "neighbours", "clusters")
# The tangent is spanned by the components that hold this share of the variance of ordinary text.
TANGENT = 0.9


@dataclass(frozen=True, eq=False)
class Manifold:
    """One estimate at one layer.

    kind         of `KINDS`
    unit         whether streams are looked at at unit length (times √D)
    tangent      (k, D) orthonormal rows: the components with 90 % of the variance
    calibration  distances of ordinary text that fitted nothing; None before `calibrate`
    """

    layer: int
    kind: str
    estimate: Estimate
    unit: bool
    tangent: Tensor
    calibration: Calibration | None = None

    def distance(self, hidden: Tensor) -> Tensor:
        """The distance of streams (…, D) from ordinary text, (…) float64: at least 0, in the
        estimate's own unit. Raises ValueError for another width."""
        width = self.tangent.shape[1]
        if hidden.shape[-1] != width:
            raise ValueError(f"streams {hidden.shape[-1]} wide; this manifold is {width} wide")
        flat = as_stream(hidden.detach().double().cpu().reshape(-1, width), self.unit)
        found = self.estimate.distance(flat.numpy()) if len(flat) else np.zeros(0)
        return torch.from_numpy(np.asarray(found)).reshape(hidden.shape[:-1])

    def threshold(self, level: float = 0.95, per: Per = "token") -> float:
        """The distance that this share of ordinary tokens (or of documents' means) keeps within.

        Raises ValueError where nothing has calibrated it, and as `Calibration.threshold`.
        """
        return self.calibrated.threshold(level, per)

    def rank(self, distances: Tensor | Floats, per: Per = "token") -> Floats:
        """The share of ordinary tokens (or documents' means) that lie nearer than each distance."""
        return self.calibrated.rank(distances, per)

    @property
    def calibrated(self) -> Calibration:
        """The calibration. Raises ValueError where there is none."""
        if self.calibration is None:
            raise ValueError(
                f"the {self.kind} manifold of layer {self.layer} is not calibrated: calibrate it "
                "on ordinary text that did not fit it (manifold.calibrate)"
            )
        return self.calibration

    def inside(self, change: Tensor) -> Tensor:
        """The part of changes of the stream (…, D) that lies along the tangent, (…, D)."""
        basis = self.tangent.to(change.device, change.dtype)
        return (change @ basis.T) @ basis

    def share_inside(self, change: Tensor) -> Tensor:
        """Of the squared length of changes (…, D) the share along the tangent, (…); NaN for none.

        A random direction has the share k / D, see `chance`."""
        basis = self.tangent.to(change.device, change.dtype)
        return (change @ basis.T).square().sum(-1) / change.square().sum(-1)

    @property
    def chance(self) -> float:
        """The share of the tangent in all dimensions."""
        return self.tangent.shape[0] / self.tangent.shape[1]


@dataclass(frozen=True, eq=False)
class Manifolds:
    """Estimates by layer and kind.

    found       (layer, kind) -> Manifold
    choices     what rank and shrinkage were tried at each layer, and how likely they made documents
                held out: `layer`, `rank`, `shrinkage`, `likelihood`
    lengths     how long the stream is by position, see `Reference.lengths`
    positions   the tokens that manifolds are for; `skip` how many of a text's first ones are not
    """

    found: Mapping[tuple[int, str], Manifold]
    choices: pd.DataFrame
    lengths: pd.DataFrame
    spectra: Mapping[int, Spectrum]
    positions: Positions
    skip: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(layer for layer, _ in self.found))

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind for _, kind in self.found))

    def __repr__(self) -> str:
        return f"Manifolds(layers {list(self.layers)}, kinds {list(self.kinds)})"

    def __iter__(self) -> Iterator[Manifold]:
        return iter(self.found.values())

    def at(self, layer: int, kind: str | None = None) -> Manifold:
        """The estimate of a layer, of the first kind unless it is named. Raises ValueError where
        there is none."""
        chosen = self.kinds[0] if kind is None else kind
        if (layer, chosen) not in self.found:
            raise ValueError(
                f"no {chosen!r} manifold of layer {layer!r}: layers {list(self.layers)}, kinds "
                f"{list(self.kinds)} are there"
            )
        return self.found[layer, chosen]

    def principal(self, layer: int) -> Principal:
        """The estimate "principal" of a layer. Raises ValueError where there is none."""
        found = self.at(layer, "principal").estimate
        if not isinstance(found, Principal):
            raise ValueError(f"'principal' of layer {layer} is a {type(found).__name__}")
        return found


def column(layer: int, kind: str) -> str:
    """What a table of distances calls a manifold, such as "3 principal"."""
    return f"{layer} {kind}"
