"""Entropy, divergence and scores of tokens: in blocks as at once, and with impossible tokens."""

import math

import pytest
import torch

from workbench.statistics import distributions
from workbench.statistics.distributions import (
    choice_scores,
    chosen_logprobs,
    likely_kl,
    token_scores,
    total_variation,
)
from workbench.statistics.distributions import divergence as divergence_of

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


def logs(*rows):
    return torch.tensor(rows).log()


def test_the_kl_of_tables_is_its_definition_and_hides_no_nan():
    torch.manual_seed(4)
    p, q = (2 * torch.randn(2, 6, 90, dtype=torch.float64)).log_softmax(dim=-1)
    torch.testing.assert_close(divergence_of(p, q), (p.exp() * (p - q)).sum(dim=-1))
    torch.testing.assert_close(divergence_of(p, q), divergence(p, q))
    impossible = logs([0.5, 0.5, 0.0], [0.0, 1.0, 0.0])
    other = logs([0.25, 0.25, 0.5], [0.5, 0.5, 0.0])
    assert divergence_of(impossible, other).tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)
    for broken in ((p * math.nan, q), (p, q * math.nan)):
        assert divergence_of(*broken).isnan().all()
        assert likely_kl(*broken, 0.5).isnan().all()


def test_the_likely_tokens_hold_the_one_that_passes():
    table = logs([0.5, 0.3, 0.15, 0.05], [0.26, 0.25, 0.246, 0.244])
    assert distributions.most_likely(table, 0.6).tolist() == [
        [True, True, False, False],
        [True, True, True, False],
    ]
    # What reaches p exactly has not passed it.
    assert distributions.most_likely(logs([0.5, 0.3, 0.2]), 0.5).tolist() == [[True, True, False]]
    assert distributions.most_likely(table[:1], 0.01).tolist() == [[True, False, False, False]]


def test_few_tokens_are_looked_at_first_and_all_where_these_do_not_do(monkeypatch):
    torch.manual_seed(0)
    table = (3 * torch.randn(6, 300)).log_softmax(dim=-1)
    found = []
    for few in (1, 20, 300):
        monkeypatch.setattr(distributions, "FEW", few)
        found.append(distributions.most_likely(table, 0.9))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[2])
    assert 20 < found[0].sum(dim=1).max() < 300


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9])
def test_the_kl_of_the_likely_is_that_of_whole_tables_without_the_others(top_p):
    torch.manual_seed(1)
    clean, steered = (2 * torch.randn(2, 5, 200, dtype=torch.float64)).log_softmax(dim=-1)
    likely = distributions.most_likely(clean, top_p) | distributions.most_likely(steered, top_p)
    p, q = (each.exp() * likely for each in (clean, steered))
    p, q = (each / each.sum(dim=-1, keepdim=True) for each in (p, q))
    expected = torch.where(likely, p * (p / q).log(), 0.0).sum(dim=-1)
    found = likely_kl(clean, steered, top_p)
    torch.testing.assert_close(found, expected)
    shared = likely_kl(clean, steered, top_p, divided=True)
    torch.testing.assert_close(shared, expected / likely.sum(dim=-1))


def test_a_token_that_is_likely_for_the_property_alone_may_be_impossible_without_it():
    clean, steered = logs([0.6, 0.4, 0.0]), logs([0.1, 0.1, 0.8])
    assert math.isfinite(likely_kl(clean, steered, 0.7).item())
