"""An edited model is its original under the same interventions, in whatever is done with it."""

import re
from dataclasses import replace

import pytest
import torch
from architectures import NAMES, SENTENCES, build, steered_logits
from edited import make
from test_odds import PAIRS

from workbench.composition.compose import Same, compose
from workbench.composition.schedules import Dynamic
from workbench.extraction.extract import extract
from workbench.forward import tracing
from workbench.forward.reading import read_pairs
from workbench.generation.generate import generate
from workbench.interventions.keep_norm import KeepNorm, keep_norm
from workbench.interventions.maps import RemoveDirection, Replace, Turn
from workbench.interventions.updates import Add, Intervention
from workbench.keeping.edit import Edited, edit, steered, written_in
from workbench.loading.models import LM
from workbench.preference.odds import odds
from workbench.text import positions
from workbench.text.tokens import encode
from workbench.vectors.steering_vector import SteeringVector

PROMPTS = ("A girl and her dog", "The old fox walked slowly through the snow", "I am")
COMPLETIONS = (" went to the river.", " for", " very sad today")


def draw(lm: LM, seed: int) -> torch.Tensor:
    return torch.randn(lm.width, generator=torch.Generator().manual_seed(seed))


def edits(lm: LM) -> list[Intervention]:
    """At two layers, one of them twice, on different tokens."""
    return [
        Intervention(1, Add(draw(lm, 0)), 0.7),
        Intervention(0, Add(draw(lm, 1)), -0.5, positions.generated),
        Intervention(1, Replace(draw(lm, 2)), 0.5, positions.last),
    ]


def vector(lm: LM, layer: int = 1) -> SteeringVector:
    return SteeringVector(
        {layer: draw(lm, 3)}, {layer: 4.0}, lm.name, lm.fingerprint, "hand", layer
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_edited_model_is_the_original_under_the_same_interventions(name):
    lm = build(name)
    own, more = edits(lm), vector(lm).at(0.3)
    batch = encode(lm, PROMPTS, COMPLETIONS)
    plain = steered_logits(lm, batch)
    changed = edit(lm, own)
    for _ in range(2):  # it stays edited
        found = steered_logits(changed, batch)
        assert torch.equal(found, steered_logits(lm, batch, own))
    assert (found - plain)[batch.attention].abs().max() > 0.1
    assert torch.equal(
        steered_logits(changed, batch, more), steered_logits(lm, batch, [*own, *more])
    )
    assert torch.equal(
        tracing.logprobs(changed, batch).nan_to_num(),
        tracing.logprobs(lm, batch, own).nan_to_num(),
    )
    read = [tracing.read(each, batch, [0, 1, 2], interventions=given)
            for each, given in ((changed, ()), (lm, own))]  # fmt: skip
    assert torch.equal(*read)
    assert torch.equal(steered_logits(lm, batch), plain)  # the original is untouched


@pytest.mark.parametrize("name", NAMES)
def test_it_writes_the_same_texts(name):
    lm = build(name)
    made = generate(edit(lm, edits(lm)), PROMPTS, new_tokens=6)
    same = generate(lm, PROMPTS, edits(lm), new_tokens=6)
    assert torch.equal(made.ids, same.ids)
    # Unsteered is edited: what it wrote, it also finds as likely.
    torch.testing.assert_close(
        made.logprobs_steered, made.logprobs_unsteered, atol=1e-4, rtol=0, equal_nan=True
    )


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "bloom"])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_halves_hold_the_edits_once(name, kept):
    lm = build(name)
    own = [*edits(lm), *make(lm, "lora", layers=(0, 2)).at(0.5)]
    changed, batch = edit(lm, own), encode(lm, PROMPTS)
    more = [Intervention(2, Add(draw(lm, 4)), 0.5)]
    (below,), whole = tracing.lower(changed, batch, [kept], lambda x: x, keep=batch.width)
    expected = steered_logits(lm, batch, own)
    torch.testing.assert_close(whole[batch.attention], expected[batch.attention])
    for extra in ([], more):
        expected = steered_logits(lm, batch, [*own, *extra])
        halves = steered_logits(changed, batch, extra, below=below)
        torch.testing.assert_close(
            halves[batch.attention], expected[batch.attention], atol=1e-4, rtol=0
        )
    if kept == 2:
        with pytest.raises(ValueError, match=r"layer 0 is steered"):
            steered_logits(changed, batch, [Intervention(0, Add(draw(lm, 4)))], below=below)


def test_odds_and_composition_know_the_edits(tiny):
    lasting = [Intervention(0, Add(draw(tiny, 0)), 0.7)]
    changed = edit(tiny, lasting)
    table = odds(changed, vector(tiny), PAIRS, [-1.0, 0.0, 1.0], quiet=True)
    alone = odds(tiny, lasting, PAIRS, [0.0, 1.0], quiet=True)
    columns = ["loss_positive", "loss_negative"]
    assert set(columns) <= set(table.columns)
    torch.testing.assert_close(
        torch.tensor(table[table.m == 0][columns].to_numpy()),
        torch.tensor(alone[alone.m == 1][columns].to_numpy()),
        atol=1e-4,
        rtol=0,
    )
    both = {"v": Same(vector(tiny).at(1.0))}
    made = compose(changed, PROMPTS, both, {"v": Dynamic(0.6)}, new_tokens=5)
    written = encode(tiny, PROMPTS).extend(made.ids, made.lengths)
    coefficients = made.coefficients["v"].nan_to_num()
    again = [
        Intervention(
            1,
            vector(tiny).at(1.0)[0].update,
            lambda step: coefficients[:, min(step, 4)],
            positions.mask(
                torch.arange(written.width) >= written.width - 6, generated=True
            ),
        )
    ]  # fmt: skip
    expected = tracing.logprobs(tiny, written, [*lasting, *again])[:, -5:]
    torch.testing.assert_close(made.logprobs, expected, atol=1e-4, rtol=0, equal_nan=True)


def test_edits_are_stacked_and_undone(tiny):
    one, two = edits(tiny)[:1], vector(tiny).at(0.5)
    batch = encode(tiny, PROMPTS)
    twice = edit(edit(tiny, one), two)
    assert torch.equal(steered_logits(twice, batch), steered_logits(tiny, batch, [*one, *two]))
    once = twice.undo()
    assert torch.equal(steered_logits(once, batch), steered_logits(tiny, batch, one))
    assert isinstance(once, Edited)
    assert once.undo() is tiny
    assert twice.original is tiny
    assert twice.model is tiny.model
    assert "Add at layer 1, Add at layer 1" in repr(twice)


def test_within_a_block(tiny):
    batch = encode(tiny, PROMPTS)
    with steered(tiny, edits(tiny)) as changed:
        assert torch.equal(steered_logits(changed, batch), steered_logits(tiny, batch, edits(tiny)))
        assert not torch.equal(steered_logits(changed, batch), steered_logits(tiny, batch))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mixtral"])
def test_a_stream_is_written_in(name):
    lm = build(name)
    source = SENTENCES[0]
    changed = edit(lm, written_in(lm, source, 1))
    there = tracing.read(lm, [source], [1])
    for prompt in PROMPTS:
        assert torch.equal(tracing.read(changed, [prompt], [1]), there)
        assert not torch.equal(tracing.read(lm, [prompt], [1]), there)
    # Into its own place it changes nothing.
    batch = encode(lm, [source])
    torch.testing.assert_close(steered_logits(changed, batch), steered_logits(lm, batch))
    half = edit(lm, written_in(lm, source, 1, coefficient=0.5))
    middle = (there + tracing.read(lm, [PROMPTS[0]], [1])) / 2
    torch.testing.assert_close(tracing.read(half, [PROMPTS[0]], [1]), middle)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_what_is_made_of_an_update_lasts_as_it_does(name):
    lm = build(name)
    own = keep_norm(vector(lm).at(0.8))
    changed, batch = edit(lm, own), encode(lm, PROMPTS)
    assert torch.equal(steered_logits(changed, batch), steered_logits(lm, batch, own))
    assert not torch.equal(steered_logits(changed, batch), steered_logits(lm, batch))
    # All of it tells two edits apart: what it is made of, the kind of that, and how it is kept.
    inner = own[0].update.update
    updates = [
        inner,
        KeepNorm(inner),
        KeepNorm(Turn(inner.direction)),
        KeepNorm(Add(2 * inner.direction)),
        KeepNorm(inner, per="pass"),
    ]
    prints = {edit(lm, [replace(own[0], update=each)]).fingerprint for each in updates}
    assert len(prints) == len(updates)
    assert edit(lm, keep_norm(vector(lm).at(0.8))).fingerprint == changed.fingerprint


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "opt"])
def test_the_stream_after_the_final_norm_is_the_edited_models(name):
    """What compat reads at the last layer, against a plain hook on the blocks."""
    lm = build(name)
    direction = draw(lm, 5)
    changed = edit(lm, [Intervention(0, Add(direction))])
    found = read_pairs(changed, PAIRS, compat=True, cache=False)
    assert not torch.allclose(found.positive, read_pairs(lm, PAIRS, compat=True).positive)
    block = lm.model.get_submodule(lm.layer_path)[0]

    def add(_module, _inputs, output):
        plain = not isinstance(output, tuple)
        return output + direction if plain else (output[0] + direction, *output[1:])

    handle = block.register_forward_hook(add)
    try:
        with torch.no_grad():
            for row, pair in enumerate(PAIRS):
                ids = lm.tokenizer(pair.full[0], return_tensors="pt")["input_ids"]
                last = lm.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1]
                torch.testing.assert_close(found.positive[row, -1], last, atol=1e-5, rtol=1e-4)
    finally:
        handle.remove()


def test_it_runs_as_on_a_remote_server(tiny):
    changed, batch = edit(tiny, edits(tiny)), encode(tiny, PROMPTS)
    assert torch.equal(
        steered_logits(changed, batch, remote="local"), steered_logits(changed, batch)
    )
    there = generate(changed, PROMPTS, new_tokens=4, remote="local")
    assert torch.equal(there.ids, generate(changed, PROMPTS, new_tokens=4).ids)
    _, logits = tracing.lower(changed, batch, [1], lambda x: x, keep=batch.width, remote="local")
    assert torch.equal(logits, steered_logits(changed, batch))


def test_what_is_made_on_an_edited_model_is_not_the_originals(tiny):
    changed = edit(tiny, edits(tiny))
    prints = {
        tiny.fingerprint,
        changed.fingerprint,
        edit(tiny, edits(tiny)[:1]).fingerprint,
        edit(tiny, edits(tiny)).fingerprint,
        edit(tiny, [replace(edits(tiny)[0], coefficient=0.8)]).fingerprint,
        edit(tiny, [replace(edits(tiny)[0], positions=positions.prompt)]).fingerprint,
    }
    assert len(prints) == 5  # the same edits, the same model
    assert edit(tiny, edits(tiny)).fingerprint == changed.fingerprint
    made = extract(changed, PAIRS, layers=[1])
    made.check(changed)
    made.check(edit(changed, edits(tiny)[:1]))
    with pytest.raises(ValueError, match=r"made on"):
        made.check(tiny)
    with pytest.raises(ValueError, match=r"made on"):
        generate(tiny, PROMPTS, made.at(1.0), new_tokens=2)
    generate(changed, PROMPTS, made.at(1.0), new_tokens=2)
    vector(tiny).check(changed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda lm: [], "no interventions"),
        (lambda lm: edits(lm)[0], "wrap it in a list"),
        (lambda lm: [Intervention(9, Add(draw(lm, 0)))], "layer 9 is out of range"),
        (lambda lm: [Intervention(1, Add(torch.ones(3)))], "made for another model"),
        (lambda lm: [Intervention(1, Add(draw(lm, 0)), torch.ones(2))], "one batch or step"),
        (lambda lm: [Intervention(1, Add(draw(lm, 0)), lambda s: 1.0)], "one batch or step"),
        (
            lambda lm: [Intervention(1, Add(draw(lm, 0)), 1.0, positions.mask(torch.ones(1, 4)))],
            "belongs to one batch",
        ),
        (lambda lm: [Intervention(1, lambda h, s: h)], "is or holds a function"),
        (lambda lm: [Intervention(1, KeepNorm(lambda h, s: h))], "is or holds a function"),
        (
            lambda lm: written_in(lm, SENTENCES[0], 1, coefficient=torch.ones(2)),
            "one batch or step",
        ),
        (
            lambda lm: [Intervention(1, Replace(draw(lm, 0), torch.ones(2, lm.width)))],
            "the share of Replace has shape (2, 32): it belongs to the rows of one batch",
        ),
        (
            lambda lm: [Intervention(1, KeepNorm(RemoveDirection(torch.ones(2, lm.width))))],
            "the direction of KeepNorm has shape (2, 32): it belongs to the rows of one batch",
        ),
        (lambda lm: vector(build("gpt2")).at(1.0), "made on"),
    ],
)
def test_what_cannot_last_is_refused(tiny, wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        edit(tiny, wrong(tiny))
