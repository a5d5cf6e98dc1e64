"""Streamed mean and covariance, against numpy on the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.statistics.moments import Moments, merged


def whole(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=0), np.cov(values.T)


def lopsided(count: int = 9000, seed: int = 0) -> np.ndarray:
    """Like a residual stream: far from 0, one coordinate a thousand times larger, float32."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, 24)) @ rng.standard_normal((24, 24))
    values[:, 3] = 1000 * values[:, 3] + 5000
    return values.astype(np.float32)


def test_blocks_of_any_size_give_what_numpy_gives_on_the_whole() -> None:
    values = lopsided()
    mean, covariance = whole(values.astype(np.float64))
    found = Moments(24)
    for block in np.split(values, [1, 1, 700, 5000]):
        found.add(block)
    assert found.count == len(values)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance(), covariance, rtol=1e-9, atol=1e-9)


def test_float64_is_needed_and_is_there() -> None:
    """The small coordinates beside the huge one, which sums of float32 squares lose."""
    values = lopsided()
    exact = np.cov(values.astype(np.float64).T)
    found = Moments(24)
    found.add(values)
    careless = values.T @ values / len(values) - np.outer(values.mean(0), values.mean(0))
    assert abs(careless[3, 3] / exact[3, 3] - 1) > 1e-6
    assert abs(found.covariance()[3, 3] / exact[3, 3] - 1) < 1e-12


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 5))
def test_merging_is_adding(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal((size, 5)) + 100 * seed for size in sizes]
    apart, together = [], Moments(5)
    for block in blocks:
        part = Moments(5)
        part.add(block)
        apart.append(part)
        together.add(block)
    total = merged(apart)
    assert total.count == sum(sizes)
    np.testing.assert_allclose(total.mean, together.mean, atol=1e-10)
    if total.count > 1:
        np.testing.assert_allclose(total.covariance(), together.covariance(), atol=1e-9)
        np.testing.assert_allclose(total.covariance(), np.cov(np.vstack(blocks).T), atol=1e-9)


def test_merging_leaves_the_parts_as_they_were() -> None:
    first, second = Moments(2), Moments(2)
    first.add([[0.0, 1.0], [2.0, 3.0]])
    second.add([[5.0, 5.0]])
    total = merged([first, second])
    total.add([[9.0, 9.0]])
    assert (first.count, second.count) == (2, 1)
    assert first.mean.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 4, 1)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"give \(n, 4\)"):
        Moments(4).add(np.zeros(shape))


def test_what_is_not_finite_is_refused_and_nothing_is_added() -> None:
    moments = Moments(2)
    with pytest.raises(ValueError, match="vector 1 of 3"):
        moments.add([[1.0, 2.0], [np.nan, 0.0], [1.0, 1.0]])
    assert moments.count == 0


def test_too_few_vectors_have_no_covariance() -> None:
    moments = Moments(2)
    moments.add([[1.0, 2.0]])
    with pytest.raises(ValueError, match="two at least"):
        moments.covariance()
    with pytest.raises(ValueError, match="no moments"):
        merged([])
    with pytest.raises(ValueError, match="widths differ"):
        moments.merge(Moments(3))
    with pytest.raises(ValueError, match="width 0"):
        Moments(0)
