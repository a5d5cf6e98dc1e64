"""Entropy, divergence and scores of tokens: in blocks as at once, and with impossible tokens."""

import math

import pytest
import torch

from workbench import distributions
from workbench.distributions import choice_scores, chosen_logprobs, token_scores, total_variation
from workbench.distributions import divergence as divergence_of

NEVER = -math.inf


def tables(rows=5, tokens=4, vocabulary=7):
    noise = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(rows, tokens + 1, vocabulary, generator=noise)
    steered = 3 * torch.randn(rows, tokens, vocabulary, generator=noise)
    targets = torch.randint(vocabulary, (rows, tokens), generator=noise)
    return logits, targets, steered


def by_definition(logits, targets, steered):
    table = logits.double().log_softmax(-1)
    before, p = table[:, :-1], table[:, :-1].exp()
    mean = -(p * before).sum(-1)
    own = steered.double().log_softmax(-1)
    return torch.stack(
        [
            before.gather(-1, targets[..., None])[..., 0],
            table[:, 1:].gather(-1, targets[..., None])[..., 0],
            mean,
            (own.exp() * (own - before)).sum(-1),
        ]
    )


# Blocks of all rows, of two rows, of one, of two tokens of a row, and of a single token.
@pytest.mark.parametrize("block", [1 << 20, 75, 40, 15, 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_scores_are_their_definitions_in_blocks_of_any_size(block, dtype, monkeypatch):
    monkeypatch.setattr(distributions, "_BLOCK", block)
    logits, targets, steered = tables()
    logits, steered = logits.to(dtype), steered.to(dtype)
    expected = by_definition(logits, targets, steered)
    found = token_scores(logits, targets, steered)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(token_scores(logits, targets), found[:3])
    chosen = chosen_logprobs(logits[:, :-1], targets)
    assert chosen.dtype == found.dtype
    torch.testing.assert_close(chosen, found[0])


def test_no_temporary_is_larger_than_a_block(monkeypatch):
    monkeypatch.setattr(distributions, "_BLOCK", 64)
    sizes = []
    real = torch.Tensor.log_softmax

    def noted(table, *args, **kwargs):
        sizes.append(table.numel())
        return real(table, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "log_softmax", noted)
    logits, targets, steered = tables(rows=9, tokens=30, vocabulary=11)
    token_scores(logits, targets, steered)
    chosen_logprobs(logits[:, :-1], targets)
    assert max(sizes) <= 64
    assert sum(sizes) == 9 * 11 * (31 + 30 + 30)


def divergence(p, q):
    """KL(p || q) of rows of log-probabilities (R, V), as token_scores finds it: (R,)."""
    logits = torch.stack([q, q], dim=1)
    return token_scores(logits, torch.zeros(len(q), 1, dtype=torch.long), p[:, None])[3, :, 0]


def test_divergence_is_zero_for_equals_and_never_negative():
    p = torch.randn(4, 50).log_softmax(-1)
    assert (divergence(p, p) == 0).all()
    q = torch.tensor([0.5, 0.25, 0.25]).log()
    r = torch.tensor([0.25, 0.25, 0.5]).log()
    assert float(divergence(q[None], r[None])) == pytest.approx(0.25 * math.log(2), abs=1e-6)


def test_what_is_impossible_under_both_contributes_nothing():
    p = torch.tensor([0.5, 0.5, 0.0]).log()
    q = torch.tensor([0.25, 0.75, 0.0]).log()
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert float(divergence(p[None], q[None])) == pytest.approx(expected, abs=1e-6)
    logits = torch.stack([q, q])[None]
    found = token_scores(logits, torch.tensor([[1]]), p[None, None])[:, 0, 0]
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    wanted = [math.log(0.75), math.log(0.75), entropy, expected]
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)
    assert token_scores(logits, torch.tensor([[2]]))[0].item() == NEVER


@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@pytest.mark.parametrize("shift", [0.0, -300.0])
def test_scores_of_a_choice_are_their_definitions(scale, shift):
    noise = torch.Generator().manual_seed(3)
    logits = scale * torch.randn(6, 500, generator=noise) + shift
    logits[0, 7] = NEVER
    picked = torch.tensor([3, 4, 5, 6, 7, 8])
    exact = logits.double().log_softmax(-1)
    chosen, entropy = choice_scores(logits, picked)
    tolerance = 4e-6 * max(1.0, scale, abs(shift))
    expected = exact.gather(-1, picked[:, None])[:, 0]
    assert (chosen.double() - expected).abs().max() < tolerance
    expected = -(exact.exp() * exact.clamp_min(-1e4)).sum(-1)
    assert (entropy.double() - expected).abs().max() < tolerance
    assert (entropy >= 0).all()


def test_a_choice_of_hardly_any_probability_keeps_its_logarithm():
    logits = torch.tensor([[0.0, -200.0, 1.0]])
    chosen, _ = choice_scores(logits, torch.tensor([1]))
    assert float(chosen) == pytest.approx(-200 - math.log(1 + math.e), abs=1e-4)


def test_the_other_distributions_may_lie_on_another_device():
    logits, targets, steered = tables()
    found = token_scores(logits.to("meta"), targets.to("meta"), steered)
    assert (found.device.type, tuple(found.shape)) == ("meta", (4, 5, 4))


def test_divergence_and_total_variation_by_hand():
    p, q = torch.tensor([0.5, 0.5, 0.0]).log(), torch.tensor([0.25, 0.75, 0.0]).log()
    assert float(divergence_of(p, q)) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert float(divergence_of(q, p)) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert float(total_variation(p, q)) == float(total_variation(q, p)) == pytest.approx(0.25)
    sure, other = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log()
    assert float(total_variation(sure, other)) == 1
    assert float(divergence_of(sure, other)) == pytest.approx(1e4)
    table = torch.randn(2, 3, 50, dtype=torch.float64).log_softmax(-1)
    assert (divergence_of(table, table) == 0).all()
    found = divergence_of(table[0], table[1])
    expected = torch.nn.functional.kl_div(table[1], table[0], log_target=True, reduction="none")
    torch.testing.assert_close(found, expected.sum(-1))
