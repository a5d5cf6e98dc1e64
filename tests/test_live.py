"""Streaming: the same tokens as `generate`, the reader's scores, ends, stops, letters in pieces."""

import math
import threading
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from architectures import build
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.forward import tracing
from workbench.generation import live
from workbench.generation.generate import end_ids, generate
from workbench.interventions.updates import Add, Intervention
from workbench.loading.models import LM
from workbench.text.completions import decode_completions, encode_completions
from workbench.text.tokens import encode

PROMPT = "Once upon a time"


def push(lm: LM, coefficient: float, layer: int = 1) -> list[Intervention]:
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(1))
    return [Intervention(layer, Add(direction), coefficient)]


@pytest.mark.parametrize(("temperature", "seed"), [(0.0, 0), (0.0, 1), (1.0, 0), (0.7, 5)])
@pytest.mark.parametrize("coefficient", [-1.5, 0.0, 0.8])
def test_both_texts_are_those_of_generate(
    stories: LM, temperature: float, seed: int, coefficient: float
) -> None:
    how = {"new_tokens": 24, "temperature": temperature, "seed": seed}
    seen: list[live.Written] = []
    found = live.stream(stories, PROMPT, push(stories, coefficient), **how, on_token=seen.append)
    plain = generate(stories, [PROMPT], **how)
    steered = generate(stories, [PROMPT], push(stories, coefficient), **how)
    for text, alone in ((found.baseline, plain), (found.steered, steered)):
        length = int(alone.lengths[0])
        assert list(text.ids) == alone.ids[0, :length].tolist()
        assert text.text == alone.texts[0]
        assert alone.logprobs_unsteered is not None
        torch.testing.assert_close(
            torch.tensor(text.logprobs), alone.logprobs_unsteered[0, :length], atol=1e-4, rtol=0
        )
    assert (found.baseline.ids == found.steered.ids) == (coefficient == 0)
    assert len(seen) == 1 + max(len(found.baseline.ids), len(found.steered.ids))
    assert seen[-1] == found


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_first_steered_token_is_told_ahead_and_without_a_score(
    tiny: LM, temperature: float
) -> None:
    for seed in range(5):
        seen: list[live.Written] = []
        how = {"new_tokens": 3, "temperature": temperature, "seed": seed}
        found = live.stream(tiny, "a b c", push(tiny, 1.5), **how, on_token=seen.append)
        ahead = seen[0].steered
        assert seen[0].baseline == live.Text()
        assert ahead.ids == found.steered.ids[:1]
        assert found.steered.text.startswith(ahead.text)
        assert math.isnan(ahead.mean_logprob)
        assert [text.ids for text in (seen[1].baseline, seen[1].steered)] == [
            found.baseline.ids[:1], found.steered.ids[:1]
        ]  # fmt: skip
        assert not math.isnan(seen[1].steered.mean_logprob)


def test_nobody_listens_so_no_pass_is_spent_on_telling_ahead(tiny: LM) -> None:
    passes: list[int] = []
    hook = tiny.model.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        live.stream(tiny, "a b c", push(tiny, 0.5), new_tokens=4)
        silent = len(passes)
        live.stream(tiny, "a b c", push(tiny, 0.5), new_tokens=4, on_token=lambda _: None)
    finally:
        hook.remove()
    assert (silent, len(passes) - silent) == (4, 5)


def test_a_schedule_that_fails_later_is_refused_before_anything_is_told(tiny: LM) -> None:
    (one,) = push(tiny, 1.0)
    rule = Intervention(one.layer, one.update, lambda step: math.nan if step == 3 else 1.0)
    with pytest.raises(ValueError, match="give one finite number"):
        live.stream(tiny, "a b c", [rule], on_token=lambda _: pytest.fail("told"))


def test_the_scores_are_those_of_the_unsteered_model_not_of_the_steered(stories: LM) -> None:
    steer = push(stories, 1.5)
    found = live.stream(stories, PROMPT, steer, new_tokens=12, temperature=1.0)
    batch = encode(stories, [PROMPT], [found.steered.ids])
    own = tracing.logprobs(stories, batch, steer)[0, -12:]
    assert (own - torch.tensor(found.steered.logprobs)).abs().max() > 0.1
    assert found.steered.mean_logprob == pytest.approx(sum(found.steered.logprobs) / 12)


def test_a_chat_is_continued(tiny: LM) -> None:
    chat = [{"role": "user", "content": "hello there"}]
    found = live.stream(tiny, chat, push(tiny, 0.5), new_tokens=6, temperature=1.0)
    assert found.steered.text == generate(
        tiny, [chat], push(tiny, 0.5), new_tokens=6, temperature=1.0
    ).texts[0]  # fmt: skip


def test_a_text_that_ends_stays_ended(tiny: LM) -> None:
    """Each row ends at a step of its own; the other goes on, and nothing is added to the first."""
    ends = end_ids(tiny)
    apart = 0
    for seed in range(60):
        seen: list[live.Written] = []
        found = live.stream(
            tiny, "a b c", push(tiny, 0.5), new_tokens=40, temperature=2.5, seed=seed,
            on_token=seen.append,
        )  # fmt: skip
        for text in (found.baseline, found.steered):
            ended = [token in ends for token in text.ids]
            assert not any(ended[:-1])
            assert text.finish == ("end" if ended[-1] else "length")
            assert len(text.ids) == 40 or ended[-1]
        apart += found.baseline.finish == "end" and len(found.baseline.ids) < len(found.steered.ids)
        for before, after in pairwise(seen[1:]):  # the first holds a token without a score
            for one, next_one in (
                (before.baseline, after.baseline),
                (before.steered, after.steered),
            ):
                assert next_one.text.startswith(one.text)
                assert next_one == one or not one.finish
    assert apart > 0, "no baseline ended first: the test shows nothing"


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_stop_is_obeyed_within_one_token(stories: LM, after: int) -> None:
    stop = threading.Event()
    seen = []

    def watch(written: live.Written) -> None:
        seen.append(written)
        if len(seen) == after:
            stop.set()

    found = live.stream(
        stories, PROMPT, push(stories, 0.5), new_tokens=30, on_token=watch, stop=stop
    )
    assert len(seen) == after
    assert [text.finish for text in (found.baseline, found.steered)] == ["stopped", "stopped"]
    assert len(found.steered.ids) == max(1, after - 1)
    assert len(found.baseline.ids) == after - 1


def test_a_pace_tells_less_often_and_writes_the_same(stories: LM) -> None:
    seen: list[live.Written] = []
    how = {"new_tokens": 20, "on_token": seen.append}
    whole = live.stream(stories, PROMPT, push(stories, 0.5), new_tokens=20)
    assert live.stream(stories, PROMPT, push(stories, 0.5), **how, pace=3600.0) == whole
    assert len(seen) == 2, "the token ahead, and the first of both"


def test_a_stop_before_the_start_writes_nothing(stories: LM) -> None:
    stop = threading.Event()
    stop.set()
    found = live.stream(stories, PROMPT, [], on_token=lambda _: pytest.fail("wrote"), stop=stop)
    assert found.steered.ids == ()
    assert math.isnan(found.steered.mean_logprob)


def test_a_schedule_steers_and_a_tensor_is_refused(stories: LM) -> None:
    (one,) = push(stories, 1.0)

    def schedule(step: int) -> float:
        return 1.5 if step < 3 else 0.0

    rule = Intervention(one.layer, one.update, schedule)
    found = live.stream(stories, PROMPT, [rule], new_tokens=10)
    assert found.steered.text == generate(stories, [PROMPT], [rule], new_tokens=10).texts[0]
    rows = Intervention(one.layer, one.update, torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"coefficient tensor.*give one finite number"):
        live.stream(stories, PROMPT, [rows])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"new_tokens": 0}, "new_tokens 0"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"seed": -1}, "seed -1"),
        ({"new_tokens": 10_000}, "over the 512"),
    ],
)
def test_bad_settings_are_refused_before_any_work(stories: LM, options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        live.stream(stories, PROMPT, [], on_token=lambda _: pytest.fail("wrote"), **options)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd"), max_size=12))
def test_letters_whose_bytes_lie_in_several_tokens_appear_whole(text: str) -> None:
    tokenizer = _bytes_tokenizer()
    ((ids, _),) = encode_completions(tokenizer, [text])
    writer = live.Writer(tokenizer, (), len(ids) + 1)
    for place, token in enumerate(ids):
        writer.take(token, -1.0)
        assert "\ufffd" not in writer.so_far().text
        assert writer.so_far().text == text[: len(writer.so_far().text)], place
    found = writer.finished()
    assert found.text == text == decode_completions(tokenizer, [ids])[0]
    assert sum(piece.logprob for piece in found.pieces) == pytest.approx(-len(ids))


def test_bytes_that_never_become_a_letter_are_shown_at_the_end() -> None:
    tokenizer = _bytes_tokenizer()
    ids = encode_completions(tokenizer, ["日"])[0][0]
    assert len(ids) == 3, "the letter is one token: the test shows nothing"
    writer = live.Writer(tokenizer, (), 2)
    for token in ids[:2]:
        writer.take(token, -0.5)
    assert writer.finished().text == decode_completions(tokenizer, [ids[:2]])[0] != ""
    assert writer.finished().finish == "length"


@cache
def _bytes_tokenizer() -> Any:
    """GPT-2's way to write bytes."""
    return build("gpt2").tokenizer
