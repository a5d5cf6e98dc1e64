import inspect
import warnings

import pytest
import torch
from architectures import build, steered_logits

from workbench.forward import tracing
from workbench.generation import scoring
from workbench.generation.generate import generate
from workbench.interventions.updates import Add, Intervention
from workbench.loading.models import load
from workbench.text import positions
from workbench.text.tokens import encode

PROMPTS = ("A girl and her dog", "I am")
COMPLETIONS = (" went to the river.", " sad")


@pytest.fixture
def batch(tiny):
    return encode(tiny, PROMPTS, COMPLETIONS)


def vector(lm, seed=3):
    return torch.randn(lm.width, generator=torch.Generator().manual_seed(seed))


def edit(lm, layer=1, coefficient=1.5, rule=positions.everything):
    return Intervention(layer, Add(vector(lm)), coefficient, rule)


def by_hooks(lm, batch, adds):
    """The reference: plain forward hooks. Gives the stream after each block, and the logits."""
    streams, handles = [], []
    for layer, block in enumerate(lm.model.get_submodule(lm.layer_path)):

        def hook(_module, _inputs, output, layer=layer):
            hidden = output[0] if isinstance(output, tuple) else output
            for where, amount in adds:
                if where == layer:
                    hidden = hidden + amount
            streams.append(hidden)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handles.append(block.register_forward_hook(hook))
    try:
        with torch.no_grad():
            inputs = {"input_ids": batch.ids, "attention_mask": batch.attention.long()}
            if "position_ids" in inspect.signature(type(lm.model).forward).parameters:
                inputs["position_ids"] = batch.positions
            logits = lm.model(**inputs).logits
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(streams, dim=2), logits


@pytest.mark.parametrize("name", ["llama", "gpt2", "mpt", "gemma2"])
def test_one_steered_forward_is_what_plain_hooks_compute(name):
    lm = build(name)
    batch = encode(lm, PROMPTS, COMPLETIONS)
    values = torch.tensor([2.0, -1.0])
    amount = values[:, None, None] * vector(lm) * batch.attention[..., None]
    streams, expected = by_hooks(lm, batch, [(0, amount), (2, amount)])
    edits = [edit(lm, 2, values), edit(lm, 0, values)]
    found = steered_logits(lm, batch, edits)
    torch.testing.assert_close(found[batch.attention], expected[batch.attention])
    read = tracing.read(lm, batch, [0, 1, 2], positions.everything, pool=None, interventions=edits)
    torch.testing.assert_close(torch.cat(read), streams[batch.attention])


def test_the_same_layer_may_be_steered_twice(tiny, batch):
    once = steered_logits(tiny, batch, [edit(tiny, coefficient=3.0)])
    twice = steered_logits(tiny, batch, [edit(tiny, coefficient=1.0), edit(tiny, coefficient=2.0)])
    torch.testing.assert_close(once[batch.attention], twice[batch.attention])


def test_keep_gives_the_last_columns(tiny, batch):
    full = steered_logits(tiny, batch)
    assert full.shape == (2, batch.width, tiny.vocabulary)
    torch.testing.assert_close(steered_logits(tiny, batch, keep=2), full[:, -2:])


def test_keep_works_for_a_forward_that_does_not_know_it(tiny, batch, monkeypatch):
    full = steered_logits(tiny, batch)
    sound = tracing.model_parameters(tiny.model)
    monkeypatch.setattr(
        tracing, "model_parameters", lambda _: {k: v for k, v in sound.items() if "keep" not in k}
    )
    assert torch.equal(steered_logits(tiny, batch, keep=2), full[:, -2:])


def test_logprobs_of_completions_only(tiny, batch):
    found = tracing.logprobs(tiny, batch, [edit(tiny)])
    table = steered_logits(tiny, batch, [edit(tiny)]).log_softmax(dim=-1)
    assert found.dtype == torch.float32
    assert torch.equal(~found.isnan(), batch.completion)
    for row, column in batch.completion.nonzero().tolist():
        expected = table[row, column - 1, batch.ids[row, column]]
        torch.testing.assert_close(found[row, column], expected)


def test_logprobs_of_whole_texts(tiny):
    batch = encode(tiny, PROMPTS)
    found = tracing.logprobs(tiny, batch)
    assert torch.equal(~found.isnan(), batch.attention & (batch.positions > 0))
    table = steered_logits(tiny, batch).log_softmax(dim=-1)
    expected = table[:, :-1].gather(-1, batch.ids[:, 1:, None])[..., 0]
    scored = ~found[:, 1:].isnan()
    torch.testing.assert_close(found[:, 1:][scored], expected[scored])
    single = encode(tiny, ["a"])
    assert tracing.logprobs(tiny, single).isnan().all()


def test_read_pools_or_splits(tiny, batch):
    rows = tracing.read(tiny, batch, [2, 0], positions.prompt, pool=None)
    assert [tuple(r.shape) for r in rows] == [(int(n), 2, 32) for n in batch.prompt.sum(dim=1)]
    mean = tracing.read(tiny, batch, [2, 0], positions.prompt)
    torch.testing.assert_close(mean, torch.stack([r.mean(dim=0) for r in rows]))
    last = tracing.read(tiny, batch, [2, 0])
    assert torch.equal(last, torch.stack([r[-1] for r in rows]))
    forward = tracing.read(tiny, batch, [0, 2])
    assert torch.equal(last, forward.flip(1))


def test_read_stops_after_the_last_layer_it_needs(tiny, batch):
    ran = []
    blocks = tiny.model.get_submodule(tiny.layer_path)
    watched = {"block 1": blocks[1], "block 2": blocks[2], "head": tiny.model.lm_head}
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, module in watched.items()
    ]
    try:
        tracing.read(tiny, batch, [0, 1])
        assert ran == ["block 1"]
        tracing.read(tiny, batch, [2], interventions=[edit(tiny, 0)])
        assert ran == ["block 1", "block 1", "block 2"]
    finally:
        for handle in handles:
            handle.remove()


def test_later_interventions_do_not_reach_an_earlier_layer(tiny, batch):
    plain = tracing.read(tiny, batch, [0])
    assert torch.equal(tracing.read(tiny, batch, [0], interventions=[edit(tiny, 2)]), plain)
    assert not torch.equal(tracing.read(tiny, batch, [0], interventions=[edit(tiny, 0)]), plain)


def test_norms_come_from_the_same_pass(tiny, batch):
    found = tracing.activations(tiny, batch, [0, 2], positions.everything, norms=True)
    assert found.norms is not None
    assert torch.equal(found.norms.isnan().all(dim=-1), ~batch.attention)
    torch.testing.assert_close(found.norms[batch.attention], found.values.norm(dim=-1))
    assert torch.equal(tracing.norms(tiny, batch, [0, 2]).nan_to_num(), found.norms.nan_to_num())


def test_half_precision_is_read_as_float32(tiny):
    lm = build("llama", seed=5)
    lm.model.bfloat16()
    batch = encode(lm, PROMPTS, COMPLETIONS)
    assert tracing.read(lm, batch, [0]).dtype == torch.float32
    assert tracing.logprobs(lm, batch, [edit(lm)]).dtype == torch.float32
    assert steered_logits(lm, batch, [edit(lm)]).dtype == torch.bfloat16


def test_no_gradients_and_no_warnings(tiny, batch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not steered_logits(tiny, batch, [edit(tiny)]).requires_grad
        assert not tracing.read(tiny, batch, [1], interventions=[edit(tiny)]).requires_grad


def test_gradients_flow_through_the_forward_where_they_are_wanted(tiny, batch):
    direction = torch.zeros(tiny.width, requires_grad=True)
    total = tracing.forward(
        tiny, batch, [Intervention(1, Add(direction))], lambda logits: logits.logsumexp(-1).sum()
    )
    total.backward()
    assert direction.grad is not None
    assert direction.grad.norm() > 0
    tiny.model.zero_grad(set_to_none=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda lm: edit(lm, 3), "layer 3 is out of range: .* has 0 … 2"),
        (lambda lm: edit(lm, -2), "layer -2 is out of range"),
        (lambda lm: Intervention(0, Add(torch.ones(31))), "width 31, .* has width 32"),
        (lambda lm: edit(lm, 0, torch.ones(3)), "3 coefficients for a batch of 2 rows"),
        (lambda lm: edit(lm, 0, lambda step: float("nan")), "not finite"),
    ],
)
def test_bad_interventions_are_refused_before_the_model_runs(tiny, batch, make, message):
    ran = []
    handle = tiny.model.register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        for call in (steered_logits, tracing.logprobs):
            with pytest.raises(ValueError, match=message):
                call(tiny, batch, [make(tiny)])
        with pytest.raises(ValueError, match=message):
            tracing.read(tiny, batch, [0], interventions=[make(tiny)])
    finally:
        handle.remove()
    assert ran == []


def test_bad_reads_are_refused(tiny, batch):
    with pytest.raises(ValueError, match="layers is empty"):
        tracing.read(tiny, batch, [])
    with pytest.raises(ValueError, match="layer 7 is out of range"):
        tracing.read(tiny, batch, [0, 7])
    with pytest.raises(ValueError, match="pool 'max' is unknown"):
        tracing.read(tiny, batch, [0], pool="max")
    with pytest.raises(ValueError, match="generated chooses no token of row 0: 'I am'"):
        tracing.read(tiny, encode(tiny, ["I am"]), [0], positions.generated)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_everything_runs_as_on_a_remote_server(name):
    lm = build(name)
    batch = encode(lm, PROMPTS, COMPLETIONS)
    edits = [edit(lm, 1, torch.tensor([2.0, -1.0]))]
    for remote in ("local", False, "local"):
        here = {"interventions": edits, "remote": remote}
        torch.testing.assert_close(
            tracing.read(lm, batch, [0, 2], positions.prompt, **here),
            tracing.read(lm, batch, [0, 2], positions.prompt, interventions=edits),
        )
        torch.testing.assert_close(
            tracing.logprobs(lm, batch, **here),
            tracing.logprobs(lm, batch, edits),
            equal_nan=True,
        )
        torch.testing.assert_close(
            steered_logits(lm, batch, edits, remote=remote), steered_logits(lm, batch, edits)
        )
        torch.testing.assert_close(
            tracing.norms(lm, batch, [1], remote=remote),
            tracing.norms(lm, batch, [1]),
            equal_nan=True,
        )


def test_a_real_model_predicts_its_language(stories):
    text = encode(stories, ["Once upon a time, there was a little girl named Lily."])
    found = tracing.logprobs(stories, text)
    assert found[~found.isnan()].mean() > -1.0


def test_prompts_need_no_batch(tiny):
    batch = encode(tiny, PROMPTS)
    assert torch.equal(tracing.read(tiny, PROMPTS, [1]), tracing.read(tiny, batch, [1]))
    torch.testing.assert_close(
        tracing.logprobs(tiny, list(PROMPTS)), tracing.logprobs(tiny, batch), equal_nan=True
    )
    with pytest.raises(ValueError, match="prompts is one prompt, 'I am'; wrap it in a list"):
        tracing.read(tiny, "I am", [1])
    with pytest.raises(ValueError, match="prompts is 3; give a list of texts or chats"):
        tracing.logprobs(tiny, 3)


def test_a_schedule_of_a_texts_tokens_scores_that_text(tiny):
    batch = encode(tiny, ["I am"])
    written = batch.extend(torch.tensor([[5, 6, 7]]), torch.tensor([3]))
    steps = [0.5, 1.0, 1.5]
    found = tracing.logprobs(tiny, written, [edit(tiny, 1, steps.__getitem__)])
    longer = tracing.logprobs(tiny, written, [edit(tiny, 1, [*steps, 9.0].__getitem__)])
    assert torch.equal(found.nan_to_num(), longer.nan_to_num())


def test_unsteered_scoring_in_pieces_is_one_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ragged rows, a few at a time or all at once: the same but for rounding."""
    lm = load("wren")
    prompts = ["Marta & Benno:", "<|user|> How do I mend a torn net?</s><|assistant|>"] * 3
    made = generate(lm, prompts, new_tokens=20, temperature=1.0, seed=3, score=False)
    written = made.batch.extend(made.ids, made.lengths, made.texts)
    whole, whole_scores = tracing.logprobs(lm, written), scoring.score(lm, written)
    monkeypatch.setattr(tracing, "TOKENS", 2 * written.width)
    assert [len(part) for part in tracing.pieces(lm, written)] == [2, 2, 2]
    assert len(list(tracing.pieces(lm, written, "local"))) == 1
    torch.testing.assert_close(tracing.logprobs(lm, written), whole, equal_nan=True)
    again = scoring.score(lm, written)
    for name in ("logprobs", "echoes", "entropy"):
        torch.testing.assert_close(
            getattr(again, name), getattr(whole_scores, name), equal_nan=True, atol=1e-5, rtol=1e-4
        )


def test_texts_that_are_the_same_are_scored_once(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order, and with another row for what differs in its padding alone."""
    batch = encode(tiny, ["I am", "The old fox", "I am", "I am"])
    ids = torch.tensor([[5, 6, 7], [5, 6, 7], [5, 6, 7], [5, 6, 7]])
    written = batch.extend(ids, torch.tensor([3, 3, 3, 2]))
    read = []

    def watched(lm, part, remote=False):
        read.append(len(part))
        yield part

    monkeypatch.setattr(tracing, "pieces", watched)
    found = scoring.score(tiny, written)
    assert read == [3]
    for row in range(4):
        alone = scoring.score(tiny, written.select([row]))
        torch.testing.assert_close(
            found.logprobs[row : row + 1], alone.logprobs, equal_nan=True, atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(
            found.echoes[row : row + 1], alone.echoes, equal_nan=True, atol=1e-5, rtol=1e-5
        )
