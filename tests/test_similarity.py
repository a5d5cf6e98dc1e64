"""Similarities by their definitions, and what leaves them as they are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.statistics.similarity import SIMILARITIES, similarity

SEEDS = st.integers(0, 10_000)
FACTORS = st.floats(0.01, 100)


def drawn(seed: int, rows: int = 3, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Streams (rows, width) and a direction."""
    made = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, width, generator=made, dtype=torch.float64),
        torch.randn(width, generator=made, dtype=torch.float64),
    )


def test_numbers_by_hand() -> None:
    hidden, direction = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([2.0, 0.0])
    assert similarity("cosine", hidden, direction).tolist() == [0.6, 0.0]
    assert similarity("projection", hidden, direction).tolist() == [3.0, 0.0]
    assert similarity("probe", hidden, direction, -1.5).tolist() == [4.5, -1.5]
    shown = torch.tanh(torch.tensor([3.0, 0.0], dtype=torch.float64))
    wanted = float(3 * shown[0] / (5 * shown[0]))
    assert similarity("unsigned", hidden, direction).tolist() == pytest.approx([wanted, 0.0])


@given(SEEDS)
def test_unsigned_is_the_cosine_with_the_squashed_projection(seed: int) -> None:
    hidden, c = drawn(seed)
    projector = torch.outer(c, c) / (c @ c)
    for row, found in zip(hidden, similarity("unsigned", hidden, c), strict=True):
        shown = torch.tanh(projector @ row)
        wanted = torch.nn.functional.cosine_similarity(row, shown, dim=0)
        assert float(found) == pytest.approx(float(wanted), abs=1e-12)


@given(SEEDS, FACTORS)
def test_the_length_of_a_direction_counts_for_a_probe_alone(seed: int, factor: float) -> None:
    hidden, c = drawn(seed)
    for kind in ("cosine", "projection", "unsigned"):
        torch.testing.assert_close(
            similarity(kind, hidden, factor * c), similarity(kind, hidden, c)
        )
    probe = similarity("probe", hidden, factor * c, 0.5)
    torch.testing.assert_close(probe, factor * similarity("probe", hidden, c) + 0.5)


@given(SEEDS)
def test_the_sign_of_a_direction_counts_unless_unsigned(seed: int) -> None:
    hidden, c = drawn(seed)
    for kind in ("cosine", "projection", "probe"):
        assert torch.equal(similarity(kind, hidden, -c), -similarity(kind, hidden, c))
    unsigned = similarity("unsigned", hidden, c)
    assert torch.equal(similarity("unsigned", hidden, -c), unsigned)
    assert (unsigned >= 0).all()


@given(SEEDS, FACTORS)
def test_the_length_of_a_stream_does_not_count_for_a_cosine(seed: int, factor: float) -> None:
    hidden, c = drawn(seed)
    cosine = similarity("cosine", hidden, c)
    torch.testing.assert_close(similarity("cosine", factor * hidden, c), cosine)
    assert (cosine.abs() <= 1 + 1e-12).all()
    # tanh of little is itself.
    little = similarity("unsigned", 1e-5 * hidden, c)
    torch.testing.assert_close(little, cosine.abs(), atol=1e-8, rtol=0)


def test_all_are_float64_of_any_stream_and_of_any_shape() -> None:
    hidden, c = drawn(0, rows=4)
    for kind in SIMILARITIES:
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            found = similarity(kind, hidden.to(dtype).view(2, 2, -1), c.float())
            assert found.dtype == torch.float64
            assert found.shape == (2, 2)
            exact = similarity(kind, hidden.to(dtype).double(), c.float().double())
            assert torch.equal(found.flatten(), exact)


def test_a_stream_of_length_0_resembles_nothing() -> None:
    c = torch.ones(3)
    for kind in SIMILARITIES:
        assert float(similarity(kind, torch.zeros(3), c)) == 0


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="similarity 'angle' is unknown; choose one of cosine"):
        similarity("angle", torch.ones(2), torch.ones(2))  # pyright: ignore[reportArgumentType]
