"""Replace, remove a direction, turn: the maps as formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.interventions.maps import RemoveDirection, Replace, Turn
from workbench.interventions.updates import steer

SEEDS = st.integers(0, 10_000)


def made(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def ones(hidden: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    return torch.full((*hidden.shape[:2], 1), scale, dtype=hidden.dtype)


@given(SEEDS)
def test_what_is_replaced_is_the_target_exactly(seed: int) -> None:
    hidden, target = 1e6 * made(seed, 2, 3, 4), made(seed + 1, 4)
    assert torch.equal(Replace(target)(hidden, ones(hidden)), target.expand_as(hidden))
    half = Replace(target)(hidden, ones(hidden, 0.5))
    torch.testing.assert_close(half, (hidden + target) / 2)
    share = torch.tensor([0.0, 1, 1, 0], dtype=torch.float64)
    found = Replace(target, share)(hidden, ones(hidden))
    assert torch.equal(found[..., 1:3], target[1:3].expand(2, 3, 2))
    assert torch.equal(found[..., ::3], hidden[..., ::3])


def test_each_row_has_its_own_share_and_each_token_its_own_target() -> None:
    hidden, target = made(0, 2, 3, 4), made(1, 2, 3, 4)
    share = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    found = Replace(target, share)(hidden, ones(hidden))
    expected = hidden.clone()
    expected[0, :, 0], expected[1, :, 3] = target[0, :, 0], target[1, :, 3]
    assert torch.equal(found, expected)


@given(SEEDS)
def test_nothing_is_left_along_a_direction(seed: int) -> None:
    hidden, direction = made(seed, 2, 3, 5), made(seed + 1, 5)
    found = RemoveDirection(direction)(hidden, ones(hidden))
    torch.testing.assert_close(found @ direction, torch.zeros(2, 3, dtype=torch.float64))
    mirrored = RemoveDirection(direction)(hidden, ones(hidden, 2.0))
    torch.testing.assert_close(mirrored.norm(dim=-1), hidden.norm(dim=-1))
    torch.testing.assert_close((found - hidden) * 2, mirrored - hidden)


@given(SEEDS)
def test_along_a_direction_there_is_what_the_target_has(seed: int) -> None:
    hidden, target = made(seed, 2, 3, 5), made(seed + 1, 2, 3, 5)
    rows = made(seed + 2, 2, 5)
    found = RemoveDirection(rows, target)(hidden, ones(hidden))
    for row, direction in enumerate(rows):
        torch.testing.assert_close(found[row] @ direction, target[row] @ direction)
        # The change lies along the direction alone.
        change = found[row] - hidden[row]
        unit = direction / direction.norm()
        torch.testing.assert_close(change, (change @ unit)[:, None] * unit)


@given(SEEDS, st.floats(-3.0, 3.0))
def test_a_turn_keeps_the_length_and_turns_by_the_angle(seed: int, angle: float) -> None:
    hidden, direction = made(seed, 2, 3, 5), made(seed + 1, 5)
    found = Turn(direction)(hidden, ones(hidden, angle))
    torch.testing.assert_close(found.norm(dim=-1), hidden.norm(dim=-1))
    cosine = torch.nn.functional.cosine_similarity(found, hidden, dim=-1)
    torch.testing.assert_close(cosine, torch.full_like(cosine, math.cos(angle)))
    # It stays in the plane of the stream and the direction.
    plane = torch.stack([hidden[0, 0], direction])
    assert torch.linalg.matrix_rank(torch.cat([plane, found[0, :1]])) == 2


def test_a_turn_by_the_angle_between_them_ends_at_the_direction() -> None:
    hidden, direction = torch.tensor([[[3.0, 0, 0]]]), torch.tensor([0.0, 2, 0])
    found = Turn(direction)(hidden, torch.full((1, 1, 1), math.pi / 2))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 3, 0]]]))
    back = Turn(direction)(hidden, torch.full((1, 1, 1), -math.pi / 2))
    torch.testing.assert_close(back, torch.tensor([[[0.0, -3, 0]]]))


@pytest.mark.parametrize("hidden", [[0.0, 0, 0], [0.0, 5, 0], [0.0, -5, 0]])
def test_a_stream_without_a_plane_stays(hidden: list[float]) -> None:
    stream = torch.tensor([[hidden]])
    assert torch.equal(Turn(torch.tensor([0.0, 2, 0]))(stream, torch.ones(1, 1, 1)), stream)


@pytest.mark.parametrize(
    "update",
    [Replace(torch.ones(4)), RemoveDirection(torch.ones(4)), Turn(torch.ones(4))],
    ids=lambda update: type(update).__name__,
)
def test_a_coefficient_of_0_leaves_a_token_bit_for_bit(update) -> None:
    hidden = torch.randn(2, 3, 4)
    scale = torch.tensor([[0.0, 1, 0], [0, 0, 0]])
    found = steer(hidden, [(update, scale)])
    assert torch.equal(found[scale == 0], hidden[scale == 0])
    assert not torch.equal(found[0, 1], hidden[0, 1])
    half = steer(hidden.bfloat16(), [(update, scale)])
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1.0, 2e3])  # 2e3: of a length that float16 does not hold
def test_in_half_precision_a_map_is_rounded_once(dtype: torch.dtype, size: float) -> None:
    width = 2048
    hidden = (size * made(0, 2, 3, width)).to(dtype)
    direction, target = made(1, width), size * made(2, width)
    rows = (direction.float(), target.float())
    for update, exact in (
        (RemoveDirection(rows[0]), RemoveDirection(direction)),
        (RemoveDirection(*rows), RemoveDirection(direction, target)),
        (Turn(rows[0]), Turn(direction)),
        (Replace(rows[1]), Replace(target)),
    ):
        scale = ones(hidden.double(), 0.7)
        found = update(hidden, scale.float())
        expected = exact(hidden.double(), scale)
        assert found.dtype == dtype
        rounded = expected.to(dtype)
        # Nothing but ties of the rounding may fall out otherwise.
        assert (found == rounded).double().mean() > 0.995
        torch.testing.assert_close(found, rounded, atol=1e-2 * size, rtol=1e-2)
    one, unit = ones(hidden.double()).float(), direction / direction.norm()
    eps = torch.finfo(dtype).eps
    left = RemoveDirection(rows[0])(hidden, one).double() @ unit
    # Roundings of D entries, independent of each other, along a direction of length 1.
    assert left.abs().max() < 4 * eps / 2 * size
    turned = Turn(rows[0])(hidden, one).double().norm(dim=-1)
    length = hidden.double().norm(dim=-1)
    torch.testing.assert_close(turned, length, rtol=eps / 10, atol=0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the target has shape \(2, 3\)"):
        Replace(torch.ones(2, 3))
    with pytest.raises(ValueError, match="target has values that are not finite"):
        RemoveDirection(torch.ones(2), torch.tensor([math.nan, 0]))
    with pytest.raises(ValueError, match=r"share has shape \(3,\); give \(2,\) or \(rows, 2\)"):
        Replace(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match=r"belongs to a batch of .2, 5. tokens, not to .2, 1."):
        Replace(torch.ones(2, 5, 3))(torch.ones(2, 1, 3), torch.ones(2, 1, 1))
    for kind in (RemoveDirection, Turn):
        with pytest.raises(ValueError, match="has length 0"):
            kind(torch.zeros(3))
        with pytest.raises(ValueError, match="not finite"):
            kind(torch.tensor([math.inf, 0]))
    with pytest.raises(ValueError, match=r"direction has shape \(1, 3\)"):
        Turn(torch.ones(1, 3))
