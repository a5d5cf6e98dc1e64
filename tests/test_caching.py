"""caching: the keys and values of transformers' own cache, without copying them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import transformers
from architectures import SENTENCES, build
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from workbench.forward.caching import RoomyLayer, decoding_cache, roomy_cache, select_rows
from workbench.generation.generate import generate


def given(step: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(step)
    return tuple(torch.randn(2, 3, tokens, width, generator=noise) for width in (4, 5))  # type: ignore[return-value]


def test_it_holds_what_the_plain_layer_holds_also_beyond_its_room() -> None:
    roomy, plain = RoomyLayer(8), DynamicLayer()
    for step, tokens in enumerate((5, 1, 2, 1, 3)):
        assert roomy.get_mask_sizes(tokens) == plain.get_mask_sizes(tokens)
        found, expected = roomy.update(*given(step, tokens)), plain.update(*given(step, tokens))
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
        assert roomy.get_seq_length() == plain.get_seq_length()


def test_nothing_is_copied_while_there_is_room() -> None:
    roomy = RoomyLayer(8)
    first = roomy.update(*given(0, 5))[0].data_ptr()
    assert all(roomy.update(*given(step, 1))[0].data_ptr() == first for step in (1, 2, 3))
    assert roomy.update(*given(4, 1))[0].data_ptr() != first


def test_rows_that_are_chosen_go_on_apart() -> None:
    model = build("gemma2").model  # layers of both kinds
    ids = torch.arange(12).view(2, 6) + 20
    with torch.no_grad():
        cache = decoding_cache(model, 8)
        model(input_ids=ids[:, :4], past_key_values=cache)
        chosen = select_rows(cache, torch.tensor([1, 0, 1]))
        for column in (4, 5):
            more = ids[[1, 0, 1], column : column + 1]
            found = model(input_ids=more, past_key_values=chosen).logits[:, -1]
        expected = model(input_ids=ids).logits[:, -1]
    torch.testing.assert_close(found, expected[[1, 0, 1]], atol=1e-5, rtol=1e-4)
    assert (cache.get_seq_length(), chosen.get_seq_length()) == (4, 6)


def test_layers_of_other_kinds_stay_as_they_are() -> None:
    plain = roomy_cache(build("llama").model, 9)
    assert plain is not None
    assert {type(layer) for layer in plain.layers} == {RoomyLayer}
    mixed = roomy_cache(build("gemma2").model, 9)
    assert mixed is not None
    assert {type(layer) for layer in mixed.layers} == {RoomyLayer, DynamicSlidingWindowLayer}
    own = SimpleNamespace(_supports_default_dynamic_cache=lambda: False)
    assert roomy_cache(own, 9) is None  # type: ignore[arg-type]


def test_generation_uses_it_and_changes_no_text(monkeypatch: Any) -> None:
    lm = build("qwen2")
    made: list[DynamicCache] = []
    real = transformers.generation.utils.DynamicCache

    def noted(*args: Any, **kwargs: Any) -> DynamicCache:
        made.append(real(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(transformers.generation.utils, "DynamicCache", noted)
    ours = generate(lm, SENTENCES, new_tokens=12, score=False)
    assert made == []
    monkeypatch.setattr("workbench.forward.decoding.roomy_cache", lambda *_: None)
    theirs = generate(lm, SENTENCES, new_tokens=12, score=False)
    assert len(made) == 1
    assert torch.equal(ours.ids, theirs.ids)
    assert torch.equal(ours.logprobs_steered, theirs.logprobs_steered)
