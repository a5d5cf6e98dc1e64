"""What a direction says through the unembedding, against the model's own forward."""

import copy

import architectures
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import OlmoConfig, OlmoForCausalLM, OPTConfig, OPTForCausalLM

from workbench.anatomy import lens
from workbench.anatomy.lens import final_norm, nearest_tokens, token_effects, top_tokens
from workbench.loading.models import LM, load


def logits_of(lm: LM, stream: Tensor) -> Tensor:
    """Logits (V,) of the model when its last block hands `stream` (D,) on; soft caps undone."""
    block = lm.model.get_submodule(lm.layer_path)[-1]  # type: ignore[index]

    def replace(_module: object, _inputs: object, output: object) -> object:
        hidden = output[0] if isinstance(output, tuple) else output
        assert isinstance(hidden, Tensor)
        own = stream.expand_as(hidden)
        return (own, *output[1:]) if isinstance(output, tuple) else own

    handle = block.register_forward_hook(replace)
    try:
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([[1, 5, 7]])).logits[0, -1]
    finally:
        handle.remove()
    cap = getattr(lm.model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.atanh(logits / cap)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_effects_are_the_change_of_the_models_own_logits(name: str) -> None:
    """The part of the logits that is odd in the stream, (f(v) - f(-v)) / 2, is W (s * C v) over
    the size of v: proportional to the effects, with one positive factor."""
    lm = architectures.build(name)
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(3))
    odd = (logits_of(lm, direction) - logits_of(lm, -direction)) / 2
    odd = odd - odd.mean()
    effects = token_effects(lm, direction)
    factor = float((odd @ effects) / (effects @ effects))
    assert factor > 0
    assert float((odd - factor * effects).abs().max()) < 1e-3 * float(odd.abs().max())


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_a_small_step_moves_the_logits_as_the_effects_say(name: str) -> None:
    """Finite differences at a stream orthogonal to the step, where its size does not change."""
    lm = architectures.build(name)
    generator = torch.Generator().manual_seed(4)
    stream, step = torch.randn(2, lm.width, generator=generator)
    centred = stream - stream.mean()
    step = step - step.mean()
    step = step - (step @ centred) / (centred @ centred) * centred
    stream = centred  # so that LayerNorm and RMSNorm divide by the same size
    size = float(stream.pow(2).mean().sqrt())
    ahead, behind = logits_of(lm, stream + 0.01 * step), logits_of(lm, stream - 0.01 * step)
    moved = (ahead - behind) / 0.02
    expected = token_effects(lm, step) / size
    torch.testing.assert_close(moved - moved.mean(), expected, atol=2e-3, rtol=2e-3)


def test_every_architecture_has_its_final_norm_found() -> None:
    for name in architectures.NAMES:
        assert final_norm(architectures.build(name)) is not None, name


def test_a_final_norm_without_a_weight_still_centres() -> None:
    config = OlmoConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=0,
    )
    lm = load(OlmoForCausalLM(config), tokenizer=architectures.tokenizer())
    norm = final_norm(lm)
    assert norm is lm.model.get_submodule("model.norm")
    assert not list(norm.parameters())
    direction = torch.randn(32, generator=torch.Generator().manual_seed(6)) + 3.0
    odd = (logits_of(lm, direction) - logits_of(lm, -direction)) / 2
    odd = odd - odd.mean()
    effects = token_effects(lm, direction)
    factor = float((odd @ effects) / (effects @ effects))
    torch.testing.assert_close(factor * effects, odd, atol=1e-5, rtol=1e-4)


def test_a_model_without_a_final_norm_reads_the_stream_as_it_is() -> None:
    """Dropouts stand in the norm's place; they leave the stream alone and are none."""
    model = copy.deepcopy(architectures.build("llama").model)
    model.set_submodule("model.norm", torch.nn.Dropout(0.5))
    lm = load(model, tokenizer=architectures.tokenizer())
    assert final_norm(lm) is None
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(7))
    effects = lm.model.get_output_embeddings().weight.detach() @ direction
    torch.testing.assert_close(token_effects(lm, direction), effects - effects.mean())


def test_norm_and_direction_may_lie_on_different_devices() -> None:
    """As under a device map; "meta" stands for the second device."""
    direction = torch.randn(8)
    for norm in (torch.nn.LayerNorm(8, device="meta"), torch.nn.RMSNorm(8, device="meta")):
        through = lens._scale_and_centre(norm, direction)
        assert (through.device.type, tuple(through.shape)) == ("meta", (8,))
    through = lens._scale_and_centre(torch.nn.RMSNorm(8), direction)
    torch.testing.assert_close(through, direction)
    plain = torch.nn.LayerNorm(8, elementwise_affine=False)
    torch.testing.assert_close(
        lens._scale_and_centre(plain, direction), direction - direction.mean(), atol=1e-5, rtol=1e-4
    )


def test_top_tokens_are_the_extremes_in_order() -> None:
    lm = architectures.build("llama")
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(5))
    effects = token_effects(lm, direction)
    table = top_tokens(lm, direction, count=3)
    assert table["side"].tolist() == ["favoured"] * 3 + ["hindered"] * 3
    ordered = effects.sort(descending=True).values
    expected = [*ordered[:3].tolist(), *ordered.flip(0)[:3].tolist()]
    assert table["logit"].tolist() == pytest.approx(expected)
    assert table["token"].iloc[0] == lm.tokenizer.decode([int(effects.argmax())])
    assert abs(float(effects.mean())) < 1e-5


def test_chance_is_what_random_directions_reach() -> None:
    """One in twenty of fresh random directions of length 1 exceeds it."""
    lm = architectures.build("llama")
    chance = lens.largest_by_chance(lm, draws=199)
    fresh = torch.randn(1000, lm.width, generator=torch.Generator().manual_seed(7))
    largest = torch.stack([token_effects(lm, one / one.norm()).abs().max() for one in fresh])
    assert 0.01 < float((largest > chance).float().mean()) < 0.1


def test_another_width_is_refused_with_both_widths() -> None:
    lm = architectures.build("llama")
    with pytest.raises(ValueError, match=r"shape \(7,\).*width 32"):
        token_effects(lm, torch.ones(7))


def entering(lm: LM) -> Tensor:
    """(V, D): the stream before the first block of every token alone, less its position's part."""
    ids = torch.arange(lm.vocabulary)[:, None]
    with torch.no_grad():
        given = lm.model(input_ids=ids, output_hidden_states=True).hidden_states[0][:, 0]
    for name, parameter in lm.model.named_parameters():
        if name.endswith("wpe.weight"):
            return given - parameter[0].detach()
        if name.endswith("embed_positions.weight"):  # of OPT, whose first two are of padding
            return given - parameter[2].detach()
    return given


def narrow() -> LM:
    """An OPT whose embeddings are 16 wide and projected into a stream of 32."""
    sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    model = OPTForCausalLM(OPTConfig(vocab_size=320, word_embed_proj_dim=16, **sizes))
    return load(model, tokenizer=architectures.tokenizer())


@pytest.mark.parametrize("name", [*architectures.NAMES, "narrow opt"])
def test_nearest_tokens_are_those_that_enter_the_stream_alike(name: str) -> None:
    lm = narrow() if name == "narrow opt" else architectures.build(name)
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(8))
    expected = torch.cosine_similarity(entering(lm), direction[None], dim=-1)
    table = nearest_tokens(lm, direction, count=4)
    assert table["side"].tolist() == ["nearest"] * 4 + ["opposite"] * 4
    ordered = expected.sort(descending=True).values
    wanted = [*ordered[:4].tolist(), *ordered.flip(0)[:4].tolist()]
    assert table["cosine"].tolist() == pytest.approx(wanted, abs=1e-5)
    assert table["token"][0] == lm.tokenizer.decode([int(expected.argmax())]) or (
        table["token"][0].startswith("\\x")
    )
    back = nearest_tokens(lm, -direction, count=1)["cosine"].tolist()
    assert back == pytest.approx([-ordered[-1].item(), -ordered[0].item()], abs=1e-5)


def test_the_nearest_token_of_an_embedding_is_its_own() -> None:
    lm = architectures.build("gemma3")  # which scales its embeddings
    own = lm.model.get_input_embeddings().weight[100].detach()
    table = nearest_tokens(lm, 0.01 * own, count=1)
    assert table["cosine"][0] == pytest.approx(1, abs=1e-6)


def test_chance_of_the_nearest_is_what_random_directions_reach() -> None:
    lm = architectures.build("gpt2")
    chance = lens.nearest_by_chance(lm, draws=199)
    fresh = torch.randn(1000, lm.width, generator=torch.Generator().manual_seed(7))
    rows = torch.nn.functional.normalize(entering(lm), dim=-1)
    largest = (rows @ torch.nn.functional.normalize(fresh, dim=-1).T).abs().max(dim=0).values
    assert 0.01 < float((largest > chance).float().mean()) < 0.1


@pytest.mark.parametrize(("draws", "place"), [(99, 95), (19, 19), (1, 1), (199, 190)])
def test_a_further_draw_exceeds_it_one_time_in_twenty(draws: int, place: int) -> None:
    assert lens._rarely_exceeded(torch.arange(draws, 0, -1).float()) == place


def test_an_embedding_that_enters_in_another_way_is_refused() -> None:
    model = copy.deepcopy(architectures.build("llama").model)
    block = model.get_submodule("model.layers")[0]  # type: ignore[index]
    lm = load(model, tokenizer=architectures.tokenizer())
    cubed = block.register_forward_pre_hook(lambda _, given: (given[0] ** 3, *given[1:]))
    with pytest.raises(ValueError, match="do not enter the residual stream as their embeddings"):
        nearest_tokens(lm, torch.ones(32))
    cubed.remove()
    block.register_forward_pre_hook(lambda _, given: (-given[0], *given[1:]))
    with pytest.raises(ValueError, match="do not enter the residual stream as their embeddings"):
        lens.nearest_by_chance(lm, draws=1)
    with pytest.raises(ValueError, match=r"shape \(7,\).*width 32"):
        nearest_tokens(lm, torch.ones(7))
    with pytest.raises(ValueError, match="length 0"):
        nearest_tokens(lm, torch.zeros(32))


def test_counts_and_draws_are_whole_numbers_of_at_least_one() -> None:
    lm = architectures.build("llama")
    direction = torch.ones(lm.width)
    for wrong in (0, -1, True, 2.5, "3"):
        for show in (top_tokens, nearest_tokens):
            with pytest.raises(ValueError, match=f"count {wrong!r}: give a whole number of at"):
                show(lm, direction, wrong)  # type: ignore[arg-type]
        for chance in (lens.largest_by_chance, lens.nearest_by_chance):
            with pytest.raises(ValueError, match=f"draws {wrong!r}: give a whole number of at"):
                chance(lm, wrong)  # type: ignore[arg-type]
            if wrong != 0:
                with pytest.raises(ValueError, match=f"seed {wrong!r}: give a whole number"):
                    chance(lm, 3, seed=wrong)  # type: ignore[arg-type]
    assert len(top_tokens(lm, direction, np.int64(2))) == 4  # type: ignore[arg-type]
