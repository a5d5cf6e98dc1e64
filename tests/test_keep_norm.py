"""Streams that keep their length: per token, per pass, and what cannot."""

import pytest
import torch
from architectures import build
from conditioned import PROMPTS, random_vector
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench.interventions.keep_norm import KeepNorm, keep_norm
from workbench.interventions.updates import Add, Intervention
from workbench.interventions.weight_updates import AddLinear
from workbench.text import positions

DIRECTION = torch.tensor([3.0, 0.0, 0.0])
HIDDEN = torch.tensor([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]], [[-4.0, 0.0, 0.0], [-2.0, 0.0, 0.0]]])
ONES = torch.ones(2, 2, 1)


def test_every_token_keeps_its_own_length() -> None:
    found = KeepNorm(Add(DIRECTION))(HIDDEN, ONES)
    assert torch.equal(found[0, 0], HIDDEN[0, 0])
    torch.testing.assert_close(found[0, 1], torch.tensor([2.4, 3.2, 0.0]))
    torch.testing.assert_close(found[1], torch.tensor([[-4.0, 0, 0], [2.0, 0, 0]]))


def test_a_pass_is_scaled_back_where_any_of_its_tokens_has_grown() -> None:
    found = KeepNorm(Add(DIRECTION), per="pass")(HIDDEN, ONES)
    torch.testing.assert_close(found[0], KeepNorm(Add(DIRECTION))(HIDDEN, ONES)[0])
    # All of the second row have shrunk: -4 to -1, -2 to 1.
    assert torch.equal(found[1], HIDDEN[1] + DIRECTION)


@given(st.integers(0, 10_000), st.floats(-5, 5))
def test_lengths_stay_whatever_is_added(seed: int, scale: float) -> None:
    made = torch.Generator().manual_seed(seed)
    hidden = torch.randn(2, 3, 5, generator=made, dtype=torch.float64)
    add = Add(torch.randn(5, generator=made, dtype=torch.float64))
    weight = torch.full((2, 3, 1), scale, dtype=torch.float64)
    found = KeepNorm(add)(hidden, weight)
    torch.testing.assert_close(found.norm(dim=-1), hidden.norm(dim=-1))
    changed = add(hidden, weight)
    along = torch.nn.functional.cosine_similarity(found, changed, dim=-1)
    torch.testing.assert_close(along, torch.ones_like(along))
    whole = KeepNorm(add, per="pass")(hidden, weight)
    for row in range(2):
        grew = bool((changed[row].norm(dim=-1) > hidden[row].norm(dim=-1)).any())
        assert torch.equal(whole[row], found[row] if grew else changed[row])


@pytest.mark.parametrize("per", ["token", "pass"])
def test_a_stream_that_vanishes_stays_a_number(per: str) -> None:
    nothing = KeepNorm(lambda hidden, scale: hidden * 0, per)  # pyright: ignore
    assert torch.equal(nothing(HIDDEN, ONES), torch.zeros_like(HIDDEN))


def test_in_a_model_the_streams_turn_and_do_not_grow() -> None:
    lm = build("llama")
    push = random_vector(lm, 1).at(1.5, layers=[1])
    plain, added, kept = (
        wb.read(lm, PROMPTS[:3], [1], positions.everything, pool=None, interventions=each)
        for each in ([], push, keep_norm(push))
    )
    for before, longer, after in zip(plain, added, kept, strict=True):
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))
        assert not torch.allclose(after, before)
        assert not torch.allclose(longer.norm(dim=-1), before.norm(dim=-1))


def test_it_is_of_the_same_model_as_its_update() -> None:
    lm, other = build("llama"), build("gpt2")
    kept = keep_norm(random_vector(lm).at(1.0))
    assert kept[0].update.width == lm.width
    with pytest.raises(ValueError, match="was made on"):
        wb.generate(other, ["Oh"], kept, new_tokens=1)


def test_what_has_no_length_to_keep_is_refused() -> None:
    change = AddLinear(torch.ones(4, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="AddLinear changes weights and never sees the stream"):
        KeepNorm(change)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="per 'row' is unknown; choose one of token, pass"):
        KeepNorm(Add(DIRECTION), "row")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="layer 2 is steered at its mlp"):
        keep_norm([Intervention(2, Add(DIRECTION), site="mlp")])
