import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.interventions.updates import Add, Intervention, per_row, scales, schedule, steer
from workbench.vectors.steering_vector import SteeringVector


def test_add_is_h_plus_m_v():
    hidden = torch.randn(2, 3, 4)
    direction = torch.tensor([1.0, -2.0, 0.5, 0.0])
    scale = torch.tensor([[[2.0]] * 3, [[-1.0]] * 3])
    expected = hidden + torch.stack([2 * direction, -direction])[:, None]
    assert torch.equal(Add(direction)(hidden, scale), expected)
    assert Add(direction).width == 4


def test_add_keeps_the_streams_precision():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        out = Add(torch.ones(4))(torch.zeros(1, 1, 4, dtype=dtype), torch.ones(1, 1, 1))
        assert out.dtype == dtype


def test_gradients_reach_the_direction():
    direction = torch.zeros(4, requires_grad=True)
    steer(torch.ones(1, 2, 4), [(Add(direction), torch.tensor([[0.0, 3.0]]))]).sum().backward()
    assert direction.grad is not None
    assert direction.grad.tolist() == [3.0] * 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_directions_and_coefficients_are_finite(bad):
    with pytest.raises(ValueError, match="not finite"):
        Add(torch.tensor([1.0, bad]))
    with pytest.raises(ValueError, match=f"coefficient {bad} is not finite"):
        Intervention(0, Add(torch.ones(2)), bad)
    with pytest.raises(ValueError, match="not finite"):
        Intervention(0, Add(torch.ones(2)), torch.tensor([0.0, bad]))
    with pytest.raises(ValueError, match="not finite"):
        schedule(lambda step: bad if step == 2 else 1.0, rows=2, steps=3)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"direction has shape \(2, 3\)"):
        Add(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"coefficient has shape \(2, 2\)"):
        per_row(torch.ones(2, 2))
    with pytest.raises(ValueError, match="3 coefficients for a batch of 2 rows"):
        schedule(torch.ones(3), rows=2, steps=1)


def test_a_schedule_asks_each_step_once():
    asked = []

    def coefficient(step):
        asked.append(step)
        return torch.tensor([1.0, 2.0]) * step

    assert schedule(coefficient, 2, 3).tolist() == [[0, 1, 2], [0, 2, 4]]
    assert asked == [0, 1, 2]
    assert schedule(5.0, 2, 2).tolist() == [[5, 5], [5, 5]]


def test_columns_before_the_completion_are_step_zero():
    touched = torch.tensor([[False, True, True, True, True], [True, True, True, False, True]])
    starts = torch.tensor([2, 4])
    table = scales(lambda step: 10.0 + step, touched, starts)
    assert table.tolist() == [[0, 10, 11, 12, 13], [10, 10, 10, 0, 11]]


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_untouched_tokens_come_back_bit_for_bit(coefficients, touched):
    mask = torch.tensor(touched).reshape(3, 4)
    hidden = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    table = scales(torch.tensor(coefficients), mask, torch.full((3,), 4))
    out = steer(hidden, [(Add(torch.full((5,), 3.0)), table), (_Worse(), table)])
    assert torch.equal(out[table == 0], hidden[table == 0])
    assert torch.equal(table == 0, ~mask | (torch.tensor(coefficients) == 0)[:, None])


class _Worse:
    """An update that is nowhere near the identity at 0, and not even finite."""

    width = None
    origin = None

    def __call__(self, hidden, scale):
        return hidden / scale


def test_updates_act_in_order():
    class Double:
        width = None
        origin = None

        def __call__(self, hidden, scale):
            return hidden * (1 + scale)

    one, table = torch.ones(1, 1, 2), torch.ones(1, 1)
    add = Add(torch.ones(2))
    assert steer(one, [(add, table), (Double(), table)]).tolist() == [[[4, 4]]]
    assert steer(one, [(Double(), table), (add, table)]).tolist() == [[[3, 3]]]


def test_a_schedule_is_asked_up_to_the_last_step_that_is_touched():
    touched = torch.tensor([[True, True, True, False], [True, False, False, False]])
    starts = torch.tensor([2, 2])
    table = scales([1.0, 2.0].__getitem__, touched, starts)
    assert table.tolist() == [[1, 1, 2, 0], [1, 0, 0, 0]]
    nothing = scales([1.0].__getitem__, torch.zeros(1, 3, dtype=torch.bool), torch.tensor([1]))
    assert nothing.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("update", "words"), [(torch.ones(2), "a tensor of shape (2,)"), (3.0, "3.0"), ("joy", "'joy'")]
)
def test_what_is_no_update_is_refused_with_the_remedy(update, words):
    message = rf"{re.escape(words)} is not an update; .*vector\.at\(coefficient\).*Add\(tensor"
    with pytest.raises(ValueError, match=message):
        Intervention(1, update)


def test_a_steering_vector_is_not_an_update():
    vector = SteeringVector({1: torch.ones(2)}, {}, "tiny", "", "hand", 1)
    with pytest.raises(ValueError, match=r"SteeringVector\(.* is not an update; .*vector\.at"):
        Intervention(1, vector)  # type: ignore[arg-type]


@pytest.mark.parametrize("coefficient", ["abc", None, [[1.0], [1.0, 2.0]], True, 1j])
def test_a_coefficient_is_a_number(coefficient):
    message = re.escape(f"the coefficient {coefficient!r} is not a number; give one number")
    with pytest.raises(ValueError, match=message):
        Intervention(0, Add(torch.ones(2)), coefficient)


def test_a_plain_function_is_an_update_for_any_model():
    steered = Intervention(1, lambda hidden, scale: hidden * (1 - scale))
    assert (steered.update.width, steered.update.origin) == (None, None)
    hidden = torch.ones(2, 3, 4)
    out = steered.update(hidden, torch.tensor([0.0, 1.0]).view(2, 1, 1))
    assert out[0].equal(hidden[0])
    assert not out[1].any()
