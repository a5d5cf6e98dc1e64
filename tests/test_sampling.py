"""How a token is chosen: noise, nucleus, penalty."""

import numpy as np
import torch

from workbench.generation.sampling import Chooser, Sampling, gumbel, nucleus
from workbench.text.tokens import encode


def test_noise_is_gumbel_and_keyed_by_seed_stream_and_step():
    noise = gumbel(0, range(8), 3, 50_000).astype(np.float64)
    assert abs(noise.mean() - 0.5772) < 0.01
    assert abs(noise.var() - np.pi**2 / 6) < 0.02
    assert np.array_equal(gumbel(0, [6], 3, 50_000)[0], noise[6].astype(np.float32))
    for other in (gumbel(1, [6], 3, 100), gumbel(0, [7], 3, 100), gumbel(0, [6], 4, 100)):
        assert not np.isin(other[0], noise[6].astype(np.float32)).any()
    assert np.isfinite(noise).all()


def test_tokens_are_drawn_by_their_probability():
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0]]).expand(20_000, 4)
    for temperature in (1.0, 0.5):
        draws = (logits / temperature + torch.from_numpy(gumbel(3, range(20_000), 0, 4))).argmax(-1)
        shares = torch.bincount(draws, minlength=4) / len(draws)
        assert (shares - (logits[0] / temperature).softmax(-1)).abs().max() < 0.015


def test_the_nucleus_is_the_smallest_set_that_holds_the_share():
    scores = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.97, 0.01, 0.01, 0.01]]).log()
    kept = ~nucleus(scores, 0.7).isinf()
    assert kept.tolist() == [[False, True, False, True], [True, False, False, False]]
    assert (~nucleus(scores, 1e-6).isinf()).sum(dim=-1).tolist() == [1, 1]
    # What reaches the share exactly does not exceed it, as in a schedule's likely tokens.
    assert nucleus(torch.tensor([[0.5, 0.3, 0.2]]).log(), 0.5).isinf().tolist() == [
        [False, False, True]
    ]


def test_the_penalty_counts_a_rows_own_tokens_and_not_its_padding(tiny):
    batch = encode(tiny, ["I am", "A girl and her dog"])
    chooser = Chooser(Sampling(repetition_penalty=2.0), batch, ())
    scores = torch.ones(2, tiny.vocabulary)
    scores[:, 100:] = -1.0
    out = chooser(batch.ids, scores)
    for row in range(2):
        seen = torch.zeros(tiny.vocabulary, dtype=torch.bool)
        seen[batch.ids[row][batch.attention[row]]] = True
        expected = torch.where(seen, torch.where(scores[row] > 0, 0.5, -2.0), scores[row])
        assert torch.equal(out[row], expected)
    new = torch.tensor([[7], [8]])
    out = chooser(torch.cat([batch.ids, new], dim=1), scores)
    assert out[0, 7] == 0.5
    assert out[1, 8] == 0.5


def test_large_seeds_have_noise_of_their_own() -> None:
    low, high = gumbel(0, [0], 0, 8), gumbel(2**64 - 1, [0], 0, 8)
    assert not (low == high).any()
