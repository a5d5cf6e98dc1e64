"""The manifold of ordinary text at each layer: how far an activation lies from it, in a unit that
means something.

Activations of ordinary text at a layer lie near a set; steering moves them along the target
direction and away from that set (arXiv 2602.02343). The set is estimated in three ways
(estimates.py) from one half of the documents (reference.py), and each distance is calibrated on the
other half (calibration.py): that a token lies beyond the 95 % quantile happens to 5 % of ordinary
tokens. Knows nothing of steering.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.calibration import Calibration, Per
from workbench.estimates import Clusters, Estimate, Neighbours, Principal, Spectrum, likelihoods
from workbench.intervals import Floats
from workbench.positions import Positions, content
from workbench.reference import Reference, collect, read_tokens
from workbench.streaming import as_stream
from workbench.tokens import Prompt

if TYPE_CHECKING:
    from workbench.models import LM

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


def fit(
    lm: LM,
    texts: Sequence[Prompt],
    layers: Sequence[int] | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    positions: Positions = content,
    skip: int | None = None,
    unit: bool = True,
    sample: int = 4096,
    neighbours: int = 10,
    clusters: Sequence[int] = (1, 4, 16),
    seed: int = 0,
    progress: bool = True,
) -> Manifolds:
    """Manifolds of ordinary text: every other document fits them, the others calibrate.

    texts   documents, some hundreds of them: the model's own language (ordinary.py)
    layers  all by default
    kinds   the first one is meant where none is named
    others  as for `collect` and estimates.py

    Raises ValueError for fewer than 40 documents, an unknown kind, and as `collect`.
    """
    if isinstance(texts, str) or len(texts) < 40:
        raise ValueError(
            f"{len(texts)} documents cannot fit and calibrate a manifold: give at least 40, better "
            "400"
        )
    check_kinds(kinds)
    reference = collect(
        lm,
        texts[::2],
        layers,
        positions=positions,
        skip=skip,
        unit=unit,
        sample=sample,
        seed=seed,
        progress=progress,
    )
    made = estimate(
        reference, kinds=kinds, neighbours=neighbours, clusters=clusters, positions=positions
    )
    return calibrate(lm, made, texts[1::2], progress=progress)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise ValueError unless all are of `KINDS`, and there is one."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if isinstance(kinds, str) or unknown or not kinds:
        raise ValueError(f"kinds {kinds!r}: give a list of some of {', '.join(KINDS)}")


def estimate(
    reference: Reference,
    *,
    kinds: Sequence[str] = KINDS,
    neighbours: int = 10,
    clusters: Sequence[int] = (1, 4, 16),
    positions: Positions = content,
) -> Manifolds:
    """Manifolds from activations that were collected, not calibrated yet; no model runs.

    Raises ValueError for an unknown kind, and as the estimates do.
    """
    check_kinds(kinds)
    found: dict[tuple[int, str], Manifold] = {}
    tables, spectra = [], {}
    for layer in reference.layers:
        table = likelihoods(reference.folds[layer])
        tables.append(table.assign(layer=layer))
        best = table.loc[table["likelihood"].idxmax()]
        spectrum = spectra[layer] = Spectrum.of(reference.moments(layer))
        sample = reference.samples[layer].astype(np.float64)
        rank = spectrum.rank_of(TANGENT)
        tangent = torch.from_numpy(spectrum.directions[:rank].copy())
        for kind in kinds:
            if kind == "principal":
                made: Estimate = Principal.of(spectrum, int(best["rank"]), best["shrinkage"])
            elif kind == "neighbours":
                made = Neighbours(sample, neighbours)
            else:
                made = Clusters.of(spectrum, sample, reference.documents, counts=clusters)
            found[layer, kind] = Manifold(layer, kind, made, reference.unit, tangent)
    return Manifolds(
        found=found,
        choices=pd.concat(tables, ignore_index=True),
        lengths=reference.lengths,
        spectra=spectra,
        positions=positions,
        skip=reference.skip,
        provenance={**reference.provenance, "unit": reference.unit, "rule": reference.rule},
    )


def calibrate(
    lm: LM, manifolds: Manifolds, texts: Iterable[Prompt], *, progress: bool = True
) -> Manifolds:
    """The same manifolds, calibrated on documents that fitted none of them."""
    table = distances(lm, manifolds, texts, progress=progress)
    documents = table["document"].to_numpy()
    found = {
        key: replace(each, calibration=Calibration(table[column(*key)].to_numpy(), documents))
        for key, each in manifolds.found.items()
    }
    about = {**manifolds.provenance, "calibrated_on": int(table["document"].nunique())}
    return replace(manifolds, found=found, provenance=about)


def distances(
    lm: LM, manifolds: Manifolds, texts: Iterable[Prompt], *, progress: bool = True
) -> pd.DataFrame:
    """Distances of texts as they are, unsteered: one row per token that manifolds are for.

    Columns `document` (its index), `position`, and `LAYER KIND` for every manifold, such as
    "3 principal". Raises ValueError as `read_tokens`, and where no text has such a token.
    """
    every = list(texts)
    parts = []
    layers = manifolds.layers
    for read in read_tokens(
        lm, every, layers, manifolds.positions, manifolds.skip, progress=progress
    ):
        columns: dict[str, Any] = {"document": read.documents, "position": read.positions}
        for (layer, kind), each in manifolds.found.items():
            hidden = read.values[:, layers.index(layer)]
            columns[column(layer, kind)] = each.distance(hidden).numpy()
        parts.append(pd.DataFrame(columns))
    if not parts:
        raise ValueError(
            f"{manifolds.positions!r} chooses no token of the {len(every)} texts given"
        )
    return pd.concat(parts, ignore_index=True)


def column(layer: int, kind: str) -> str:
    """What `distances` calls a manifold."""
    return f"{layer} {kind}"
