"""Ablations equal plain PyTorch hooks, on every architecture; heads are those of the attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from architectures import (
    MIXTURES_OF_EXPERTS,
    NAMES,
    SENTENCES,
    build,
    config,
    steered_logits,
    tokenizer,
)
from conditioned import random_vector
from torch import Tensor

import workbench as wb
from workbench.anatomy.ablation import (
    Component,
    ablate,
    by_row,
    directions,
    everywhere,
    heads,
    parts,
    places,
)
from workbench.anatomy.fillings import means
from workbench.anatomy.resampling import samples
from workbench.forward import tracing
from workbench.forward.captures import capture
from workbench.interventions.updates import Place
from workbench.keeping.orthogonalise import removed_from_writes
from workbench.loading.models import LM, load
from workbench.text.positions import content, everything, last, mask
from workbench.text.tokens import Batch, encode

TEXTS = list(SENTENCES[:3])
Map = Callable[[Tensor], Tensor]


@contextmanager
def hooked(lm: LM, component: Component, change: Callable[[str], Map]) -> Iterator[None]:
    """Plain hooks that change what a component writes: change(site)(values (…, W))."""
    block = lm.model.get_submodule(f"{lm.layer_path}.{component.layer}")
    handles = []
    for at in component.places:
        new = change(at.site)
        if at.site == "heads":
            module = block.get_submodule(lm.attention_name(at.layer))
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, given, new=new: (new(given[0]), *given[1:])
                )
            )
            continue
        module = block if at.site == "residual" else writer(lm, at)

        def after(_module: Any, _given: Any, output: Any, new: Map = new) -> Any:
            return (new(output[0]), *output[1:]) if isinstance(output, tuple) else new(output)

        handles.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def writer(lm: LM, at: Place) -> torch.nn.Module:
    """What adds an output to the stream: the norm after it, which Gemma and OLMo-2 call so."""
    block = lm.model.get_submodule(f"{lm.layer_path}.{at.layer}")
    attention = at.site == "attention_write"
    if hasattr(block, "post_feedforward_layernorm"):
        return getattr(block, f"post_{'attention' if attention else 'feedforward'}_layernorm")
    name = lm.attention_name if attention else lm.projection_name
    return block.get_submodule(name(at.layer))


def zeroed(lm: LM, component: Component) -> Callable[[str], Map]:
    def change(site: str) -> Map:
        def new(values: Tensor) -> Tensor:
            if component.direction is not None:
                unit = component.direction / component.direction.norm()
                return values - (values @ unit)[..., None] * unit
            values = values.clone()
            if component.head is None:
                return values * 0
            size = values.shape[-1] // lm.heads
            values[..., component.head * size : (component.head + 1) * size] = 0
            return values

        return new

    return change


def everyone(lm: LM) -> list[Component]:
    """A head, both outputs, a layer and a direction."""
    generator = torch.Generator().manual_seed(7)
    along = Component(1, "direction", direction=torch.randn(lm.width, generator=generator))
    found = [Component(1, "head", 2), Component(0, "attention"), along]
    if lm.name.removesuffix("ForCausalLM").lower() not in ("mixtral", "qwen3moe"):
        found += [Component(2, "mlp"), Component(1, "layer")]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_its_hook(name: str) -> None:
    lm = build(name)
    batch = encode(lm, TEXTS)
    own = batch.attention
    plain = steered_logits(lm, batch)[own]
    for component in everyone(lm):
        found = steered_logits(lm, batch, ablate(lm, [component]))[own]
        with hooked(lm, component, zeroed(lm, component)):
            expected = steered_logits(lm, batch)[own]
        assert (expected - plain).abs().max() > 1e-3
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_one_batch_of_different_components_is_each_alone(name: str) -> None:
    lm = build(name)
    if name in MIXTURES_OF_EXPERTS:
        pytest.skip("its experts multiply the tokens of several rows together")
    components = [None, *everyone(lm), *heads(lm, [1])]
    one = encode(lm, TEXTS[:1])
    found = steered_logits(
        lm, many := one.select([0] * len(components)), by_row(lm, many, components), keep=1
    )
    for row, component in enumerate(components):
        alone = steered_logits(lm, one, ablate(lm, [component]) if component else (), keep=1)
        torch.testing.assert_close(found[row], alone[0], atol=1e-5, rtol=1e-5)
    unsteered = steered_logits(lm, many, keep=1)
    assert torch.equal(found[0], unsteered[0])


@pytest.mark.parametrize("name", NAMES)
def test_means_and_samples_are_their_hooks(name: str) -> None:
    lm = build(name)
    batch, donors = encode(lm, TEXTS), [f"{text} {text}" for text in SENTENCES[3:]]
    component = Component(1, "head", 1)
    size = lm.heads_width(1) // lm.heads
    mine = slice(size, 2 * size)
    calibration = encode(lm, SENTENCES[2:])
    read = [
        tracing.activations(lm, calibration.select([row]).trimmed(), [1], everything, site="heads")
        for row in range(4)
    ]
    pooled = torch.cat([each.values[1:, 0] for each in read]).mean(0)  # all but first tokens
    by = means(lm, SENTENCES[2:], component.places)
    torch.testing.assert_close(by.values[Place(1, "heads")], pooled, atol=1e-5, rtol=1e-5)
    drawn = samples(lm, batch, donors, component.places, seed=1)

    first = batch.positions == 0

    def put(target: Tensor) -> Callable[[str], Map]:
        def new(values: Tensor) -> Tensor:
            shape, pooling = values.shape, target.ndim == 1
            values = values.clone().view(*batch.ids.shape, -1)
            kept = values[first]
            values[..., mine] = target[..., mine]
            if pooling:
                values[first] = kept
            return values.view(shape)

        return lambda site: new

    apart = torch.zeros(*batch.ids.shape, lm.heads_width(1))
    for row, donor in enumerate(drawn.donors.tolist()):
        alone = encode(lm, [drawn.texts[donor]])
        values = tracing.activations(lm, alone, [1], everything, site="heads").values[:, 0]
        start = int((~batch.attention[row]).sum())
        apart[row, start:] = values[: batch.width - start]
    for filling, target in ((by, pooled), (drawn, apart)):
        edits = by_row(lm, batch, [component] * len(batch), by=filling)
        found = steered_logits(lm, batch, edits)[batch.attention]
        with hooked(lm, component, put(target)):
            expected = steered_logits(lm, batch)[batch.attention]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# How a fused projection (…, W) is taken apart into the values of each group (…, G, d), of size d.
FUSED: dict[str, tuple[str, Callable[[Tensor, int], Tensor]]] = {
    "gpt2": ("c_attn", lambda x, d: x.chunk(3, -1)[2].unflatten(-1, (-1, d))),
    "mpt": ("Wqkv", lambda x, d: x.chunk(3, -1)[2].unflatten(-1, (-1, d))),
    "phi3": ("qkv_proj", lambda x, d: x.unflatten(-1, (-1, d))[:, 6:]),  # 4 queries, 2 keys
    "gpt_neox": ("query_key_value", lambda x, d: x.unflatten(-1, (-1, 3, d))[..., 2, :]),
    "bloom": ("query_key_value", lambda x, d: x.unflatten(-1, (-1, 3, d))[..., 2, :]),
    "falcon": ("query_key_value", lambda x, d: x.unflatten(-1, (-1, d))[:, -1:]),
}
GROUPED = ("llama", "qwen2", "mistral", "gemma2", "olmo2")
APART = [*GROUPED, "phi", "opt"]


@pytest.mark.parametrize("name", [*APART, *FUSED])
def test_a_head_is_what_its_attention_weights_make_of_its_groups_values(name: str) -> None:
    """Query head h reads the values of group h // (H / G): by the attention's own weights."""
    model = transformers.AutoModelForCausalLM.from_config(
        config(name), attn_implementation="eager"
    ).eval()
    # Weights under which heads attend to different tokens.
    model.load_state_dict(build(name).model.state_dict())
    lm = load(model, tokenizer=tokenizer())
    batch = encode(lm, TEXTS[:1])
    seen: list[Tensor] = []
    block = lm.model.get_submodule(f"{lm.layer_path}.1")
    ending, split = FUSED.get(name, ("v_proj", lambda x, d: x.unflatten(-1, (-1, d))))
    (values,) = [m for n, m in block.named_modules() if n.endswith(ending)]
    hook = values.register_forward_hook(lambda _m, _g, output: seen.append(output.detach()))
    read = tracing.activations(lm, batch, [1], everything, site="heads").values[:, 0]
    hook.remove()
    with torch.no_grad():
        weights = lm.model(batch.ids, output_attentions=True).attentions[1][0]  # (H, T, T)
    size = lm.heads_width(1) // lm.heads
    value = split(seen[-1][0], size).transpose(0, 1)  # (G, T, d)
    grouped = {"falcon": 4, **dict.fromkeys((*GROUPED, "phi3"), 2)}
    assert len(value) * grouped.get(name, 1) == lm.heads
    for head in range(lm.heads):
        expected = weights[head] @ value[head // (lm.heads // len(value))]
        own = read[:, head * size : (head + 1) * size]
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


def test_a_layer_without_its_parts_is_skipped() -> None:
    """Of a block whose output is the stream plus both parts, nothing but the stream is left."""
    for name in ("llama", "gpt2", "gpt_neox", "gemma2", "bloom"):
        lm = build(name)
        batch = encode(lm, TEXTS)
        edits = ablate(lm, [Component(1, "layer")])
        before, after = tracing.read(
            lm, batch, [0, 1], everything, interventions=edits, pool="mean"
        ).unbind(1)  # type: ignore[union-attr]
        torch.testing.assert_close(after, before)


def test_half_an_ablation_is_half_way() -> None:
    lm = build("llama")
    batch, component = encode(lm, TEXTS), Component(2, "attention")
    streams = [
        tracing.activations(lm, batch, [2], last, site="attention_write", interventions=each).values
        for each in (
            [],
            ablate(lm, [component], coefficient=0.5),
            ablate(lm, [component]),
        )
    ]
    torch.testing.assert_close(streams[1], streams[0] / 2)
    assert not streams[2].any()


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "olmo2"])
def test_where_a_norm_follows_half_an_output_is_half_of_what_is_added(name: str) -> None:
    """A norm of half of something is the norm of it: so halves and means are of what it makes."""
    lm = build(name)
    batch = encode(lm, TEXTS)
    own = batch.attention
    plain = steered_logits(lm, batch)[own]
    component = Component(1, "layer")
    calibrated = means(lm, SENTENCES, component.places, positions=everything)
    for at in component.places:
        seen: list[Tensor] = []
        hook = writer(lm, at).register_forward_hook(
            lambda _m, _g, output, seen=seen: seen.append(output.detach())
        )
        other = encode(lm, SENTENCES)
        steered_logits(lm, other)
        hook.remove()
        mean = seen[0][other.attention].mean(0)
        torch.testing.assert_close(calibrated.values[at], mean, atol=1e-5, rtol=1e-5)
    edits = ablate(lm, [component], coefficient=0.5)
    with hooked(lm, component, lambda site: lambda values: values / 2):
        expected = steered_logits(lm, batch)[own]
    assert (expected - plain).abs().max() > 0.1
    torch.testing.assert_close(steered_logits(lm, batch, edits)[own], expected)
    edits = ablate(lm, [component], by=calibrated)
    mean_of = {at.site: calibrated.values[at] for at in component.places}
    with hooked(lm, component, lambda site: lambda values: mean_of[site].expand_as(values)):
        expected = steered_logits(lm, batch)[own]
    found = steered_logits(lm, batch, edits)[own]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_mean_leaves_first_tokens_as_they_are_unless_it_is_of_them_too() -> None:
    lm = build("llama")
    batch, component = encode(lm, TEXTS), Component(1, "mlp")
    first = batch.positions == 0
    before = capture(lm, batch, component.places)[component.places[0]]
    for positions, spared in ((None, True), (everything, False), (content, True)):
        by = means(lm, SENTENCES, component.places, positions=positions)
        assert by.spares_first == spared
        for edits in (
            ablate(lm, [component], by=by),
            by_row(lm, batch, [component] * len(batch), by=by),
        ):
            read = tracing.activations(
                lm, batch, [1], everything, site="mlp_write", interventions=edits
            )
            found = torch.zeros_like(before)
            found[batch.attention] = read.values[:, 0]
            real = batch.attention & ~first
            mean = by.values[component.places[0]]
            torch.testing.assert_close(found[real], mean.expand_as(found[real]))
            kept = torch.allclose(found[first & batch.attention], before[first & batch.attention])
            assert kept == spared
    by = means(lm, SENTENCES, component.places)
    edits = ablate(lm, [component], by=by, positions=mask(first & batch.attention))
    read = tracing.activations(lm, batch, [1], everything, site="mlp_write", interventions=edits)
    mean = by.values[component.places[0]]
    own = first[batch.attention]
    torch.testing.assert_close(read.values[own, 0], mean.expand(int(own.sum()), -1))


def test_a_text_is_written_with_a_part_ablated_as_it_is_read_back() -> None:
    lm = build("llama")
    calibrated = means(lm, SENTENCES, [Place(1, "heads")])
    edits = ablate(lm, [Component(1, "head", 0)], by=calibrated)
    made = wb.generate(lm, TEXTS, edits, new_tokens=5)
    written = made.batch.extend(made.ids, made.lengths)
    read = tracing.logprobs(lm, written, edits)[:, -5:]
    expected = made.logprobs_steered
    torch.testing.assert_close(read, expected, equal_nan=True, atol=1e-4, rtol=1e-4)
    assert wb.generate(lm, TEXTS, new_tokens=5).texts != made.texts


def test_a_vectors_directions_are_components() -> None:
    lm = build("llama")
    vector = random_vector(lm)
    found = directions(vector)
    assert [each.layer for each in found] == list(vector.layers)
    batch = encode(lm, TEXTS)
    edits = ablate(lm, found)
    streams = tracing.activations(lm, batch, list(vector.layers), interventions=edits).values
    for index, layer in enumerate(vector.layers):
        along = streams[:, index] @ vector.directions[layer]
        torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_it_runs_as_on_a_remote_server(name: str) -> None:
    lm = build(name)
    batch = encode(lm, TEXTS[:1]).select([0] * 5)
    edits = by_row(lm, batch, everyone(lm)[:5])
    there = steered_logits(lm, batch, edits, remote="local")
    torch.testing.assert_close(there, steered_logits(lm, batch, edits))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "olmo2", "gpt_neox"])
def test_a_direction_everywhere_is_one_that_nothing_writes(name: str) -> None:
    """As hooks on every write, embeddings included, each of which loses its part along it."""
    lm = build(name)
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(3))
    batch = encode(lm, TEXTS)
    own = batch.attention
    edits = ablate(lm, everywhere(lm, direction))
    found = steered_logits(lm, batch, edits)[own]
    written = [
        writer(lm, Place(layer, site))
        for layer in range(lm.layers)
        for site in ("attention_write", "mlp_write")
    ]
    tables = [m for m in lm.model.modules() if isinstance(m, torch.nn.Embedding)]
    mine = {module: n for n, module in lm.model.named_modules()}
    basis = (direction / direction.norm())[:, None]
    with removed_from_writes(lm.model, [mine[each] for each in (*tables, *written)], basis):
        expected = steered_logits(lm, batch)[own]
    assert (expected - steered_logits(lm, batch)[own]).abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    alone = [Component(layer, "direction", direction=direction) for layer in range(lm.layers)]
    assert (steered_logits(lm, batch, ablate(lm, alone))[own] - expected).abs().max() > 1e-2


def test_a_direction_is_removed_from_the_embeddings_of_a_mixture_of_experts_too() -> None:
    lm, direction = build("mixtral"), torch.ones(32)
    edits = ablate(lm, everywhere(lm, direction))
    layers = [tracing.EMBEDDINGS, 0, 1, 2]
    batch = encode(lm, TEXTS)
    read = tracing.activations(lm, batch, layers, everything, interventions=edits).values
    along = read @ direction
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-4, rtol=0)
    assert (tracing.activations(lm, batch, layers, everything).values @ direction).abs().min() > 0
    made = wb.generate(lm, TEXTS, edits, new_tokens=3)
    read = tracing.logprobs(lm, made.batch.extend(made.ids, made.lengths), edits)[:, -3:]
    torch.testing.assert_close(read, made.logprobs_steered, equal_nan=True, atol=1e-4, rtol=1e-4)


def test_lists_of_components() -> None:
    lm = build("llama")
    assert [(c.layer, c.head) for c in heads(lm)] == [(k, h) for k in range(3) for h in range(4)]
    assert [(c.layer, c.kind) for c in parts(lm, ["mlp", "layer"], [2])] == [
        (2, "mlp"),
        (2, "layer"),
    ]
    found = places([*heads(lm, [1]), *parts(lm, layers=[0, 1])])
    assert found == [
        Place(0, "attention_write"),
        Place(0, "mlp_write"),
        Place(1, "heads"),
        Place(1, "attention_write"),
        Place(1, "mlp_write"),
    ]
    table = pd.DataFrame({"layer": [2], "head": [3]})
    picked = Component(table["layer"].iloc[0], "head", table["head"].iloc[0])
    assert ablate(lm, [picked])[0].layer == 2
    assert torch.equal(picked.share(lm, picked.places[0]), heads(lm)[-1].share(lm, Place(2)))


def test_what_is_not_there_is_refused() -> None:
    lm, experts = build("llama"), build("mixtral")
    batch: Batch = encode(lm, TEXTS)
    with pytest.raises(ValueError, match=r"head 4 is out of range: a layer of .* has heads 0 … 3"):
        ablate(lm, [Component(0, "head", 4)])
    for head in (-1, True, 1.0, "1"):
        with pytest.raises(ValueError, match=f"head {head!r}: give a whole number of at least 0"):
            Component(0, "head", head)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer 3 is out of range"):
        ablate(lm, [Component(3, "mlp")])
    with pytest.raises(ValueError, match="has no single MLP down-projection"):
        ablate(experts, [Component(0, "mlp")])
    with pytest.raises(ValueError, match=r"direction has shape \(5,\), the residual stream of"):
        ablate(lm, [Component(0, "direction", direction=torch.ones(5))])
    with pytest.raises(ValueError, match="kind 'neuron' is unknown; choose one of head, att"):
        Component(0, "neuron")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="site 'mlp_write' of the kind 'mlp': only directions"):
        Component(0, "mlp", site="mlp_write")
    with pytest.raises(ValueError, match="layer -1 is out of range"):
        ablate(lm, [Component(-1, "attention")])
    for kind, given in (("head", {}), ("mlp", {"head": 0}), ("direction", {})):
        with pytest.raises(ValueError, match=f"of the kind '{kind}' with"):
            Component(0, kind, **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="components is empty"):
        ablate(lm, [])
    with pytest.raises(ValueError, match="2 components for a batch of 3 rows"):
        by_row(lm, batch, [None, None])
    with pytest.raises(ValueError, match=r"give layers=.1."):
        heads(lm, 1)  # type: ignore[arg-type]


def test_layers_are_whole_numbers_of_whatever_kind() -> None:
    lm = build("llama")
    of_numpy = Component(np.int64(1), "head", np.int64(2))  # type: ignore[arg-type]
    assert (type(of_numpy.layer), type(of_numpy.head)) == (int, int)
    with pytest.raises(ValueError, match=r"give layers=."):
        heads(lm, np.int64(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"give layers=.1."):
        directions(random_vector(lm), 1)  # type: ignore[arg-type]
    for wrong in (True, 1.5, "1", None, -2):
        with pytest.raises(ValueError, match=f"layer {wrong!r}: give a whole number"):
            Component(wrong, "mlp")  # type: ignore[arg-type]
