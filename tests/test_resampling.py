"""Samples and draws: whose they are, where their tokens lie, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from architectures import SENTENCES, build

from workbench.anatomy.resampling import draws, samples
from workbench.forward.captures import capture
from workbench.forward.tracing import activations
from workbench.interventions.updates import Place
from workbench.text.positions import everything
from workbench.text.tokens import encode

PLACES = [Place(0, "heads"), Place(2)]
TEXTS = list(SENTENCES)
LONG = [f"{text} {text}" for text in TEXTS]


def test_a_donor_stands_in_position_by_position_from_the_first_token_on() -> None:
    lm = build("llama")
    prompts, donors = [TEXTS[0], "A girl and"], [TEXTS[0], *LONG]
    batch = encode(lm, prompts)
    assert not batch.attention.all()
    drawn = samples(lm, prompts, donors, PLACES, seed=5)
    on = drawn.on(lm, Place(2), batch, torch.arange(2))
    assert on.shape == (2, batch.width, lm.width)
    for row in range(2):
        donor = drawn.texts[int(drawn.donors[row])]
        assert donor != prompts[row]
        alone = activations(lm, encode(lm, [donor]), [2], everything).values[:, 0]
        own = batch.attention[row]
        torch.testing.assert_close(on[row, own], alone[: int(own.sum())], atol=1e-5, rtol=1e-5)
    # A row that stands alone, without the columns that were padding.
    cut = batch.select([1]).trimmed()
    part = drawn.on(lm, Place(2), cut, torch.tensor([1]))
    assert torch.equal(part[0], on[1, -cut.width :])


def test_a_prompt_has_another_donor_in_every_draw() -> None:
    lm = build("llama")
    prompts = [*TEXTS[:2], TEXTS[0]]
    drawn = draws(lm, prompts, LONG, PLACES, len(LONG), seed=3)
    chosen = [[each.texts[k] for k in each.donors.tolist()] for each in drawn]
    for row in range(len(prompts)):
        assert sorted(own[row] for own in chosen) == sorted(LONG)
    again = draws(lm, prompts, LONG, PLACES, len(LONG), seed=3)
    assert [each.donors.tolist() for each in again] == [each.donors.tolist() for each in drawn]
    other = draws(lm, prompts, LONG, PLACES, len(LONG), seed=4)
    assert [each.donors.tolist() for each in other] != [each.donors.tolist() for each in drawn]
    assert [each.about["draw"] for each in drawn] == list(range(len(LONG)))
    # What a draw holds at a place is what its donors hold there, all of them at all places.
    batch = encode(lm, prompts)
    for each in drawn[:2]:
        for at in PLACES:
            held = capture(lm, encode(lm, chosen[each.draw]), [at])[at]
            starts = (~encode(lm, chosen[each.draw]).attention).sum(dim=1)
            on = each.on(lm, at, batch)
            for row in range(len(prompts)):
                own = batch.attention[row]
                begin = int(starts[row])
                expected = held[row, begin : begin + int(own.sum())]
                torch.testing.assert_close(on[row, own], expected, atol=1e-5, rtol=1e-5)


def test_other_prompts_than_it_was_drawn_for_are_refused() -> None:
    lm = build("llama")
    prompts = ["The old fox", "The old king"]
    batch, turned = encode(lm, prompts), encode(lm, prompts[::-1])
    assert batch.width == turned.width
    drawn = samples(lm, prompts, LONG, PLACES)
    drawn.check(lm, PLACES[0], batch)
    drawn.check(lm, PLACES[0], turned, torch.tensor([1, 0]))
    wider = encode(lm, [*prompts, TEXTS[1]]).select([0, 1])
    drawn.check(lm, PLACES[0], wider)
    with pytest.raises(ValueError, match=r"drawn for 'The old fox' where the prompt is 'The old k"):
        drawn.on(lm, PLACES[0], turned, torch.arange(2))
    with pytest.raises(ValueError, match=r"drawn for 2 prompts, not for 3; draw them for these"):
        drawn.on(lm, PLACES[0], encode(lm, [*prompts, "a fox"]))
    with pytest.raises(ValueError, match="there is no sample of 'heads' at layer 2"):
        drawn.on(lm, Place(2, "heads"), batch)
    with pytest.raises(ValueError, match="belong to texts that stand"):
        drawn.on(lm, PLACES[0])


def test_what_cannot_be_drawn_is_refused() -> None:
    lm = build("llama")
    with pytest.raises(ValueError, match="donors is empty"):
        samples(lm, TEXTS, [], PLACES)
    with pytest.raises(ValueError, match=r"row 0 has .* tokens, and 0 donors of another text have"):
        samples(lm, TEXTS, ["a fox", TEXTS[0]], PLACES)
    with pytest.raises(ValueError, match=r"give 6 that are as long"):
        draws(lm, ["a fox"], TEXTS[:5], PLACES, 6)
    with pytest.raises(ValueError, match=r"count 0: give a whole number of at least 1"):
        draws(lm, TEXTS, LONG, PLACES, 0)
    for seed in (-1, True, 1.5):
        with pytest.raises(ValueError, match=f"seed {seed!r}: give a whole number of at least 0"):
            samples(lm, TEXTS, LONG, PLACES, seed=seed)  # type: ignore[arg-type]
