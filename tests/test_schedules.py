"""Schedules: the coefficient of a step, from what the models say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workbench.composition import schedules
from workbench.composition.schedules import Seen


def logs(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).log()


def seen(clean: Tensor, steered: Tensor, spent: float = 0.0) -> Seen:
    return Seen(clean, steered, torch.full((len(clean),), spent))


def test_those_that_look_at_nothing() -> None:
    start, fixed, falling = (
        schedules.Start(1.5), schedules.Fixed(1.5), schedules.Diminishing(1.5),
    )  # fmt: skip
    found = [[each(step, 3, None) for step in range(3)] for each in (start, fixed, falling)]
    assert found == [[1.5, 0, 0], [1.5] * 3, [1.5, 1.0, pytest.approx(0.5)]]
    given = schedules.Given(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert [given(step, 3, None).tolist() for step in range(3)] == [[1, 3], [2, 4], [0, 0]]
    assert all(each.probe is None for each in (start, fixed, falling, given))


def test_dynamic_is_the_kl_of_the_likely_tokens_clipped() -> None:
    clean, steered = logs([0.6, 0.3, 0.1]), logs([0.2, 0.7, 0.1])
    p, q = (0.6 / 0.9, 0.3 / 0.9), (0.2 / 0.9, 0.7 / 0.9)
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    looked = seen(clean, steered)
    assert schedules.Dynamic(0.5)(0, 9, looked).item() == pytest.approx(kl)
    assert schedules.Dynamic(0.5, divided=True)(0, 9, looked).item() == pytest.approx(kl / 2)
    assert schedules.Dynamic(0.5, clip=(0.6, 2))(0, 9, looked).item() == pytest.approx(0.6)
    assert schedules.Dynamic(0.5, clip=(0, 0.1))(0, 9, looked).item() == pytest.approx(0.1)
    # One token that both hold most likely: nothing is left to differ.
    assert schedules.Dynamic(0.05)(0, 9, seen(clean, clean)).item() == 0


def test_properties_that_look_together_share_a_budget() -> None:
    one = seen(logs([0.6, 0.3, 0.1]), logs([0.5, 0.4, 0.1]))
    alone = schedules.Budget(1.0, most=100.0)(0, 10, one)
    together = schedules.Budget(1.0, most=100.0)(0, 10, replace(one, together=4))
    assert together == pytest.approx(alone / 2)  # a KL grows with the square


def test_a_budget_is_spent_evenly_and_never_twice() -> None:
    clean, steered = logs([0.6, 0.3, 0.1]), logs([0.2, 0.7, 0.1])
    probed = schedules.divergence(steered, clean).item()
    budget = schedules.Budget(4 * probed, most=9)
    assert budget(0, 4, seen(clean, steered)).item() == pytest.approx(1)
    assert budget(3, 4, seen(clean, steered, 0.0)).item() == pytest.approx(2)
    assert budget(1, 4, seen(clean, steered, 4 * probed)).item() == 0
    assert budget(1, 4, seen(clean, steered, 9 * probed)).item() == 0
    assert schedules.Budget(4 * probed, most=0.5)(0, 4, seen(clean, steered)).item() == 0.5


def test_a_bound_holds_row_by_row() -> None:
    bounded = schedules.Bounded(schedules.Fixed(1.0), lambda step: torch.tensor([0.5, 3.0 - step]))
    assert bounded(0, 4, None).tolist() == [0.5, 1.0]
    assert bounded(3, 4, None).tolist() == [0.5, 0.0]
    assert schedules.Bounded(schedules.Dynamic(), lambda step: 1.0).probe == 2.0


def test_a_schedule_says_for_how_many_rows_it_is() -> None:
    rows = schedules.Given(torch.ones(3, 2))
    found = (rows, schedules.Given(torch.ones(2)), schedules.Fixed(1.0), schedules.Dynamic(),
             schedules.Bounded(rows, lambda step: 1.0))  # fmt: skip
    assert [schedules.rows_of(each) for each in found] == [3, None, None, None, 3]
    with pytest.raises(ValueError, match=r"bound of step 1 is for 2 rows, .* are for 3: give one"):
        schedules.Bounded(rows, lambda step: torch.ones(2))(1, 4, None)


@pytest.mark.parametrize("schedule", [schedules.Dynamic(), schedules.Budget(1.0)])
def test_what_looks_and_is_shown_nothing_says_so(schedule: schedules.Schedule) -> None:
    with pytest.raises(ValueError, match=r"(Dynamic|Budget) looks at .* give it Seen\("):
        schedule(0, 4, None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.Dynamic(0.0), r"top_p is 0.0; give a share between 0 and 1"),
        (lambda: schedules.Dynamic(1.0), "top_p is 1.0"),
        (lambda: schedules.Dynamic(0.5, clip=(2, 0)), r"clip is \(2, 0\)"),
        (lambda: schedules.Fixed(math.nan), "coefficient is nan"),
        (lambda: schedules.Budget(-1.0), "nats is -1.0; give a finite number of at least 0"),
        (lambda: schedules.Given(torch.zeros(2, 2, 2)), r"coefficients \(2, 2, 2\)"),
        (lambda: schedules.Given(torch.tensor([math.inf])), "not all finite"),
    ],
)
def test_what_is_no_schedule_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
