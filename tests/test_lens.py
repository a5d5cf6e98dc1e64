"""What a direction says through the unembedding, against the model's own forward."""

import architectures
import pytest
import torch
from torch import Tensor

from workbench.lens import final_norm, token_effects, top_tokens
from workbench.models import LM


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


def test_another_width_is_refused_with_both_widths() -> None:
    lm = architectures.build("llama")
    with pytest.raises(ValueError, match=r"shape \(7,\).*width 32"):
        token_effects(lm, torch.ones(7))
