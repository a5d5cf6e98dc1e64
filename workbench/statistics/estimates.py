"""How far a vector lies from a cloud of vectors: three estimates of one distance, no models.

principal   Mahalanobis distance in the space of the first k principal components, and what lies
            outside of it by its mean variance: d² = Σ z_i² / λ_i + |r|² / σ², the probabilistic
            PCA of Tipping and Bishop (1999), k and shrinkage by the likelihood of held-out parts
neighbours  distance to the k-th nearest of a sample (Ramaswamy 2000, Sun et al. 2022,
            https://arxiv.org/abs/2204.06507)
clusters    a mixture of Gaussians in the space of the first components: d² = 2 (log p* - log p)
            with p* the greatest density of any cluster, which is Mahalanobis's for one cluster

Each has `distance`: (n, D) -> (n,), in a unit of its own; calibration.py makes them comparable.
scikit-learn searches the neighbours (or faiss, approximately) and fits the mixtures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from workbench.statistics.intervals import Floats
from workbench.statistics.moments import Moments, merged

SHRINKAGES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3)
# Variances below this share of the mean one are rounding.
_LEAST = 1e-12


class Estimate(Protocol):
    """A distance of vectors (n, D) to what it was fitted to, (n,), at least 0."""

    def distance(self, values: Floats) -> Floats: ...


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean (D,), variances (D,) from the largest on, and their directions as rows (D, D)."""

    mean: Floats
    variances: Floats
    directions: Floats

    @classmethod
    def of(cls, moments: Moments) -> Spectrum:
        """Of a covariance that was streamed, by its eigenvectors."""
        variances, columns = np.linalg.eigh(moments.covariance())
        # numpy multiplies what lies backwards in memory without BLAS, a hundred times slower.
        directions = np.ascontiguousarray(columns.T[::-1])
        return cls(moments.mean, variances[::-1].clip(0), directions)

    def shares(self) -> Floats:
        """(D,) the share of the variance that lies in the first 1, 2, … components."""
        return np.cumsum(self.variances) / self.variances.sum()

    def rank_of(self, share: float) -> int:
        """The fewest components that hold a share of the variance."""
        return min(int(np.searchsorted(self.shares(), share)) + 1, len(self.variances))


@dataclass(frozen=True, eq=False)
class Principal:
    """See above. `residual` is σ², unused where the k components span everything.

    mean (D,), components (k, D), variances (k,) after shrinkage
    """

    mean: Floats
    components: Floats
    variances: Floats
    residual: float

    @classmethod
    def of(cls, spectrum: Spectrum, rank: int, shrinkage: float) -> Principal:
        """With the first `rank` components, their variances shrunk towards their mean."""
        kept, residual = _shrunk(spectrum.variances, rank, shrinkage)
        return cls(spectrum.mean, spectrum.directions[:rank], kept, residual)

    @property
    def rank(self) -> int:
        return len(self.variances)

    def parts(self, values: Floats) -> tuple[Floats, Floats]:
        """d² inside of the subspace and outside of it, (n,) each; they add up to distance²."""
        centred = values - self.mean
        inner = centred @ self.components.T
        within = (inner**2 / self.variances).sum(axis=1)
        if self.rank == len(self.mean):
            return within, np.zeros(len(values))
        outer = (centred**2).sum(axis=1) - (inner**2).sum(axis=1)
        return within, outer.clip(0) / self.residual

    def distance(self, values: Floats) -> Floats:
        return np.sqrt(np.add(*self.parts(values)))


def _shrunk(variances: Floats, rank: int, shrinkage: float) -> tuple[Floats, float]:
    """The variances of the kept components, and the mean one of the others."""
    least = max(_LEAST * float(variances.mean()), np.finfo(float).tiny)
    kept = (1 - shrinkage) * variances[:rank] + shrinkage * variances[:rank].mean()
    rest = variances[rank:]
    residual = float(rest.mean()) if len(rest) else 1.0
    return kept.clip(least), residual if residual > least else float(least)


def ranks(width: int) -> tuple[int, ...]:
    """The ranks that are compared for a width: some twenty, from 1 to all."""
    return tuple(sorted({*np.geomspace(1, width, 20).round().astype(int).tolist()}))


def likelihoods(
    folds: Sequence[Moments],
    tried: Sequence[int] | None = None,
    shrinkages: Sequence[float] = SHRINKAGES,
) -> pd.DataFrame:
    """Held-out log-likelihood of every rank and shrinkage: each fold under the others' fit.

    folds  moments of parts that hold different documents, so that what a document repeats does not
           count as having been foreseen

    Columns `rank`, `shrinkage` and `likelihood` (nats per vector and coordinate, mean over the
    folds). Nothing is read again: a Gaussian's likelihood needs no more than mean and covariance.
    Raises ValueError for fewer than two folds and for one that holds fewer than two vectors.
    """
    if len(folds) < 2:
        raise ValueError(f"{len(folds)} folds cannot judge each other: give two at least")
    width = folds[0].width
    chosen = tuple(tried) if tried is not None else ranks(width)
    table = np.zeros((len(chosen), len(shrinkages)))
    for index, judge in enumerate(folds):
        spectrum = Spectrum.of(merged([*folds[:index], *folds[index + 1 :]]))
        gap = judge.mean - spectrum.mean
        spread = judge.covariance() * ((judge.count - 1) / judge.count)
        along = ((spectrum.directions @ spread) * spectrum.directions).sum(axis=1)
        along += (spectrum.directions @ gap) ** 2  # mean square along each component
        total = float(along.sum())
        for row, rank in enumerate(chosen):
            for column, shrinkage in enumerate(shrinkages):
                kept, residual = _shrunk(spectrum.variances, rank, shrinkage)
                cost = np.log(kept).sum() + (along[:rank] / kept).sum()
                if rank < width:
                    cost += (width - rank) * np.log(residual)
                    cost += max(total - along[:rank].sum(), 0) / residual
                table[row, column] -= (cost / width + np.log(2 * np.pi)) / 2 / len(folds)
    rows = [
        (rank, shrinkage, table[i, j])
        for i, rank in enumerate(chosen)
        for j, shrinkage in enumerate(shrinkages)
    ]
    return pd.DataFrame(rows, columns=["rank", "shrinkage", "likelihood"])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """See above: a sample (n, D), and which neighbour counts.

    approximate  look among the nearest cells of the sample alone, by faiss: distances a percent or
                 two too large, three or four times as fast from tens of thousands of vectors on

    Raises ValueError for fewer vectors than neighbours, ImportError for approximate without faiss.
    """

    sample: Floats
    count: int = 10
    approximate: bool = False
    index: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= len(self.sample):
            raise ValueError(
                f"the {self.count}-th neighbour among {len(self.sample)} vectors: give a count of "
                "at least 1, or more vectors"
            )
        # float32 halves the time; a distance needs no more digits.
        vectors = self.sample.astype(np.float32)
        search = NearestNeighbors(n_neighbors=self.count, algorithm="brute")
        index = _cells(vectors) if self.approximate else search.fit(vectors)
        object.__setattr__(self, "index", index)

    def distance(self, values: Floats) -> Floats:
        asked = values.astype(np.float32)
        if self.approximate:
            squares, _ = self.index.search(asked, self.count)
            return np.sqrt(squares[:, -1].astype(np.float64))
        found, _ = self.index.kneighbors(asked)
        return found[:, -1].astype(np.float64)


def _cells(vectors: np.ndarray) -> Any:
    """An index of vectors (n, D) by cells, 4 √n of them, 32 of which are looked through."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "approximate neighbours need faiss: pip install faiss-cpu, or approximate=False"
        ) from error
    count, width = vectors.shape
    cells = max(1, min(count // 10, round(4 * count**0.5)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells)
    index.cp.min_points_per_centroid = 1  # silent where cells are small
    index.train(vectors)
    index.add(vectors)
    index.nprobe = min(32, cells)
    return index


@dataclass(frozen=True, eq=False)
class Clusters:
    """See above: a mixture in the space of some components, and what lies outside of it by its mean
    variance, the same for all clusters."""

    mean: Floats
    components: Floats
    mixture: GaussianMixture
    residual: float

    @classmethod
    def of(
        cls,
        spectrum: Spectrum,
        sample: Floats,
        documents: Sequence[int] | np.ndarray,
        *,
        counts: Sequence[int] = (1, 4, 16),
        rank: int = 32,
        seed: int = 0,
    ) -> Clusters:
        """With the number of clusters under which a quarter of the documents, held out, is most
        likely; then fitted to all.

        sample     (n, D) vectors, of the documents (n,)
        rank       of the space in which clusters are sought

        Raises ValueError for no counts and a sample with fewer vectors than clusters.
        """
        if not counts or min(counts) < 1 or max(counts) > len(sample):
            raise ValueError(
                f"{list(counts)!r} clusters of {len(sample)} vectors: give numbers from 1 to that"
            )
        rank = min(rank, len(spectrum.variances))
        components = spectrum.directions[:rank]
        inner = (sample - spectrum.mean) @ components.T
        held = np.asarray(documents) % 4 == 0
        judged = bool(held.any()) and int((~held).sum()) >= max(counts) and len(counts) > 1
        best = counts[0]
        if judged:
            scores = [_mixture(inner[~held], k, seed).score(inner[held]) for k in counts]
            best = counts[int(np.argmax(scores))]
        _, residual = _shrunk(spectrum.variances, rank, 0.0)
        return cls(spectrum.mean, components, _mixture(inner, best, seed), residual)

    @property
    def count(self) -> int:
        return int(self.mixture.n_components)

    def distance(self, values: Floats) -> Floats:
        centred = values - self.mean
        inner = centred @ self.components.T
        # The greatest density of any cluster, at its own mean.
        roots = np.asarray(self.mixture.precisions_cholesky_)
        peaks = np.log(self.mixture.weights_) + np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(
            axis=1
        )
        top = float(peaks.max()) - len(self.components) * np.log(2 * np.pi) / 2
        squared = 2 * (top - self.mixture.score_samples(inner)).clip(0)
        if len(self.components) < len(self.mean):
            outer = (centred**2).sum(axis=1) - (inner**2).sum(axis=1)
            squared = squared + outer.clip(0) / self.residual
        return np.sqrt(squared)


def _mixture(inner: Floats, count: int, seed: int) -> GaussianMixture:
    """A mixture whose clusters keep a hundredth of the mean variance in every direction."""
    floor = 0.01 * float(inner.var(axis=0).mean())
    return GaussianMixture(count, reg_covar=floor, random_state=seed, max_iter=60).fit(inner)
