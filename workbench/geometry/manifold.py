"""The manifold of ordinary text at each layer: how far an activation lies from it, in a unit that
means something.

Activations of ordinary text at a layer lie near a set; steering moves them along the target
direction and away from that set (arXiv 2602.02343). The set is estimated in three ways
(estimates.py) from one half of the documents (reference.py), and each distance is calibrated on the
other half (calibration.py): that a token lies beyond the 95 % quantile happens to 5 % of ordinary
tokens. Knows nothing of steering.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.forward import reference_files
from workbench.forward.reference import Reference, collect, read_tokens
from workbench.geometry.calibration import Calibration
from workbench.geometry.manifolds import KINDS, TANGENT, Manifold, Manifolds, column
from workbench.statistics.estimates import (
    Clusters,
    Estimate,
    Neighbours,
    Principal,
    Spectrum,
    likelihoods,
)
from workbench.support.checks import require_layers, require_model
from workbench.support.store import cache_path, cached
from workbench.support.versions import versions
from workbench.text.positions import Positions, check_positions, content
from workbench.text.splits import text_hash
from workbench.text.tokens import Prompt

if TYPE_CHECKING:
    from workbench.loading.models import LM

__all__ = [
    "KINDS",
    "TANGENT",
    "Manifold",
    "Manifolds",
    "calibrate",
    "column",
    "distances",
    "estimate",
    "fit",
]


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
    approximate: bool = False,
    clusters: Sequence[int] = (1, 4, 16),
    seed: int = 0,
    cache: bool = True,
    progress: bool = True,
) -> Manifolds:
    """Manifolds of ordinary text: one half of the documents, drawn by the seed, fits them, the
    others calibrate.

    texts   documents in any order, some hundreds of them: the model's own language (ordinary.py)
    layers  all by default
    kinds   the first one is meant where none is named
    cache   keep on disk what was read, and take it from there
    others  as for `collect` and estimates.py

    Raises ValueError for fewer than 40 documents, an unknown kind, a name in place of the model,
    and as `collect`.
    """
    require_model(lm)
    check_positions(positions)
    require_layers(layers)
    if isinstance(texts, str) or len(texts) < 40:
        raise ValueError(
            f"{len(texts)} documents cannot fit and calibrate a manifold: give at least 40, better "
            "400"
        )
    check_kinds(kinds)
    wanted = None if layers is None else tuple(layers)
    order = np.random.default_rng(seed).permutation(len(texts))
    fitting, others = (
        [texts[i] for i in some] for some in np.split(order, [(len(texts) + 1) // 2])
    )

    def compute() -> dict[str, Tensor]:
        found = collect(
            lm,
            fitting,
            wanted,
            positions=positions,
            skip=skip,
            unit=unit,
            sample=sample,
            seed=seed,
            progress=progress,
        )
        return reference_files.pack(found)

    settings = (wanted, repr(positions), skip, unit, sample, seed)
    kept = compute() if not cache else cached(_path(lm, texts, "fit", *settings), compute)
    made = estimate(
        reference_files.unpack(kept),
        kinds=kinds,
        neighbours=neighbours,
        approximate=approximate,
        clusters=clusters,
        positions=positions,
    )

    def distant() -> dict[str, Tensor]:
        table = distances(lm, made, others, progress=progress)
        return {name: torch.from_numpy(table[name].to_numpy().copy()) for name in table.columns}

    settings = (*settings, tuple(kinds), neighbours, approximate, tuple(clusters))
    # Distances belong to the fit, which scikit-learn has a part in.
    path = _path(lm, texts, "calibration", *settings, versions()["scikit-learn"])
    table = distant() if not cache else cached(path, distant)
    return _calibrated(made, {name: values.numpy() for name, values in table.items()})


def _path(lm: LM, texts: Sequence[Prompt], what: str, *settings: object) -> Path:
    """Where what was read of some texts is kept: keyed by the weights and all that decides it."""
    return cache_path(
        "manifold",
        what=what,
        model=lm.fingerprint,
        dtype=str(lm.dtype),
        texts=text_hash("\n".join(map(text_hash, texts))),
        settings=repr(settings),
        version="2",
    )


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
    approximate: bool = False,
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
                made = Neighbours(sample, neighbours, approximate)
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
    return _calibrated(manifolds, {name: table[name].to_numpy() for name in table.columns})


def _calibrated(manifolds: Manifolds, table: Mapping[str, np.ndarray]) -> Manifolds:
    documents = table["document"]
    found = {
        key: replace(each, calibration=Calibration(table[column(*key)], documents))
        for key, each in manifolds.found.items()
    }
    about = {**manifolds.provenance, "calibrated_on": len(np.unique(documents))}
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
