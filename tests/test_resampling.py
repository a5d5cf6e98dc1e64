"""Samples and draws: whose they are, where their tokens lie, and what they refuse."""

from __future__ import annotations

import warnings

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
    most = len(LONG) - 1  # one of them begins with the prompt, and is no other text there
    drawn = draws(lm, prompts, LONG, PLACES, most, seed=3)
    chosen = [[each.texts[k] for k in each.donors.tolist()] for each in drawn]
    for row, prompt in enumerate(prompts):
        others = [text for text in LONG if not text.startswith(prompt)]
        assert sorted(own[row] for own in chosen) == sorted(others)
    again = draws(lm, prompts, LONG, PLACES, most, seed=3)
    assert [each.donors.tolist() for each in again] == [each.donors.tolist() for each in drawn]
    other = draws(lm, prompts, LONG, PLACES, most, seed=4)
    assert [each.donors.tolist() for each in other] != [each.donors.tolist() for each in drawn]
    assert [each.about["draw"] for each in drawn] == list(range(most))
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


def test_no_donor_stands_in_twice_where_there_are_enough() -> None:
    """Neither for a text nor, in one draw, for two; twice the same text is one donor."""
    lm = build("llama")
    prompts = ["The old fox", "A girl and", "Please tell me", "The old king"]
    donors = [*LONG[:4], *LONG[:4], f"{LONG[0]} again", *LONG[4:]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = [draws(lm, prompts, donors, PLACES, 3, seed=seed) for seed in range(20)]
    starts = {text: encode(lm, [text]).ids[0, 1:9].tolist() for text in donors}
    seen = set()
    for some in drawn:
        chosen = [[each.texts[k] for k in each.donors.tolist()] for each in some]
        for own in chosen:
            assert len(set(own)) == len(prompts)
        for row in range(len(prompts)):
            assert len({tuple(starts[own[row]]) for own in chosen}) == 3
        assert [each.about["donors"] for each in some] == [4] * 3
        seen.add(tuple(map(tuple, chosen)))
    assert len(seen) == 20


def test_a_donor_that_begins_with_the_text_is_not_drawn_for_it() -> None:
    """What it holds at the text's tokens is what the text holds: nothing would be replaced."""
    lm = build("llama")
    prompt = "The old fox"
    donors = [f"{prompt} ran home", f"{prompt} slept all day", "A girl and her dog went to town"]
    for seed in range(5):
        (drawn,) = draws(lm, [prompt], donors, PLACES, 1, seed=seed)
        assert drawn.texts[int(drawn.donors[0])] == donors[2]
    with pytest.raises(ValueError, match=r"1 donors of another text .* that begin with the prompt"):
        draws(lm, [prompt], donors, PLACES, 2)


def test_too_few_donors_for_all_texts_are_said() -> None:
    lm = build("llama")
    with pytest.warns(UserWarning, match="of 3 prompts up to 2 have a donor in a draw that anoth"):
        (drawn,) = draws(lm, ["The old fox", "A girl", "Please tell"], LONG[3:5], PLACES, 1)
    assert (drawn.about["prompts"], drawn.about["donors"]) == (3, 2)


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
