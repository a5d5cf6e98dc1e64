"""Objectives: each against its formula written out by hand, per example and as published."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.training.objectives import SFT, SPLIT, RePS, Side, as_objective, describe

# Three examples: log-probabilities, tokens of the completion, tokens of the whole text.
W = ([-6.0, -2.0, -9.0], [3, 4, 2], [10, 6, 5])
L = ([-8.0, -9.0, -3.0], [4, 3, 6], [11, 5, 9])
REFERENCE = ([-5.0, -4.0, -8.0], [-8.5, -8.0, -4.0])


def sides(reference: bool = True) -> tuple[Side, Side]:
    made = [
        Side(
            torch.tensor(logprob, requires_grad=True),
            torch.tensor(tokens),
            torch.tensor(length),
            torch.tensor(before) if reference else None,
        )
        for (logprob, tokens, length), before in zip((W, L), REFERENCE, strict=True)
    ]
    return made[0], made[1]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_sft_is_the_mean_loss_per_token():
    winning, _ = sides()
    expected = sum(-p / n for p, n in zip(*W[:2], strict=True)) / 3
    assert float(SFT()(winning, None).detach()) == pytest.approx(expected)
    assert float(SFT()(winning, None, compat=True).detach()) == pytest.approx(17 / 9)


def test_split_has_a_hinge_for_each_example():
    objective = SPLIT(winning=0.8, losing=0.3, margin=4.0, threshold=1.0)
    total = 0.0
    for (wp, wn), (lp, ln) in zip(zip(*W[:2], strict=True), zip(*L[:2], strict=True), strict=True):
        high, low = -wp / wn, -lp / ln
        total += 0.8 * high + 0.3 * low + 4.0 * max(0.0, 1.0 - (low - high))
    assert float(objective(*sides(False)).detach()) == pytest.approx(total / 3)


def test_split_as_published_has_one_hinge_for_the_minibatch():
    objective = SPLIT(winning=0.8, losing=0.3, margin=4.0, threshold=1.0)
    high, low = 17 / 9, 20 / 13
    expected = 0.8 * high + 0.3 * low + 4.0 * (1.0 - (low - high))
    published = objective(*sides(False), compat=True)
    assert float(published.detach()) == pytest.approx(expected)
    assert float(published.detach()) != pytest.approx(float(objective(*sides(False)).detach()))


def test_a_satisfied_example_hides_no_other():
    """Why the hinge is per example: one far beyond the threshold would satisfy the minibatch's."""
    winning = Side(torch.tensor([-1.0, -9.0], requires_grad=True), *[torch.tensor([3, 3])] * 2)
    losing = Side(torch.tensor([-90.0, -3.0], requires_grad=True), *[torch.tensor([3, 3])] * 2)
    only_hinge = SPLIT(winning=0, losing=0, margin=1, threshold=1)
    assert float(only_hinge(winning, losing, compat=True).detach()) == 0
    only_hinge(winning, losing).backward()
    assert losing.logprob.grad is not None
    assert losing.logprob.grad.tolist() == pytest.approx([0, 1 / 6])


def test_split_may_hold_on_to_the_unsteered_losses():
    plain, held = SPLIT(), SPLIT(reference=0.5)
    assert not plain.needs_reference
    assert held.needs_reference
    extra = 0.0
    for (lp, n, _), before in zip((W, L), REFERENCE, strict=True):
        extra += sum(max(0.0, (b - p) / t) for p, t, b in zip(lp, n, before, strict=True)) / 3
    found = held(*sides()) - plain(*sides())
    assert float(found.detach()) == pytest.approx(0.5 * extra, abs=1e-5)


@pytest.mark.parametrize(("compat", "counts"), [(False, (W[1], L[1])), (True, (W[2], L[2]))])
def test_reps_scales_the_winning_side(compat, counts):
    total = 0.0
    for i in range(3):
        ahead = max(2.0 * (REFERENCE[1][i] - REFERENCE[0][i]), 1.0)
        gap = ahead / counts[0][i] * W[0][i] - L[0][i] / counts[1][i]
        total += -math.log(sigmoid(gap))
    found = RePS(scaler=2.0)(*sides(), compat=compat)
    assert float(found.detach()) == pytest.approx(total / 3, rel=1e-5)


@pytest.mark.parametrize("objective", [RePS(), SPLIT(reference=1.0)])
def test_a_missing_reference_is_said(objective):
    with pytest.raises(ValueError, match="needs the unsteered model's log-probabilities"):
        objective(*sides(False))


@given(
    st.lists(st.tuples(st.floats(-50, -0.1), st.floats(-50, -0.1)), min_size=1, max_size=5),
    st.integers(1, 9),
)
def test_split_without_a_hinge_is_a_mixture_of_losses(rows, tokens):
    counts = torch.full((len(rows),), tokens)
    winning, losing = (Side(torch.tensor([row[i] for row in rows]), counts, counts) for i in (0, 1))
    found = SPLIT(losing=0.5, margin=0.0)(winning, losing)
    expected = SFT()(winning, None) + 0.5 * SFT()(losing, None)
    torch.testing.assert_close(found, expected)


@given(st.lists(st.floats(-50, -0.1), min_size=2, max_size=5))
def test_completions_of_one_length_need_no_compat(logprobs):
    """Means over tokens and over examples then agree where there is no hinge."""
    counts = torch.full((len(logprobs),), 4)
    side = Side(torch.tensor(logprobs), counts, counts)
    torch.testing.assert_close(SFT()(side, None), SFT()(side, None, compat=True))


def test_objectives_by_name():
    assert as_objective("SFT") == SFT()
    assert as_objective("reps") == RePS()
    assert as_objective("split") == as_objective("spilt") == SPLIT()
    own = SPLIT(margin=8.0)
    assert as_objective(own) is own
    assert describe(own) == {
        "name": "split", "winning": 1.0, "losing": 0.5, "margin": 8.0, "threshold": 0.5,
        "reference": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("bad", ["dpo", "", None, 3, SPLIT])
def test_unknown_objectives_are_refused_with_the_remedy(bad):
    with pytest.raises(ValueError, match=r"is unknown; choose 'sft', 'reps' or 'split'.*SPLIT\("):
        as_objective(bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, "1", None, True])
def test_weights_are_finite_numbers(bad):
    with pytest.raises(ValueError, match=r"margin .*: give a finite number$"):
        SPLIT(margin=bad)
    with pytest.raises(ValueError, match=r"scaler .*: give a finite number of at least 0"):
        RePS(scaler=bad)
    with pytest.raises(ValueError, match="scaler -1"):
        RePS(scaler=-1)
