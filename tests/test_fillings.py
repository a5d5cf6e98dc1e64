"""Means: what they are of, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from architectures import SENTENCES, build

from workbench.anatomy.fillings import means, zero
from workbench.forward.captures import capture
from workbench.forward.tracing import activations
from workbench.interventions.updates import Place
from workbench.text.positions import but_first, content, everything, last
from workbench.text.tokens import encode

PLACES = [Place(0, "heads"), Place(1, "attention_write"), Place(1, "mlp"), Place(2)]
TEXTS = list(SENTENCES)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_a_capture_is_every_token_of_every_place(name: str) -> None:
    lm = build(name)
    batch = encode(lm, TEXTS)
    found = capture(lm, batch, PLACES)
    for at in PLACES:
        read = activations(lm, batch, [at.layer], everything, site=at.site).values[:, 0]
        torch.testing.assert_close(found[at][batch.attention], read)
        assert not found[at][~batch.attention].any()


def test_a_mean_by_position_is_over_the_texts_that_have_it() -> None:
    lm = build("llama")
    batch = encode(lm, TEXTS)
    whole = capture(lm, batch, PLACES)
    found = means(lm, TEXTS, PLACES, per="position")
    lengths = batch.attention.sum(dim=1)
    assert found.tokens.tolist() == [int((lengths > k).sum()) for k in range(int(lengths.max()))]
    for at in PLACES:
        for position in (0, 3, len(found.tokens) - 1):
            here = batch.attention & (batch.positions == position)
            expected = whole[at][here].mean(0)
            torch.testing.assert_close(found.values[at][position], expected)
    on = found.on(lm, PLACES[0], batch, torch.arange(len(batch)))
    column = int(batch.starts[0]) - 1
    expected = found.values[PLACES[0]][batch.positions[0, column]]
    assert torch.equal(on[0, column], expected)


def test_a_mean_is_over_the_tokens_that_are_chosen() -> None:
    lm = build("llama")
    batch = encode(lm, TEXTS)
    for positions in (last, content, everything, None):
        found = means(lm, batch, [Place(1)], positions=positions)
        read = activations(lm, batch, [1], positions or but_first(everything)).values[:, 0]
        if positions is None:
            assert len(read) == int(batch.attention.sum()) - len(batch)
        torch.testing.assert_close(found.values[Place(1)], read.mean(0), atol=1e-6, rtol=1e-5)
        assert int(found.tokens) == len(read)


def test_what_is_not_known_is_refused() -> None:
    lm = build("llama")
    batch = encode(lm, TEXTS)
    rows = torch.arange(len(batch))
    with pytest.raises(ValueError, match="a mean over no texts"):
        means(lm, [], PLACES)
    with pytest.raises(ValueError, match="places is empty"):
        means(lm, TEXTS, [])
    with pytest.raises(ValueError, match="per 'text' is unknown"):
        means(lm, TEXTS, PLACES, per="text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chooses no token at position 0 of any text"):
        means(lm, TEXTS, PLACES, per="position", positions=content)
    with pytest.raises(ValueError, match=r"but_first\(everything\) chooses no token of any text"):
        means(lm, ["a"], PLACES)
    short = means(lm, ["a fox"], PLACES, per="position")
    with pytest.raises(ValueError, match=r"the texts that the means are of have . at most"):
        short.on(lm, PLACES[0], batch, rows)
    with pytest.raises(ValueError, match=r"take means over all tokens: means\(..., per='token'\)"):
        short.on(lm, PLACES[0])
    with pytest.raises(ValueError, match="there is no mean of 'heads' at layer 2"):
        means(lm, TEXTS, PLACES).on(lm, Place(2, "heads"), batch, rows)
    with pytest.raises(ValueError, match="layer 9 is out of range"):
        capture(lm, batch, [Place(9)])
    assert not zero.on(lm, PLACES[0]).any()
