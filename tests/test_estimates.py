"""Distances from clouds of vectors, against scikit-learn and closed forms."""

import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from workbench.statistics.estimates import (
    Clusters,
    Neighbours,
    Principal,
    Spectrum,
    likelihoods,
    ranks,
)
from workbench.statistics.moments import Moments, merged

WIDTH = 12


def cloud(count: int = 4000, rank: int = 4, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """A few strong directions in a little noise, off the origin."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(9).standard_normal((WIDTH, WIDTH)))[0]
    strong = rng.standard_normal((count, rank)) * np.linspace(4, 1, rank)
    return 3 + strong @ basis[:, :rank].T + noise * rng.standard_normal((count, WIDTH))


def moments(values: np.ndarray) -> Moments:
    made = Moments(values.shape[1])
    made.add(values)
    return made


def test_spectrum_is_that_of_scikit_learn() -> None:
    values = cloud()
    found = Spectrum.of(moments(values))
    peer = PCA().fit(values)
    np.testing.assert_allclose(found.variances, peer.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(
        np.abs(found.directions @ peer.components_.T), np.eye(WIDTH), atol=1e-6
    )
    assert (
        found.rank_of(0.9)
        == int(np.searchsorted(np.cumsum(peer.explained_variance_ratio_), 0.9)) + 1
    )


@pytest.mark.parametrize("rank", [3, WIDTH])
def test_principal_is_the_distance_of_probabilistic_pca(rank: int) -> None:
    values, others = cloud(), cloud(seed=1) + 0.5
    found = Principal.of(Spectrum.of(moments(values)), rank, 0.0)
    peer = PCA(rank).fit(values)
    gap = others - peer.mean_
    # With noise_variance_ subtracted and added again, its covariance is ours.
    precision = np.linalg.inv(peer.get_covariance())
    exact = np.sqrt(np.einsum("ni,ij,nj->n", gap, precision, gap))
    np.testing.assert_allclose(found.distance(others), exact, rtol=1e-6)


def test_likelihood_is_that_of_scikit_learn() -> None:
    parts = [cloud(1500, seed=s) for s in range(3)]
    folds = [moments(part) for part in parts]
    table = likelihoods(folds, [2, 5], [0.0]).set_index("rank")["likelihood"]
    for rank in (2, 5):
        scores = [
            PCA(rank, svd_solver="full").fit(np.vstack(parts[:i] + parts[i + 1 :])).score(parts[i])
            for i in range(3)
        ]
        assert table[rank] == pytest.approx(np.mean(scores) / WIDTH, abs=1e-6)


def test_held_out_likelihood_finds_the_rank() -> None:
    folds = [moments(cloud(1000, rank=4, seed=s)) for s in range(4)]
    table = likelihoods(folds, range(1, WIDTH + 1))
    assert int(table.loc[table["likelihood"].idxmax(), "rank"]) == 4


def test_few_vectors_ask_for_shrinkage() -> None:
    """Where vectors are as few as dimensions their covariance is not to be believed."""
    folds = [moments(np.random.default_rng(s).standard_normal((8, WIDTH))) for s in range(3)]
    table = likelihoods(folds, [WIDTH])
    best = table.loc[table["likelihood"].idxmax()]
    assert best["shrinkage"] >= 0.1


def test_ranks_reach_from_one_to_all() -> None:
    assert ranks(1) == (1,)
    assert ranks(192)[0] == 1
    assert ranks(192)[-1] == 192


def test_the_two_parts_of_a_distance() -> None:
    made = Principal.of(Spectrum.of(moments(cloud())), 4, 0.0)
    along = made.mean + 10 * made.components[:1]
    within, outside = made.parts(along)
    assert within[0] == pytest.approx(100 / made.variances[0])
    assert outside[0] == pytest.approx(0, abs=1e-6)
    across = made.mean + 10 * np.linalg.svd(made.components)[2][-1:]
    within, outside = made.parts(across)
    assert within[0] == pytest.approx(0, abs=1e-6)
    assert outside[0] == pytest.approx(100 / made.residual)


def test_neighbours_are_exact() -> None:
    sample, others = cloud(500), cloud(50, seed=1)
    gaps = np.linalg.norm(others[:, None] - sample[None], axis=2)
    exact = np.sort(gaps, axis=1)[:, 6]
    np.testing.assert_allclose(Neighbours(sample, 7).distance(others), exact, rtol=1e-3)
    peer = NearestNeighbors(n_neighbors=7, algorithm="kd_tree").fit(sample)
    np.testing.assert_allclose(peer.kneighbors(others)[0][:, -1], exact)


@pytest.mark.parametrize("count", [0, 6])
def test_a_neighbour_that_is_not_there(count: int) -> None:
    with pytest.raises(ValueError, match=f"the {count}-th neighbour among 5"):
        Neighbours(cloud(5), count)


def test_approximate_neighbours_are_nearly_the_exact_ones() -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((6000, 16)) * np.geomspace(3, 0.3, 16)
    others = 1.5 * sample[:200] + 0.1
    exact = Neighbours(sample, 10).distance(others)
    found = Neighbours(sample, 10, approximate=True).distance(others)
    assert (found >= exact * (1 - 1e-4)).all()  # what is looked through is a part
    assert float(np.median(found / exact)) < 1.02
    # A sample smaller than the cells that are looked through is looked through whole.
    few = Neighbours(sample[:300], 10, approximate=True).distance(others)
    np.testing.assert_allclose(few, Neighbours(sample[:300], 10).distance(others), rtol=1e-4)


def test_without_faiss_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        Neighbours(np.zeros((20, 3)), 2, approximate=True)


def test_one_cluster_is_mahalanobis() -> None:
    values, others = cloud(noise=0.5), cloud(100, noise=0.5, seed=1)
    spectrum = Spectrum.of(moments(values))
    one = Clusters.of(spectrum, values, np.arange(len(values)), counts=(1,), rank=4)
    peer = Principal.of(spectrum, 4, 0.0)
    # The mixture keeps a hundredth of the mean variance in every direction.
    np.testing.assert_allclose(one.distance(others), peer.distance(others), rtol=0.03)


def test_clusters_see_the_gap_between_two() -> None:
    rng = np.random.default_rng(0)
    middles = np.zeros((2, WIDTH))
    middles[:, 0] = 10, -10
    values = middles[rng.integers(2, size=3000)] + rng.standard_normal((3000, WIDTH))
    spectrum = Spectrum.of(moments(values))
    found = Clusters.of(spectrum, values, rng.integers(40, size=3000), counts=(1, 2), rank=3)
    assert found.count == 2
    between, on = found.distance(np.stack([np.zeros(WIDTH), middles[0]]))
    assert between > 8 > 1 > on
    single = Principal.of(spectrum, WIDTH, 0.0)
    assert single.distance(np.zeros((1, WIDTH)))[0] < 1


def test_more_clusters_than_vectors_are_refused() -> None:
    spectrum = Spectrum.of(moments(cloud()))
    with pytest.raises(ValueError, match="clusters of 3 vectors"):
        Clusters.of(spectrum, cloud(3), np.arange(3), counts=(4,))


def test_one_fold_judges_nothing() -> None:
    with pytest.raises(ValueError, match="two at least"):
        likelihoods([moments(cloud(10))])


def test_folds_together_are_the_whole() -> None:
    parts = [cloud(300, seed=s) for s in range(3)]
    together = merged([moments(part) for part in parts])
    np.testing.assert_allclose(together.covariance(), np.cov(np.vstack(parts).T), rtol=1e-9)
