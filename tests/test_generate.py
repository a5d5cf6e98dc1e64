import math
import threading
import warnings
from dataclasses import replace

import pytest
import torch
from architectures import SENTENCES, build, steered_logits
from transformers import GenerationConfig

from workbench.forward import tracing
from workbench.generation import overflow
from workbench.generation.generate import end_ids, generate, text_lengths
from workbench.interventions.updates import Add, Intervention
from workbench.loading.models import LM
from workbench.text import positions
from workbench.text.tokens import encode, pad_id

PROMPTS = ("Once upon a time", "Lily and Tom went to the big park and", "The dog")
VALUES = torch.tensor([0.0, 1.0, -1.5])


def vector(lm, seed=3):
    return torch.randn(lm.width, generator=torch.Generator().manual_seed(seed))


def edits(lm, rule=positions.everything):
    return [Intervention(1, Add(vector(lm)), VALUES, rule)]


def test_greedy_text_is_transformers_own(stories):
    batch = encode(stories, PROMPTS)
    expected = stories.model.generate(
        input_ids=batch.ids,
        attention_mask=batch.attention.long(),
        do_sample=False,
        max_new_tokens=12,
    )
    made = generate(stories, PROMPTS, new_tokens=12)
    assert torch.equal(made.ids, expected[:, batch.width :])
    whole = [
        stories.tokenizer.decode(row, skip_special_tokens=True)
        for row in torch.cat([made.batch.ids, made.ids], dim=1)
    ]
    assert [a + b for a, b in zip(PROMPTS, made.texts, strict=True)] == whole
    assert made.lengths.tolist() == [12, 12, 12]


def test_steered_text_is_what_a_plain_hook_gives(stories):
    batch = encode(stories, PROMPTS)
    amount = VALUES[:, None, None] * vector(stories)
    block = stories.model.get_submodule(stories.layer_path)[1]
    handle = block.register_forward_hook(lambda _m, _i, output: output + amount)
    try:
        expected = stories.model.generate(
            input_ids=batch.ids,
            attention_mask=batch.attention.long(),
            do_sample=False,
            max_new_tokens=12,
        )
    finally:
        handle.remove()
    made = generate(stories, batch, edits(stories), new_tokens=12)
    assert torch.equal(made.ids, expected[:, batch.width :])


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_scores_are_those_of_one_forward(stories, temperature):
    how = {"new_tokens": 6, "temperature": temperature, "top_p": 0.9, "repetition_penalty": 1.3}
    made = generate(stories, PROMPTS, edits(stories), kl=True, **how)
    written = made.batch.extend(made.ids, made.lengths)
    steered, plain = (
        steered_logits(stories, written, e, keep=7)[:, :-1].log_softmax(dim=-1)
        for e in (edits(stories), ())
    )
    near = {"atol": 1e-4, "rtol": 0}
    pick = made.ids[..., None]
    torch.testing.assert_close(made.logprobs_steered, steered.gather(-1, pick)[..., 0], **near)
    torch.testing.assert_close(made.logprobs_unsteered, plain.gather(-1, pick)[..., 0], **near)
    torch.testing.assert_close(made.entropy, -(steered.exp() * steered).sum(dim=-1), **near)
    expected = (steered.exp() * (steered - plain)).sum(dim=-1)
    torch.testing.assert_close(made.kl, expected, **near)
    assert (made.kl[0] < 1e-5).all()
    assert (made.kl[1:] > 0.01).any()


def test_what_is_not_asked_for_is_not_there(stories):
    made = generate(stories, PROMPTS[:1], new_tokens=2, score=False)
    assert made.logprobs_unsteered is None
    assert made.kl is None
    assert generate(stories, PROMPTS[:1], new_tokens=2).kl is None


@pytest.fixture
def ending():
    """A model for which every tenth token ends a text, so that rows end at different steps."""
    lm = build("llama", seed=12)
    lm.model.generation_config.eos_token_id = list(range(2, lm.vocabulary, 10))
    return lm


def test_nothing_is_reported_after_the_end(ending):
    ends = end_ids(ending)
    made = generate(
        ending,
        ["I am", "A girl", "The old fox", "What is"],
        new_tokens=40,
        temperature=3.0,
        kl=True,
    )
    assert len(set(made.lengths.tolist())) > 1
    after = torch.arange(40) >= made.lengths[:, None]
    assert (made.ids[after] == pad_id(ending)).all()
    for values in (made.logprobs_steered, made.logprobs_unsteered, made.entropy, made.kl):
        assert values.shape == (4, 40)
        assert torch.equal(values.isnan(), after)
    for ids, n in zip(made.ids, made.lengths.tolist(), strict=True):
        assert n == 40 or int(ids[n - 1]) in ends
        assert not torch.isin(ids[: n - 1], torch.tensor(ends)).any()


def test_lengths_include_the_first_end_token():
    ids = torch.tensor([[5, 6, 7], [5, 2, 7], [2, 2, 2], [5, 6, 3]])
    assert text_lengths(ids, (2, 3)).tolist() == [3, 2, 1, 3]
    assert text_lengths(ids, ()).tolist() == [3, 3, 3, 3]


def test_the_end_token_can_be_put_off(ending):
    how = {"new_tokens": 30, "temperature": 3.0, "score": False}
    prompts = ["I am", "A girl", "The old fox", "What is"]
    shortest = int(generate(ending, prompts, **how).lengths.min())
    assert shortest < 20
    later = generate(ending, prompts, min_new_tokens=20, **how)
    assert later.lengths.min() > 20


def test_sampling_repeats_with_its_seed_and_differs_with_another(stories):
    how = {"new_tokens": 12, "temperature": 1.0, "score": False}
    one, again, other = (generate(stories, PROMPTS, seed=s, **how).ids for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_text_depends_on_its_stream_not_on_its_row(stories):
    how = {"new_tokens": 12, "temperature": 1.0, "score": False}
    forward = generate(stories, PROMPTS, streams=[5, 6, 7], **how).ids
    backward = generate(stories, PROMPTS[::-1], streams=[7, 6, 5], **how).ids
    assert torch.equal(forward, backward.flip(0))
    shared = generate(stories, PROMPTS[:1] * 3, streams=[4, 4, 9], **how).ids
    assert torch.equal(shared[0], shared[1])
    assert not torch.equal(shared[0], shared[2])


@pytest.mark.parametrize("remote", [False, "local"])
def test_the_divergence_of_prompts_that_end_in_completions_is_of_the_new_tokens(stories, remote):
    """What was already there is the prompt's: as if it had been one text."""
    ends = ([" there", " was"], [" and", " the sun"])
    continued = encode(stories, PROMPTS[:2], [" ".join(words) for words in ends])
    whole = replace(continued, starts=torch.full_like(continued.starts, continued.width))
    steered = [Intervention(1, Add(vector(stories)), torch.tensor([1.0, -1.5]))]
    how = {"new_tokens": 5, "kl": True, "remote": remote}
    found = generate(stories, continued, steered, **how)
    expected = generate(stories, whole, steered, **how)
    assert torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.kl, expected.kl, equal_nan=True)
    torch.testing.assert_close(
        found.logprobs_unsteered, expected.logprobs_unsteered, equal_nan=True
    )
    assert (found.kl.nan_to_num() > 0.01).any()


def test_a_checkpoints_own_generation_settings_do_not_leak_in(tiny):
    lm = build("llama", seed=11)
    plain = generate(lm, ["I am"], new_tokens=8)
    lm.model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=5.0,
        top_k=3,
        repetition_penalty=3.0,
        no_repeat_ngram_size=1,
        min_length=30,
        max_length=7,
        eos_token_id=lm.tokenizer.eos_token_id,
        pad_token_id=pad_id(lm),
    )
    before = lm.model.generation_config.to_dict()
    again = generate(lm, ["I am"], new_tokens=8)
    assert torch.equal(plain.ids, again.ids)
    torch.testing.assert_close(plain.logprobs_steered, again.logprobs_steered)
    assert lm.model.generation_config.to_dict() == before


@pytest.mark.parametrize(
    "rule", [positions.everything, positions.prompt, positions.generated, positions.last]
)
def test_generation_steers_what_teacher_forcing_steers(stories, rule):
    made = generate(stories, PROMPTS, edits(stories, rule), new_tokens=6)
    written = made.batch.extend(made.ids, made.lengths)
    again = tracing.logprobs(stories, written, edits(stories, rule))[:, -6:]
    torch.testing.assert_close(made.logprobs_steered, again, atol=1e-4, rtol=0)


def test_the_coefficient_may_follow_the_step(stories):
    batch = encode(stories, PROMPTS[:1])

    def only_step_two(step):
        return 8.0 if step == 2 else 0.0

    steered = [Intervention(2, Add(vector(stories)), only_step_two)]
    made = generate(stories, batch, steered, new_tokens=5, kl=True)
    assert (made.kl[0, :2] < 1e-5).all()
    assert made.kl[0, 2] > 0.1


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_generation_runs_as_on_a_remote_server(name):
    lm = build(name)
    prompts = ["I am", "A girl and her dog", "The old"]
    how = {"new_tokens": 6, "temperature": 1.0, "kl": True}
    for remote in ("local", "local"):
        here = generate(lm, prompts, edits(lm), **how)
        there = generate(lm, prompts, edits(lm), remote=remote, **how)
        assert torch.equal(here.ids, there.ids)
        torch.testing.assert_close(here.entropy, there.entropy, equal_nan=True)
        torch.testing.assert_close(here.kl, there.kl, equal_nan=True)


class Streamer:
    def __init__(self):
        self.pieces, self.ended = [], False

    def put(self, value):
        self.pieces.append(value.clone())

    def end(self):
        self.ended = True


class StopWhen:
    def __init__(self, event, steps):
        self.event, self.left = event, steps

    def __call__(self, input_ids, scores, **kwargs):
        self.left -= 1
        if self.left == 0:
            self.event.set()
        return torch.full((len(input_ids),), self.event.is_set())


def test_a_streamer_sees_every_token(stories):
    streamer = Streamer()
    made = generate(stories, PROMPTS, edits(stories), new_tokens=5, streamer=streamer)
    assert streamer.ended
    assert torch.equal(streamer.pieces[0], made.batch.ids)
    assert torch.equal(torch.stack(streamer.pieces[1:], dim=1), made.ids)


def test_a_stopped_run_returns_what_was_made(stories):
    whole = generate(stories, PROMPTS, edits(stories), new_tokens=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part = generate(
            stories,
            PROMPTS,
            edits(stories),
            new_tokens=9,
            stopping=[StopWhen(threading.Event(), 4)],
        )
    assert part.lengths.tolist() == [4, 4, 4]
    assert torch.equal(part.ids[:, :4], whole.ids[:, :4])
    assert torch.equal(part.logprobs_steered.isnan(), torch.arange(9).expand(3, 9) >= 4)
    torch.testing.assert_close(part.logprobs_unsteered[:, :4], whole.logprobs_unsteered[:, :4])


def test_generation_works_in_a_thread(stories):
    expected = generate(stories, PROMPTS, edits(stories), new_tokens=4).ids
    found = []
    thread = threading.Thread(
        target=lambda: found.append(generate(stories, PROMPTS, edits(stories), new_tokens=4).ids)
    )
    thread.start()
    thread.join()
    assert torch.equal(found[0], expected)


def test_an_interrupt_leaves_the_model_as_it_was(stories):
    class Interrupt:
        def __call__(self, input_ids, scores, **kwargs):
            raise KeyboardInterrupt

    expected = generate(stories, PROMPTS, new_tokens=4).ids
    with pytest.raises(KeyboardInterrupt):
        generate(stories, PROMPTS, edits(stories), new_tokens=4, stopping=[Interrupt()])
    assert not stories.traced.interleaver.interleaving
    assert stories.traced.interleaver.mediators == []
    assert torch.equal(generate(stories, PROMPTS, new_tokens=4).ids, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"new_tokens": 0}, "new_tokens 0"),
        ({"new_tokens": 1.5}, "new_tokens 1.5"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty 0.0"),
        ({"min_new_tokens": 99}, "min_new_tokens 99"),
        ({"seed": -1}, "seed -1"),
        ({"streams": [1]}, "1 streams for 3 rows"),
        ({"streams": 1}, "streams 1: give a list"),
        ({"streams": [1, 2, -3]}, "stream -3: give a whole number"),
        ({"new_tokens": 600}, "over the 512"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(stories, arguments, message):
    ran = []
    handle = stories.model.register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        with pytest.raises(ValueError, match=message):
            generate(stories, PROMPTS, **arguments)
        with pytest.raises(ValueError, match=message):
            generate(stories, encode(stories, PROMPTS), **arguments)
    finally:
        handle.remove()
    assert ran == []


def test_a_checkpoints_own_generation_settings_stay_out(tiny) -> None:
    plain = generate(tiny, ["the dog runs"], new_tokens=4)
    settings = tiny.model.generation_config
    kept = settings.to_dict()
    settings.update(
        suppress_tokens=plain.ids[0].tolist(), guidance_scale=3.0, return_dict_in_generate=True
    )
    try:
        again = generate(tiny, ["the dog runs"], new_tokens=4)
        assert tiny.model.generation_config is settings
    finally:
        settings.update(**{name: kept.get(name) for name in ("suppress_tokens", "guidance_scale")})
        settings.return_dict_in_generate = kept.get("return_dict_in_generate")
    assert again.ids.tolist() == plain.ids.tolist()
    assert torch.equal(again.entropy, plain.entropy)


def test_a_list_of_coefficients_needs_one_for_each_new_token(stories):
    steps = [1.0, -1.0, 2.0]
    steered = [Intervention(1, Add(vector(stories)), steps.__getitem__)]
    made = generate(stories, PROMPTS, steered, new_tokens=3)
    written = made.batch.extend(made.ids, made.lengths, made.texts)
    again = tracing.logprobs(stories, written, steered)[:, -3:]
    torch.testing.assert_close(made.logprobs_steered, again, equal_nan=True, atol=1e-4, rtol=0)


@pytest.mark.parametrize("later", [False, True])
def test_the_divergence_under_a_mask_is_that_of_a_plain_hook(stories, later):
    batch = encode(stories, PROMPTS)
    touched = torch.zeros(batch.ids.shape, dtype=torch.bool)
    touched[:, -2] = True
    rule = positions.mask(touched, generated=later)
    made = generate(stories, batch, edits(stories, rule), new_tokens=6, kl=True)
    written = batch.extend(made.ids, made.lengths)
    where = torch.cat([touched, torch.full((3, 6), later)], dim=1)
    amount = (VALUES[:, None] * where)[..., None] * vector(stories)

    @torch.no_grad()
    def table():
        inputs = {"attention_mask": written.attention.long(), "position_ids": written.positions}
        logits = stories.model(input_ids=written.ids, **inputs).logits
        return logits[:, -7:-1].double().log_softmax(dim=-1)

    plain = table()
    block = stories.model.get_submodule(stories.layer_path)[1]
    handle = block.register_forward_hook(lambda _m, _i, output: output + amount)
    try:
        steered = table()
    finally:
        handle.remove()
    expected = (steered.exp() * (steered - plain)).sum(dim=-1)
    torch.testing.assert_close(made.kl.double(), expected, atol=1e-4, rtol=0)
    assert (expected[1:].amax(dim=1) > 0.01).all()
    assert (made.kl[0] == 0).all()  # the row at coefficient 0, bit for bit


def test_the_divergence_alone_brings_no_scores(stories):
    made = generate(stories, PROMPTS[:1], edits(stories)[:0], new_tokens=2, score=False, kl=True)
    assert made.logprobs_unsteered is None
    assert made.kl is not None


def test_a_bare_intervention_or_chat_is_refused_with_the_remedy(tiny):
    with pytest.raises(ValueError, match=r"is one Intervention \(layer 1\); wrap it in a list"):
        generate(tiny, ["I am"], Intervention(1, Add(vector(tiny))))  # type: ignore[arg-type]
    chat = [{"role": "user", "content": "Who is it?"}]
    with pytest.raises(ValueError, match=r"is one message; a chat is a list of messages"):
        generate(tiny, chat)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prompt 3 is neither a text nor a chat"):
        generate(tiny, [3])  # type: ignore[list-item]


def test_a_batch_that_ends_in_padding_is_not_continued(tiny: LM) -> None:
    batch = encode(tiny, ["The fox", "A girl and her dog"])
    longer = batch.extend(torch.full((2, 2), 5), torch.tensor([2, 1]))
    with pytest.raises(ValueError, match="row 1 of the batch ends before its last column"):
        generate(tiny, longer)


# ---- where the numbers overflow -----------------------------------------------------------------


@pytest.mark.parametrize("size", [1e25, 3e38])  # all logits alike; NaN
def test_texts_that_overflow_are_warned_of_once_with_their_coefficients(tiny: LM, size) -> None:
    vector = Add(torch.ones(tiny.width))
    steered = [Intervention(1, vector, torch.tensor([0.0, size, 1.0]))]
    with pytest.warns(UserWarning, match=r"row 1 of 3: .* the coefficient \S+ at layer 1,") as seen:
        made = generate(tiny, SENTENCES[:3], steered, new_tokens=4)
    assert len(seen) == 1
    assert f"the coefficient {size:g} at" in str(seen[0].message)
    assert made.overflowed.tolist() == [False, True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quiet = generate(tiny, SENTENCES[:3], steered, new_tokens=4, quiet=True)
        usual = [Intervention(1, vector, torch.tensor([0.0, 9.0, 1.0]))]
        assert not generate(tiny, SENTENCES[:3], usual, new_tokens=4).overflowed.any()
    assert torch.equal(quiet.ids, made.ids)


def test_a_text_that_ended_before_the_overflow_is_sound() -> None:
    nan, ended = torch.tensor([[-1.0, torch.nan]]), torch.tensor([[False, True]])
    assert not overflow.overflowed(nan, -nan, ended, 7, steered=True).any()
    assert overflow.overflowed(nan, -nan, ~ended, 7, steered=True).all()
    alike = torch.full((1, 2), -math.log(7))
    for steered in (True, False):
        found = overflow.overflowed(alike, -alike, ended, 7, steered=steered)
        assert found.item() == steered
