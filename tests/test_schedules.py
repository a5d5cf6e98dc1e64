"""Schedules: the coefficient of a step, from what the models say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workbench import schedules
from workbench.schedules import Seen


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


def test_the_likely_tokens_hold_the_one_that_passes() -> None:
    table = logs([0.5, 0.3, 0.15, 0.05], [0.26, 0.25, 0.246, 0.244])
    assert schedules.most_likely(table, 0.6).tolist() == [
        [True, True, False, False],
        [True, True, True, False],
    ]
    # What reaches p exactly has not passed it.
    assert schedules.most_likely(logs([0.5, 0.3, 0.2]), 0.5).tolist() == [[True, True, False]]
    assert schedules.most_likely(table[:1], 0.01).tolist() == [[True, False, False, False]]


def test_few_tokens_are_looked_at_first_and_all_where_these_do_not_do(monkeypatch) -> None:
    torch.manual_seed(0)
    table = (3 * torch.randn(6, 300)).log_softmax(dim=-1)
    found = []
    for few in (1, 20, 300):
        monkeypatch.setattr(schedules, "FEW", few)
        found.append(schedules.most_likely(table, 0.9))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[2])
    assert 20 < found[0].sum(dim=1).max() < 300


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_the_kl_of_the_likely_is_that_of_whole_tables_without_the_others(top_p: float) -> None:
    torch.manual_seed(1)
    clean, steered = (2 * torch.randn(2, 5, 200, dtype=torch.float64)).log_softmax(dim=-1)
    likely = schedules.most_likely(clean, top_p) | schedules.most_likely(steered, top_p)
    p, q = (each.exp() * likely for each in (clean, steered))
    p, q = (each / each.sum(dim=-1, keepdim=True) for each in (p, q))
    expected = torch.where(likely, p * (p / q).log(), 0.0).sum(dim=-1)
    found = schedules.likely_kl(clean, steered, top_p, per_token=False)
    torch.testing.assert_close(found, expected)
    shared = schedules.likely_kl(clean, steered, top_p)
    torch.testing.assert_close(shared, expected / likely.sum(dim=-1))


def test_dynamic_is_the_kl_of_the_likely_tokens_clipped() -> None:
    clean, steered = logs([0.6, 0.3, 0.1]), logs([0.2, 0.7, 0.1])
    p, q = (0.6 / 0.9, 0.3 / 0.9), (0.2 / 0.9, 0.7 / 0.9)
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    looked = seen(clean, steered)
    assert schedules.Dynamic(0.5, per_token=False)(0, 9, looked).item() == pytest.approx(kl)
    assert schedules.Dynamic(0.5)(0, 9, looked).item() == pytest.approx(kl / 2)
    assert schedules.Dynamic(0.5, clip=(0.3, 2))(0, 9, looked).item() == pytest.approx(0.3)
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
    probed = schedules.kl(steered, clean).item()
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
