"""LoRA and local weight: a traced intervention is a truly edited weight, on every architecture."""

import copy
import math
import re
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import architectures
import pytest
import torch
import transformers
from edited import edited, make
from torch import nn

from workbench.forward import tracing
from workbench.forward.steering import plan
from workbench.interventions.updates import Add, Intervention
from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.loading.models import LM, load
from workbench.text import positions
from workbench.text.tokens import encode
from workbench.vectors.forms import LocalWeight, LoRA, WeightForm

generation = import_module("workbench.generation.generate")

PROMPTS = ("A girl and her dog", "The old fox walked slowly through the snow", "I am")
COMPLETIONS = (" went to the river.", " for", " very sad today, said the bird")
COEFFICIENTS = (1.5, -1.0, 0.0)
DENSE = [name for name in architectures.NAMES if name not in architectures.MIXTURES_OF_EXPERTS]
FORMS = ("lora", "local_weight")

dense = pytest.mark.parametrize("name", DENSE)
both = pytest.mark.parametrize("form", FORMS)


def per_row(form: WeightForm, **how):
    return form.at(torch.tensor(COEFFICIENTS), **how)


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def difference(lm: LM, form: WeightForm) -> float:
    """Logits of a batch with a coefficient per row, against models edited for each."""
    batch = encode(lm, PROMPTS, COMPLETIONS)
    traced = architectures.steered_logits(lm, batch, per_row(form))
    worst = 0.0
    for row, coefficient in enumerate(COEFFICIENTS):
        changed = architectures.steered_logits(edited(lm, form, coefficient), batch)
        here = batch.attention[row]
        worst = max(worst, largest(traced[row][here], changed[row][here]))
    return worst


@dense
@both
def test_a_traced_intervention_is_an_edited_weight(name, form):
    lm = architectures.build(name)
    change = make(lm, form)
    batch = encode(lm, PROMPTS, COMPLETIONS)
    plain = architectures.steered_logits(lm, batch)
    moved = architectures.steered_logits(lm, batch, per_row(change))
    assert largest(plain[:2], moved[:2]) > 0.1  # else anything would do
    assert difference(lm, change) < 1e-5


@both
def test_at_several_layers_too(form):
    lm = architectures.build("gemma2")
    assert difference(lm, make(lm, form, layers=(0, 2))) < 2e-5


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "olmo2"])
def test_a_change_of_the_block_output_is_another_thing_where_norms_follow(name):
    """The fault of the published code: the same change added behind the norm."""
    lm = architectures.build(name)
    change = make(lm, "local_weight")
    batch = encode(lm, PROMPTS[:1])
    seen = []
    module = lm.model.get_submodule(f"{lm.layer_path}.1.{lm.projection_name(1)}")
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        architectures.steered_logits(lm, batch)
    finally:
        handle.remove()
    weight, bias = change.delta(1)
    behind = Intervention(1, lambda hidden, scale: hidden + scale * (seen[0] @ weight + bias))
    there = architectures.steered_logits(lm, batch, change.at(1.0))
    assert largest(architectures.steered_logits(lm, batch, [behind]), there) > 0.1


@dense
def test_decoding_with_a_cache_is_the_edited_model(name):
    lm = architectures.build(name)
    change = make(lm, "local_weight")
    made = generation.generate(lm, PROMPTS, per_row(change), new_tokens=5, score=False)
    again = tracing.logprobs(lm, made.batch.extend(made.ids, made.lengths), per_row(change))
    torch.testing.assert_close(
        made.logprobs_steered, again[:, -5:], atol=1e-4, rtol=0, equal_nan=True
    )
    other = generation.generate(
        edited(lm, change, COEFFICIENTS[0]), PROMPTS[:1], new_tokens=5, score=False
    )
    assert made.texts[0] == other.texts[0]


@dense
@both
def test_coefficient_zero_is_unsteered_bit_for_bit(name, form):
    lm = architectures.build(name)
    batch = encode(lm, PROMPTS)
    steered = architectures.steered_logits(lm, batch, per_row(make(lm, form)))
    assert torch.equal(steered[2], architectures.steered_logits(lm, batch)[2])


def test_rows_in_a_batch_are_as_alone():
    lm = architectures.build("opt")  # whose MLP has the tokens of all rows in one dimension
    change = make(lm, "lora")
    batch = encode(lm, PROMPTS, COMPLETIONS)
    together = tracing.logprobs(lm, batch, per_row(change))
    for row, coefficient in enumerate(COEFFICIENTS):
        alone = tracing.logprobs(
            lm, encode(lm, [PROMPTS[row]], [COMPLETIONS[row]]), change.at(coefficient)
        )[0]
        torch.testing.assert_close(
            together[row, -len(alone) :], alone, atol=1e-4, rtol=0, equal_nan=True
        )


def test_positions_and_steps_hold_as_for_a_vector(tiny):
    change = make(tiny, "lora")
    batch = encode(tiny, PROMPTS, COMPLETIONS)
    plain = architectures.steered_logits(tiny, batch)
    late = architectures.steered_logits(tiny, batch, change.at(1.0, positions=positions.generated))
    before = batch.prompt
    assert torch.equal(late[before], plain[before])
    assert largest(late[batch.completion], plain[batch.completion]) > 0.1
    stepped = change.at(lambda step: 0.0 if step else 1.0)
    prompt_only = change.at(1.0, positions=positions.prompt)
    assert torch.equal(
        architectures.steered_logits(tiny, batch, stepped),
        architectures.steered_logits(tiny, batch, prompt_only),
    )


def test_reading_sees_the_change_and_stops_before_later_layers(tiny):
    change = make(tiny, "lora", layers=(1, 2))
    batch = encode(tiny, PROMPTS)
    streams = tracing.read(tiny, batch, [0, 1], interventions=change.at(1.0))
    plain = tracing.read(tiny, batch, [0, 1])
    assert torch.equal(streams[:, 0], plain[:, 0])
    assert largest(streams[:, 1], plain[:, 1]) > 0.1
    changed = tracing.read(edited(tiny, change, 1.0), batch, [0, 1])
    torch.testing.assert_close(streams, changed, atol=1e-5, rtol=0)


def test_a_vector_and_a_weight_act_together(tiny):
    change, batch = make(tiny, "lora"), encode(tiny, PROMPTS)
    both = [Intervention(1, Add(torch.ones(tiny.width)), 0.5), *change.at(1.0)]
    assert list(plan(tiny, batch, both)) == [(1, "mlp"), (1, "residual")]
    expected = architectures.steered_logits(edited(tiny, change, 1.0), batch, both[:1])
    found, real = architectures.steered_logits(tiny, batch, both), batch.attention
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=0)


def test_a_vector_at_the_down_projection_is_its_bias(tiny):
    bias = torch.randn(tiny.width)
    here = Intervention(1, Add(bias), 2.0, site="mlp")
    zero = torch.zeros(tiny.inner_width(1), tiny.width)
    change = LocalWeight({1: AddLinear(zero, bias)}, "tiny", "", "hand")
    batch = encode(tiny, PROMPTS)
    torch.testing.assert_close(
        architectures.steered_logits(tiny, batch, [here])[batch.attention],
        architectures.steered_logits(edited(tiny, change, 2.0), batch)[batch.attention],
        atol=1e-5,
        rtol=0,
    )


def test_a_weight_may_read_the_stream_that_it_writes(tiny):
    a, b = torch.randn(tiny.width, 2), torch.randn(2, tiny.width)
    batch = encode(tiny, PROMPTS)
    plain = Intervention(1, lambda hidden, scale: hidden + scale * (hidden @ a @ b), 0.1)
    torch.testing.assert_close(
        architectures.steered_logits(tiny, batch, [Intervention(1, AddLowRank(a, b), 0.1)]),
        architectures.steered_logits(tiny, batch, [plain]),
    )


@pytest.mark.parametrize("name", ["llama", "opt"])
@both
def test_it_runs_as_on_a_remote_server(name, form):
    lm = architectures.build(name)
    batch = encode(lm, PROMPTS, COMPLETIONS)
    edits = per_row(make(lm, form))
    torch.testing.assert_close(
        tracing.logprobs(lm, batch, edits, remote="local"),
        tracing.logprobs(lm, batch, edits),
        equal_nan=True,
    )
    made = [
        generation.generate(lm, PROMPTS, edits, new_tokens=4, score=False, remote=remote)
        for remote in ("local", False)
    ]
    assert torch.equal(made[0].ids, made[1].ids)
    torch.testing.assert_close(
        tracing.read(lm, batch, [1], interventions=edits, remote="local"),
        tracing.read(lm, batch, [1], interventions=edits),
    )


def test_gradients_flow_to_the_change(tiny):
    a = torch.randn(tiny.inner_width(1), 2, requires_grad=True)
    b = torch.randn(2, tiny.width, requires_grad=True)
    edit = Intervention(1, AddLowRank(a, b), torch.tensor(COEFFICIENTS), site="mlp")
    batch = encode(tiny, PROMPTS)
    tracing.forward(tiny, batch, [edit], lambda logits: logits.square().mean()).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.abs().max() > 0
    assert b.grad.abs().max() > 0
    tiny.model.zero_grad()


class Widened(nn.Module):
    """An MLP behind which a block runs another map to the width of the stream, as Gemma-3n does."""

    def __init__(self, mlp: nn.Module, inner: int) -> None:
        super().__init__()
        self.mlp, self.more = mlp, nn.Sequential(nn.Linear(32, inner), nn.Linear(inner, 32))

    def forward(self, hidden):
        return self.more(self.mlp(hidden))


def test_the_down_projection_is_found_by_structure_or_not_at_all():
    names = {name: architectures.build(name).projection_name(1) for name in DENSE}
    assert names["gpt2"] == "mlp.c_proj"
    assert names["opt"] == "fc2"
    assert names["mpt"] == "ffn.down_proj"
    assert names["gemma3"] == names["olmo2"] == "mlp.down_proj"
    # A later map that reads less than the MLP's own leaves it open which is meant.
    model = copy.deepcopy(architectures.build("llama").model)
    model.model.layers[1].mlp = Widened(model.model.layers[1].mlp, 16)
    lm = load(model, tokenizer=architectures.tokenizer())
    assert lm.projection_name(0) == "mlp.down_proj"
    with pytest.raises(ValueError, match=r"block 1 of .* has no single MLP down-projection"):
        lm.projection_name(1)


def test_it_is_found_on_a_model_whose_weights_are_elsewhere():
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(architectures.config("gemma2"))
    away = LM(SimpleNamespace(_module=model), "away", "model.layers")  # type: ignore[arg-type]
    assert away.projection_name(2) == "mlp.down_proj"
    assert away.inner_width(2) == 64


# ---- what does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize("name", architectures.MIXTURES_OF_EXPERTS)
def test_a_mixture_of_experts_is_refused_with_the_remedy(name):
    lm = architectures.build(name)
    kind = type(lm.model).__name__
    message = rf"block 1 of .*{kind}.* has no single MLP down-projection.*form='vector'"
    with pytest.raises(ValueError, match=message):
        lm.inner_width(1)
    edit = Intervention(1, Add(torch.ones(lm.width)), site="mlp")
    with pytest.raises(ValueError, match=message):
        tracing.logprobs(lm, PROMPTS, [edit])


def test_widths_that_do_not_fit_are_named(tiny):
    batch = encode(tiny, PROMPTS)
    narrow = LoRA({1: AddLowRank(torch.ones(48, 2), torch.ones(2, 32))}, "m", "", "hand")
    with pytest.raises(ValueError, match="reads a width of 48, the MLP down-projection of layer 1"):
        plan(tiny, batch, narrow.at(1.0))
    with pytest.raises(ValueError, match=r"of 48 to 32 at layer 1 .* maps 64 to 32"):
        narrow.check(tiny)
    short = LoRA({1: AddLowRank(torch.ones(64, 2), torch.ones(2, 16))}, "m", "", "hand")
    with pytest.raises(ValueError, match=r"has width 16, the residual stream of .* has width 32"):
        plan(tiny, batch, short.at(1.0))
    deep = LoRA({9: AddLowRank(torch.ones(64, 2), torch.ones(2, 32))}, "m", "", "hand")
    with pytest.raises(ValueError, match=r"layer 9, the model .* has layers 0 to 2"):
        deep.check(tiny)
    at_stream = Intervention(1, narrow.changes[1], 1.0)
    with pytest.raises(ValueError, match=r"reads a width of 48, the residual stream .* gives 32"):
        plan(tiny, batch, [at_stream])


@both
def test_a_change_of_another_model_is_refused(tiny, form):
    other = architectures.build("llama", seed=5)
    change = make(other, form)
    message = f"this {change.kind} was made on .*weights {other.fingerprint[:12]}"
    with pytest.raises(ValueError, match=message):
        tracing.logprobs(tiny, PROMPTS, change.at(1.0))
    with pytest.raises(ValueError, match=message):
        change.check(tiny)
    change.check(tiny, same_model=False)
    tracing.logprobs(tiny, PROMPTS, replace(change, fingerprint="").at(1.0))


def test_sites_layers_and_shapes_are_checked(tiny):
    with pytest.raises(ValueError, match="site 'keys' is unknown; choose one of heads, att"):
        Intervention(0, Add(torch.ones(2)), site="keys")  # type: ignore[arg-type]
    change = make(tiny, "lora")
    for layers, words in ((1, "not a list"), ([], "at least one"), ([1, 1], "each once")):
        with pytest.raises(ValueError, match=words):
            change.at(1.0, layers=layers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no change at layer 2; this LoRA has \(1,\)"):
        change.at(1.0, layers=[2])
    with pytest.raises(ValueError, match=re.escape("A has shape (3, 2) and B (4, 5)")):
        AddLowRank(torch.ones(3, 2), torch.ones(4, 5))
    with pytest.raises(ValueError, match=r"weight has shape \(3, 2\) and the bias \(3,\)"):
        AddLinear(torch.ones(3, 2), torch.ones(3))
    with pytest.raises(ValueError, match="the bias has values that are not finite"):
        AddLinear(torch.ones(3, 2), torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match="a LoRA needs a change at one layer"):
        LoRA({}, "m", "", "hand")
    with pytest.raises(ValueError, match="a LoRA takes AddLowRank"):
        LoRA({0: AddLinear(torch.ones(3, 2), torch.ones(2))}, "m", "", "hand")
    with pytest.raises(ValueError, match="layer -1 is negative"):
        LoRA({-1: change.changes[1]}, "m", "", "hand")


# ---- files --------------------------------------------------------------------------------------


def test_a_form_is_not_saved_under_the_ending_of_another_format(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"v\.pt'.* end it in '\.safetensors'$"):
        make(tiny, "lora").save(tmp_path / "v.pt")
    assert not list(tmp_path.iterdir())


@both
def test_a_saved_form_comes_back(tiny, form, tmp_path):
    change = replace(make(tiny, form, (0, 2)), provenance={"trait": "mood", "seed": 3})
    path = tmp_path / "change.safetensors"
    change.save(path)
    back = type(change).load(path)
    assert (back.layers, back.model, back.fingerprint) == ((0, 2), tiny.name, tiny.fingerprint)
    assert back.provenance == {"trait": "mood", "seed": 3}
    for layer in change.layers:
        for one, other in zip(change.delta(layer), back.delta(layer), strict=True):
            assert (one is None and other is None) or torch.equal(one, other)
    assert repr(back) == repr(change)
    other = LocalWeight if form == "lora" else LoRA
    with pytest.raises(ValueError, match=rf"holds no {other.kind} of this package"):
        other.load(path)


def test_files_that_hold_no_form_are_refused(tiny, tmp_path):
    path = tmp_path / "lora.safetensors"
    with pytest.raises(FileNotFoundError, match="no LoRA at"):
        LoRA.load(path)
    make(tiny, "lora").save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        LoRA.load(path)
    path.write_bytes(content.replace(b'"b.1"', b'"c.1"'))
    with pytest.raises(ValueError, match="a damaged LoRA: unexpected tensor"):
        LoRA.load(path)


def test_a_multiple_is_a_larger_coefficient(tiny):
    change, batch = make(tiny, "local_weight"), encode(tiny, PROMPTS)
    torch.testing.assert_close(
        architectures.steered_logits(tiny, batch, (2 * change).at(0.5)),
        architectures.steered_logits(tiny, batch, change.at(1.0)),
    )
