"""Orthogonalised weights are the direction removed from every write while the model runs."""

import copy
import re

import pytest
import torch
from architectures import NAMES, build, config, tokenizer
from torch import nn
from transformers import AutoModelForCausalLM

from workbench.forward import tracing
from workbench.generation.generate import generate
from workbench.interventions.updates import Add, Intervention
from workbench.keeping.baked_card import card
from workbench.keeping.baked_check import logits_of
from workbench.keeping.edit import edit
from workbench.keeping.orthogonalise import orthogonalise
from workbench.loading.fingerprints import fingerprint
from workbench.loading.models import LM, load
from workbench.text.tokens import encode
from workbench.vectors.steering_vector import SteeringVector

PROMPTS = ("A girl and her dog", "The old fox walked slowly through the snow", "I am")
SHORT = {"prompts": ("The",)}
# A norm follows a write, or experts write.
REFUSED = ("gemma2", "gemma3", "olmo2", "bloom", "mixtral", "qwen3_moe")
ABLE = [name for name in NAMES if name not in REFUSED]


def draw(lm: LM, count: int = 1) -> torch.Tensor:
    return torch.randn(count, lm.width, generator=torch.Generator().manual_seed(5))


def removed(lm: LM, rows: torch.Tensor) -> list:
    """Hooks that take the directions from what embeddings, attention and MLP write, written by the
    projection's own formula R' (R R')^-1 R."""
    projector = torch.linalg.pinv(rows) @ rows  # (D, D)

    def remove(_module, _given, output):
        return output - output @ projector

    blocks = [
        f"{lm.layer_path}.{layer}.{name}"
        for layer in range(lm.layers)
        for name in (lm.attention_name(layer), lm.projection_name(layer))
    ]
    tables = [n for n, m in lm.model.named_modules() if isinstance(m, nn.Embedding)]
    return [lm.model.get_submodule(n).register_forward_hook(remove) for n in [*blocks, *tables]]


@pytest.mark.parametrize("name", ABLE)
def test_it_is_the_removal_from_every_write(name, tmp_path):
    lm, rows = build(name), draw(build(name), 2)
    before = fingerprint(lm.model)
    baked = orthogonalise(lm, rows, **SHORT)
    assert baked.check.same == baked.check.written
    assert fingerprint(lm.model) == before
    other = load(baked.save(tmp_path / "without"))
    batch = encode(lm, PROMPTS)
    plain = tracing.forward(lm, batch, [], lambda logits: logits).detach()
    hooks = removed(lm, rows)
    try:
        with torch.no_grad():
            expected = tracing.forward(lm, batch, [], lambda logits: logits)
        made = generate(lm, PROMPTS[:1], new_tokens=64, score=False)
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        found = tracing.forward(other, batch, [], lambda logits: logits)
    real = batch.attention
    assert (expected - plain)[real].abs().max() > 0.1
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=0)
    assert torch.equal(generate(other, PROMPTS[:1], new_tokens=64, score=False).ids, made.ids)
    streams = tracing.read(other, batch, range(lm.layers))
    assert isinstance(streams, torch.Tensor)
    along = (streams @ rows.T / rows.norm(dim=1)).abs() / streams.norm(dim=-1, keepdim=True)
    assert along.max() < 1e-5


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "olmo2", "bloom"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_a_norm_brings_it_back_it_is_refused(name, dtype):
    model = copy.deepcopy(build(name).model).to(dtype)
    lm = load(model, tokenizer=tokenizer())
    with pytest.raises(ValueError, match=r"brings the direction back: .* A norm follows a write"):
        orthogonalise(lm, draw(lm)[0], **SHORT)


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_experts_are_refused(name):
    lm = build(name)
    with pytest.raises(ValueError, match=r"a mixture of experts has one for each"):
        orthogonalise(lm, draw(lm)[0], **SHORT)


def test_half_precision_is_no_reason_to_refuse_but_for_a_second_time(tmp_path):
    lm = load(copy.deepcopy(build("llama").model).to(torch.bfloat16), tokenizer=tokenizer())
    baked = orthogonalise(lm, draw(lm)[0], **SHORT)
    assert baked.check.kl < 0.01
    again = load(baked.save(tmp_path / "without"), dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"removed from its weights already"):
        orthogonalise(again, draw(lm)[0], **SHORT)


def test_the_texts_are_written_under_the_removal():
    """By plain hooks, as the model that the checkpoint is compared with writes them."""
    lm, rows = build("gpt2"), draw(build("gpt2"))
    hooks = removed(lm, rows)
    try:
        made = generate(lm, ["The"], new_tokens=64, score=False)
    finally:
        for hook in hooks:
            hook.remove()
    plain = generate(lm, ["The"], new_tokens=64, score=False)
    assert not torch.equal(made.ids, plain.ids)
    baked = orthogonalise(lm, rows[0], **SHORT)
    assert (baked.check.same, baked.check.parted) == (int(made.lengths[0]), None)
    batch = encode(lm, ["The"]).extend(made.ids, made.lengths)
    largest = float(logits_of(baked.model, batch)[batch.attention].abs().max())
    assert baked.check.largest == pytest.approx(largest, rel=1e-4)


def test_tied_output_embeddings_stay_as_they_are(tmp_path):
    lm = build("gpt2")
    head = lm.model.get_output_embeddings().weight  # type: ignore[union-attr]
    assert head is lm.model.get_input_embeddings().weight
    baked = orthogonalise(lm, draw(lm)[0], **SHORT)
    folder = baked.save(tmp_path / "without")
    assert "were tied to the input's and are weights of their own here" in card(
        baked.facts(), False
    )
    other = orthogonalise(build("llama"), draw(lm)[0], **SHORT)
    assert "were tied" not in card(other.facts(), False)
    assert "| removed direction | all | every write | – |" in card(other.facts(), False)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(model.get_output_embeddings().weight, head)
    assert not torch.equal(model.get_input_embeddings().weight, head)


def test_a_vector_says_its_direction_and_its_model(tiny, tmp_path):
    row = draw(tiny)[0]
    vector = SteeringVector({1: row}, {}, tiny.name, tiny.fingerprint, "hand", 1)
    baked = orthogonalise(tiny, vector, **SHORT)
    (change,) = baked.changes
    assert (change.kind, change.made_on) == ("removed direction", "LlamaForCausalLM")
    again = load(baked.save(tmp_path / "without"))
    with pytest.raises(ValueError, match=r"nothing in 'without' writes along .* already"):
        orthogonalise(again, -2.7 * row, **SHORT)
    assert orthogonalise(again, draw(tiny, 2)[1], **SHORT).check.equal
    with pytest.raises(ValueError, match=r"made on"):
        orthogonalise(build("qwen2"), vector, **SHORT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda lm: torch.ones(3), "3 wide"),
        (lambda lm: torch.zeros(lm.width), "of some length"),
        (lambda lm: torch.ones(2, lm.width), "independent"),
        (lambda lm: torch.full((lm.width,), float("nan")), "finite"),
        (lambda lm: [1.0], "no direction (D,)"),
    ],
)
def test_what_is_no_direction_is_refused(tiny, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        orthogonalise(tiny, wrong(tiny), **SHORT)


def test_an_edited_model_is_refused(tiny):
    changed = edit(tiny, [Intervention(1, Add(draw(tiny)[0]))])
    with pytest.raises(ValueError, match=r"is edited"):
        orthogonalise(changed, draw(tiny)[0], **SHORT)


def test_a_norm_with_equal_weights_brings_nothing_back():
    """What is refused is told by the streams, not by the architecture's name."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config("olmo2"))  # its norms begin as all ones
    lm = load(model, tokenizer=tokenizer())
    assert orthogonalise(lm, draw(lm)[0], **SHORT).check.equal
