"""A baked checkpoint, loaded by transformers alone, is the traced intervention."""

import copy
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers
from architectures import MIXTURES_OF_EXPERTS, NAMES, build, config, steered_logits, tokenizer
from edited import make
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.generation.generate import generate
from workbench.interventions.maps import Replace
from workbench.interventions.updates import Add, Intervention
from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.keeping.bake import bake
from workbench.keeping.baked_changes import described, refuse_twice
from workbench.keeping.edit import edit
from workbench.keeping.orthogonalise import orthogonalise
from workbench.loading.fingerprints import fingerprint
from workbench.loading.models import LM, load
from workbench.text import positions
from workbench.text.tokens import encode
from workbench.vectors.steering_vector import SteeringVector

PROMPTS = ("A girl and her dog", "The old fox walked slowly through the snow", "I am")
# As which architecture a vector is baked; the others have no place for one.
WRITTEN_AS = {
    "llama": "LlamaForCausalLM with mlp_bias=True",
    "qwen2": "LlamaForCausalLM with mlp_bias=True",
    "phi3": "LlamaForCausalLM with mlp_bias=True",
    "mistral": "SmolLM3ForCausalLM with mlp_bias=True",  # for its window
    "qwen3": "HYV3ForCausalLM with mlp_bias=True",
    "granite": "GraniteForCausalLM with mlp_bias=True",
    "smollm3": "SmolLM3ForCausalLM with mlp_bias=True",
    "cohere": "CohereForCausalLM with attention_bias=True",
    "falcon": "FalconForCausalLM with bias=True",
    **dict.fromkeys(("phi", "gpt2", "gpt_neox", "gptj", "opt", "bloom"), ""),
}
REFUSED = sorted({*NAMES} - {*WRITTEN_AS})
DENSE = [name for name in NAMES if name not in MIXTURES_OF_EXPERTS]
SHORT = {"prompts": ("The",)}


def draw(lm: LM, seed: int) -> torch.Tensor:
    return torch.randn(lm.width, generator=torch.Generator().manual_seed(seed))


def vector(lm: LM, layer: int = 1, **changes) -> SteeringVector:
    about = {"fingerprint": lm.fingerprint, "method": "hand", "layer": layer, **changes}
    return SteeringVector({layer: draw(lm, 3)}, {layer: 5.0}, lm.name, **about)


def two_layers(lm: LM) -> list[Intervention]:
    return [Intervention(1, Add(draw(lm, 0)), 0.7), Intervention(2, Add(draw(lm, 1)), -0.5)]


def reloaded(baked, folder) -> LM:
    """From disk, by transformers alone; the rest of the test only reads it."""
    model = AutoModelForCausalLM.from_pretrained(baked.save(folder), dtype=torch.float32)
    return load(model.eval(), tokenizer=AutoTokenizer.from_pretrained(folder))


def require_same(lm: LM, other: LM, interventions) -> None:
    """Logits of a padded batch to 1e-4, and 64 greedy tokens by transformers' own generate."""
    batch = encode(lm, PROMPTS)
    traced = steered_logits(lm, batch, interventions)
    assert (traced - steered_logits(lm, batch))[batch.attention].abs().max() > 0.1
    found = steered_logits(other, batch)
    torch.testing.assert_close(found[batch.attention], traced[batch.attention], atol=1e-4, rtol=0)
    made = generate(lm, PROMPTS[:1], interventions, new_tokens=64, score=False)
    inputs = other.tokenizer(PROMPTS[0], return_tensors="pt")
    ids = other.model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        max_new_tokens=64,
        pad_token_id=0,
    )
    length = int(made.lengths[0])
    assert ids[0, inputs["input_ids"].shape[1] :].tolist() == made.ids[0, :length].tolist()


@pytest.mark.parametrize("name", WRITTEN_AS)
def test_a_vector(name, tmp_path):
    lm = build(name)
    before = fingerprint(lm.model)
    baked = bake(lm, two_layers(lm), **SHORT)
    assert baked.rewritten == WRITTEN_AS[name]
    assert baked.check.difference < 1e-4
    assert baked.check.same == baked.check.written
    assert baked.check.kl_bfloat16 < 10 * baked.check.kl_bfloat16_base + 1e-3
    assert fingerprint(lm.model) == before
    require_same(lm, reloaded(baked, tmp_path / "baked"), two_layers(lm))


@pytest.mark.parametrize("name", REFUSED)
def test_where_a_vector_has_no_place_the_error_says_what_would_work(name):
    lm = build(name)
    with pytest.raises(ValueError, match=r"no bias that adds a constant to the stream after") as e:
        bake(lm, two_layers(lm), **SHORT)
    assert "layer 1, 2" in str(e.value)
    assert "from workbench.keeping.edit import edit" in str(e.value)
    assert ("form='lora'" in str(e.value)) == (name in DENSE)


@pytest.mark.parametrize("name", DENSE)
def test_a_lora(name, tmp_path):
    lm = build(name)
    change = make(lm, "lora", layers=(0, 1)).at(-0.8)
    baked = bake(lm, change, **SHORT)
    assert baked.rewritten == ""
    assert len(baked.weights) == 2
    require_same(lm, reloaded(baked, tmp_path / "baked"), change)


@pytest.mark.parametrize("name", WRITTEN_AS)
def test_a_local_weight_with_its_bias(name, tmp_path):
    lm = build(name)
    change = make(lm, "local_weight").at(0.6)
    if name == "cohere":  # its one bias is the attention's, which the MLP's output is not
        with pytest.raises(ValueError, match=r"constant to the MLP output of layer 1"):
            bake(lm, change, **SHORT)
        return
    require_same(lm, reloaded(bake(lm, change, **SHORT), tmp_path / "baked"), change)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "phi3"])
def test_the_attentions_output_has_weights_of_its_own(name, tmp_path):
    lm = build(name)
    noise = torch.Generator().manual_seed(4)
    into = lm.heads_width(1)
    low = AddLowRank(
        torch.randn(into, 2, generator=noise) / into**0.5, torch.randn(2, lm.width, generator=noise)
    )
    given = [Intervention(1, low, 0.5, site="attention")]
    if name in ("gpt2", "gpt_neox"):  # they have a bias there
        given.append(Intervention(2, Add(draw(lm, 6)), 0.7, site="attention"))
    baked = bake(lm, given, **SHORT)
    own = f"{lm.layer_path}.1.{lm.attention_name(1)}.weight"
    assert own in baked.weights
    assert not any(lm.projection_name(1) in each for each in baked.weights)
    require_same(lm, reloaded(baked, tmp_path / "baked"), given)


def test_a_constant_of_the_attention_takes_the_attentions_bias_or_none(tmp_path):
    lm = build("llama")
    given = [Intervention(1, Add(draw(lm, 0)), 2.0, site="attention")]
    baked = bake(lm, given, **SHORT)
    assert baked.rewritten == "LlamaForCausalLM with attention_bias=True"
    assert baked.weights == ("model.layers.1.self_attn.o_proj.bias",)
    require_same(lm, reloaded(baked, tmp_path / "baked"), given)
    lm = build("stablelm")  # its attention's output has no bias, whatever its settings
    given = [Intervention(1, Add(draw(lm, 0)), 2.0, site="attention")]
    with pytest.raises(ValueError, match=r"adds a constant to the attention output of layer 1, "):
        bake(lm, given, **SHORT)


def test_what_was_made_on_an_edited_model_is_baked_with_its_edits(tmp_path):
    lm = build("gpt2")
    lasting = vector(lm).at(0.3)
    edited = edit(lm, lasting)
    on_it = replace(vector(lm, 2), model=edited.name, fingerprint=edited.fingerprint)
    baked = bake(edited, on_it.at(0.5), **SHORT)
    both = [*lasting, *vector(lm, 2).at(0.5)]
    require_same(lm, reloaded(baked, tmp_path / "baked"), both)
    with pytest.raises(ValueError, match=r"made on"):
        bake(lm, on_it.at(0.5), **SHORT)


def test_several_kinds_together_and_what_the_model_is_edited_by(tmp_path):
    lm = build("gpt2")
    lasting = vector(lm).at(0.3)
    more = [*make(lm, "lora").at(0.5), *make(lm, "local_weight").at(0.5), *vector(lm, 0).at(0.2)]
    baked = bake(edit(lm, lasting), more, **SHORT)
    assert [each.kind for each in baked.changes] == ["vector", "LoRA", "local weight", "vector"]
    require_same(lm, reloaded(baked, tmp_path / "baked"), [*lasting, *more])


def test_a_constant_of_the_mlp_and_one_behind_a_norm(tmp_path):
    settings = config("opt")
    settings.do_layer_norm_before = False
    torch.manual_seed(0)
    lm = load(AutoModelForCausalLM.from_config(settings), tokenizer=tokenizer())
    given = [Intervention(1, Add(draw(lm, 0)), 2.0, site=site) for site in ("mlp", "residual")]
    baked = bake(lm, given, **SHORT)
    assert [name.split("layers.1.")[1] for name in baked.weights] == [
        "fc2.bias",
        "final_layer_norm.bias",
    ]
    require_same(lm, reloaded(baked, tmp_path / "baked"), given)


def test_a_mistral_without_a_window_within_its_context(tmp_path):
    settings = config("mistral")
    settings.sliding_window = None
    torch.manual_seed(0)
    lm = load(AutoModelForCausalLM.from_config(settings), tokenizer=tokenizer())
    given = [Intervention(1, Add(draw(lm, 0)), 3.0)]
    baked = bake(lm, given, **SHORT)
    assert baked.rewritten == WRITTEN_AS["llama"]
    require_same(lm, reloaded(baked, tmp_path / "baked"), given)


def test_in_half_precision(tmp_path):
    model = AutoModelForCausalLM.from_config(config("gpt2"), dtype=torch.bfloat16)
    lm = load(model, tokenizer=tokenizer())
    baked = bake(lm, [Intervention(1, Add(draw(lm, 0)), 2.0)], **SHORT)
    assert baked.check.dtype == "bfloat16"
    assert baked.check.kl < 0.01
    folder = baked.save(tmp_path / "half")
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16


def test_the_first_token_is_steered_too(tiny):
    given = vector(tiny).at(0.5)
    batch = encode(tiny, ["<s>A girl"])
    model = load(bake(tiny, given, **SHORT).model, tokenizer=tokenizer())
    moved = steered_logits(model, batch)[0, 0] - steered_logits(tiny, batch)[0, 0]
    assert moved.abs().max() > 0.1


def test_it_loads_where_this_package_is_not(tiny, tmp_path):
    folder = bake(tiny, vector(tiny).at(0.5), **SHORT).save(tmp_path / "baked")
    code = (
        "import sys\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(folder)!r})\n"
        f"words = AutoTokenizer.from_pretrained({str(folder)!r})\n"
        "ids = words('A girl', return_tensors='pt').input_ids\n"
        "assert 'workbench' not in sys.modules and 'nnsight' not in sys.modules\n"
        "print(float(model(ids).logits.double().sum()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    there = steered_logits(tiny, encode(tiny, ["A girl"]), vector(tiny).at(0.5))
    assert float(done.stdout) == pytest.approx(float(there.double().sum()), abs=1e-2)
    assert not list(folder.glob("*.py"))
    assert "auto_map" not in (folder / "config.json").read_text()


def test_baking_the_same_again_is_refused_and_another_is_not(tiny, tmp_path):
    unknown = vector(tiny, fingerprint="")
    folder = bake(tiny, unknown.at(0.5), **SHORT).save(tmp_path / "once")
    once = load(folder)
    for twice in (unknown.at(0.5), unknown.at(-0.1), unknown.at(0.7, unit="raw")):
        with pytest.raises(ValueError, match=r"baked into 'once' already .* coefficient 0.5"):
            bake(once, twice, **SHORT)
    with pytest.raises(ValueError, match=r"made on 'LlamaForCausalLM'.* not on 'once'"):
        bake(once, vector(tiny).at(0.5), **SHORT)
    again = bake(once, vector(tiny, 2, fingerprint="").at(0.4), **SHORT)
    assert again.rewritten == ""  # the bias is there already
    assert [each["layer"] for each in again.model.config.baked] == [1, 2]
    both = [*unknown.at(0.5), *vector(tiny, 2).at(0.4)]
    require_same(tiny, load(again.save(tmp_path / "twice")), both)


def test_twice_is_the_same_direction_at_the_same_place(tiny):
    """Whatever its size, its sign, and how it is factored; told from a direction 1 % away."""
    lora = make(tiny, "lora").at(1.0)[0]
    update = lora.update
    assert isinstance(update, AddLowRank)
    turned = replace(lora, update=AddLowRank(update.a * 2, update.b / -2), coefficient=0.1)
    whole = replace(lora, update=AddLinear(update.matrix(), torch.zeros(tiny.width)))
    for other in (turned, whole):
        with pytest.raises(ValueError, match=r"of layer 1 is given twice \(coefficients 1 and"):
            bake(tiny, [lora, other], **SHORT)
    direction, noise = draw(tiny, 0), draw(tiny, 1)
    near = direction + 0.01 * noise * direction.norm() / noise.norm()
    one, other = Intervention(1, Add(direction)), Intervention(1, Add(near))
    for twice in (one, Intervention(1, Add(-3.7 * direction), 0.2)):
        with pytest.raises(ValueError, match=r"the vector of layer 1 is given twice"):
            bake(edit(tiny, [one]), [twice], **SHORT)
    for new in (other, Intervention(2, Add(direction)), replace(one, site="mlp")):
        refuse_twice(tiny, [described(one), described(new)])


def test_single_neurons_are_told_apart():
    """Directions of one entry each, in a wide stream."""
    every = torch.eye(4096)[:200]
    sketches = [described(Intervention(1, Add(row))).sketch for row in every]
    table = torch.tensor(sketches)
    apart = torch.minimum(
        (table[:, None] - table).abs().amax(-1), (table[:, None] + table).abs().amax(-1)
    )
    assert apart.fill_diagonal_(9).min() > 0.01


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda lm: [Intervention(1, Add(torch.zeros(lm.width)))], "nothing to bake"),
        (lambda lm: vector(lm).at(0.0), "nothing to bake"),
        (lambda lm: [], "nothing to bake"),
        (lambda lm: vector(lm).at(1.0, positions=positions.last), "a weight acts on every token"),
        (lambda lm: vector(lm).at(1.0, positions=positions.generated), "keep the model edited"),
        (lambda lm: vector(lm).at(torch.ones(2)), "one batch or step"),
        (lambda lm: vector(lm).at(lambda step: 1.0), "one batch or step"),
        (lambda lm: [Intervention(1, lambda h, s: h)], "is or holds a function"),
        (
            lambda lm: [Intervention(1, Replace(draw(lm, 0)))],
            "Replace at the site 'residual' is no change",
        ),
        (
            lambda lm: [Intervention(1, Add(torch.ones(lm.heads_width(1))), site="heads")],
            "at the site 'heads' is no change",
        ),
        (
            lambda lm: [replace(make(lm, "lora").at(1.0)[0], site="residual")],
            "made for another model or for another site",
        ),
        (lambda lm: vector(build("gpt2")).at(1.0), "made on 'GPT2LMHeadModel'"),
        (lambda lm: [Intervention(7, Add(draw(lm, 0)))], "layer 7 is out of range"),
        (lambda lm: vector(lm).at(1.0)[0], "wrap it in a list"),
    ],
)
def test_what_no_weight_holds_is_refused(tiny, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bake(tiny, wrong(tiny), **SHORT)


def test_quantised_and_unloaded_models_are_refused(tiny, monkeypatch):
    given = vector(tiny, fingerprint="").at(1.0)
    monkeypatch.setattr(
        tiny.model.config, "quantization_config", SimpleNamespace(bits=4), raising=False
    )
    with pytest.raises(ValueError, match=r"is quantised: .* bfloat16, bake, and quantise"):
        bake(tiny, given, **SHORT)
    monkeypatch.undo()
    monkeypatch.setattr(
        tiny.model, "hf_device_map", {"model.layers.0": 0, "model.layers.1": 1}, raising=False
    )
    with pytest.raises(ValueError, match=r"is spread over 0, 1 by a device_map"):
        bake(tiny, given, **SHORT)
    monkeypatch.undo()
    with torch.device("meta"):
        away = transformers.LlamaForCausalLM(config("llama"))
    described = LM(SimpleNamespace(_module=away, tokenizer=tokenizer()), "away", "model.layers")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not all in memory"):
        bake(described, given, **SHORT)


class Int8(nn.Module):
    """A linear map that keeps its matrix as whole numbers, as quantised models do."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.scale = float(linear.weight.detach().abs().max()) / 127
        whole = (linear.weight.detach() / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(whole, requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ (self.weight.float() * self.scale).T


def test_weights_that_are_whole_numbers_are_refused():
    model = copy.deepcopy(build("llama").model)
    model.model.layers[2].mlp.up_proj = Int8(model.model.layers[2].mlp.up_proj)
    lm = load(model, tokenizer=tokenizer())
    with pytest.raises(ValueError, match=r"is quantised: a change would be rounded away"):
        bake(lm, [Intervention(1, Add(draw(lm, 0)))], **SHORT)


class Adapted(nn.Module):
    """A linear map beside which an adapter stands, named as peft names it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.base_layer = linear
        self.lora_A = nn.Linear(linear.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, linear.out_features, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.base_layer(hidden) + self.lora_B(self.lora_A(hidden))


@pytest.mark.parametrize("kind", ["bias", "adapter"])
def test_weights_that_the_architecture_has_not_are_named(kind):
    model = copy.deepcopy(build("llama").model)
    mlp = model.model.layers[1].mlp
    if kind == "bias":
        mlp.down_proj.bias = nn.Parameter(torch.ones(32))
    else:
        mlp.up_proj = Adapted(mlp.up_proj)
    lm = load(model, tokenizer=tokenizer())
    name = "down_proj.bias" if kind == "bias" else "up_proj.base_layer.weight"
    for work in (
        lambda: bake(lm, [Intervention(1, Add(draw(lm, 0)))], **SHORT),
        lambda: orthogonalise(lm, draw(lm, 0), **SHORT),
    ):
        with pytest.raises(ValueError, match=rf"has not, or lacks .*layers\.1\.mlp\.{name}"):
            work()


def test_a_lora_is_offered_where_the_layer_itself_has_room_for_one():
    """A dense first block says nothing of the mixtures of experts above it."""
    settings = config("qwen3_moe")
    settings.mlp_only_layers = [0]
    lm = load(AutoModelForCausalLM.from_config(settings), tokenizer=tokenizer())
    for layer, offered in ((0, True), (1, False)):
        with pytest.raises(ValueError, match=rf"stream after layer {layer}") as e:
            bake(lm, [Intervention(layer, Add(draw(lm, 0)))], **SHORT)
        assert ("form='lora'" in str(e.value)) == offered


def test_code_of_others_is_refused():
    class Own(transformers.LlamaForCausalLM):
        pass

    lm = load(Own(config("llama")), tokenizer=tokenizer())
    with pytest.raises(ValueError, match=r"runs code of its own \(Own of test_bake\)"):
        bake(lm, [Intervention(1, Add(draw(lm, 0)))], **SHORT)


def test_a_result_that_is_not_the_same_is_not_given_out(tiny, monkeypatch):
    import workbench.keeping.bake as module

    monkeypatch.setattr(module, "_write", lambda *_: None)
    with pytest.raises(ValueError, match=r"does not compute what the traced interventions do"):
        bake(tiny, vector(tiny).at(0.5), **SHORT)
