"""Conditional steering: every row by its own verdict, whatever stands beside it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from architectures import build
from conditioned import PROMPTS, half_met, random_vector, written

import workbench as wb
from workbench.conditions.condition import Condition
from workbench.conditions.conditional import ConditionalSteering, is_one, respond
from workbench.conditions.logic import parse
from workbench.generation import live
from workbench.interventions.keep_norm import keep_norm
from workbench.loading.models import LM
from workbench.text import positions

ARCHITECTURES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "gemma2", "opt", "bloom", "phi")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_of_mixed_prompts_is_as_many_alone(name: str) -> None:
    lm = build(name)
    how = half_met(lm)
    together = respond(lm, PROMPTS, how, new_tokens=6, score=False)
    met = together.verdicts["met"]
    assert len(PROMPTS) == 64
    assert 20 < met.sum() < 44
    for row, each in enumerate(PROMPTS):
        alone = respond(lm, each, how, new_tokens=6, score=False)
        assert written(alone) == [written(together)[row]]
        assert alone.verdicts["met"].tolist() == [met.iloc[row]]


def test_sampled_texts_do_not_depend_on_their_neighbours_either() -> None:
    lm = build("llama")
    how: dict[str, Any] = {"new_tokens": 6, "temperature": 0.8, "seed": 3}
    together = respond(lm, PROMPTS[:8], half_met(lm), **how)
    for row, each in enumerate(PROMPTS[:8]):
        alone = respond(lm, [each], half_met(lm), **how, streams=[row])
        assert written(alone) == [written(together)[row]]


def test_rows_whose_condition_is_not_met_are_as_the_unsteered_model() -> None:
    lm = build("llama")
    plain = wb.generate(lm, PROMPTS, new_tokens=8)
    found = respond(lm, PROMPTS, half_met(lm), new_tokens=8)
    met = torch.tensor(found.verdicts["met"].to_numpy())
    same = (found.generation.ids == plain.ids).all(dim=1)
    assert same[~met].all()
    assert not same[met].all()
    steered = found.generation.logprobs_steered
    assert torch.equal(steered[~met].nan_to_num(), plain.logprobs_steered[~met].nan_to_num())


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_nothing_met_and_all_met_are_bit_for_bit_what_they_are_without_a_gate(name: str) -> None:
    lm = build(name)
    push = random_vector(lm, 1).at(0.7, layers=[0, 2])
    for threshold, wanted in ((2.0, ()), (-2.0, push)):
        asked = Condition.of(random_vector(lm), layers=[1], threshold=threshold)
        how = ConditionalSteering({"a": asked}, {"push": push}, "if a then push")
        found = respond(lm, PROMPTS[:6], how, new_tokens=8, kl=True).generation
        plain = wb.generate(lm, PROMPTS[:6], wanted, new_tokens=8, kl=True)
        for each in ("ids", "logprobs_steered", "logprobs_unsteered", "entropy", "kl"):
            assert torch.equal(getattr(found, each).nan_to_num(), getattr(plain, each).nan_to_num())


def test_a_behaviour_below_the_condition_acts_on_the_whole_prompt() -> None:
    """As if it had been called for by hand: never on the new tokens alone."""
    lm = build("llama")
    found = respond(lm, PROMPTS[:8], half_met(lm, read=2, steered=0), new_tokens=6)
    met = found.verdicts["met"].to_numpy()
    by_hand = random_vector(lm, 1).at(torch.tensor(1.5 * met), layers=[0])
    wanted = wb.generate(lm, PROMPTS[:8], by_hand, new_tokens=6)
    assert 0 < met.sum() < 8
    assert torch.equal(found.generation.ids, wanted.ids)


def test_the_prompt_can_be_left_out_and_lengths_be_kept() -> None:
    lm = build("llama")
    conditions = half_met(lm).conditions
    met = half_met(lm).judge(lm, PROMPTS[:8]).met["odd"].double()
    push = random_vector(lm, 1)
    for acts in (
        push.at(1.5, positions=positions.generated),
        keep_norm(push.at(1.5)),
        keep_norm(push.at(1.5, layers=[0, 2], positions=positions.prompt)),
    ):
        how = ConditionalSteering(conditions, {"push": acts}, "if odd then push")
        found = respond(lm, PROMPTS[:8], how, new_tokens=6)
        by_hand = [wb.Intervention(a.layer, a.update, 1.5 * met, a.positions) for a in acts]
        wanted = wb.generate(lm, PROMPTS[:8], by_hand, new_tokens=6)
        assert torch.equal(found.generation.ids, wanted.ids)
        assert not torch.equal(wanted.ids, wb.generate(lm, PROMPTS[:8], new_tokens=6).ids)


def test_what_was_called_for_is_told_token_by_token() -> None:
    lm = build("llama")
    found = respond(lm, PROMPTS[:8], half_met(lm), new_tokens=6)
    told, lengths = found.strengths["push"], found.generation.lengths
    assert told.shape == (8, 6)
    for row, met in enumerate(found.verdicts["met"]):
        assert told[row, : lengths[row]].tolist() == [float(met)] * int(lengths[row])
        assert told[row, lengths[row] :].isnan().all()


def test_it_runs_where_a_remote_model_would() -> None:
    lm = build("llama")
    here, there = (
        respond(lm, PROMPTS[:4], half_met(lm), new_tokens=5, remote=at) for at in (False, "local")
    )
    assert written(there) == written(here)
    assert there.verdicts.equals(here.verdicts)


def test_one_conversation_and_many() -> None:
    lm = build("llama")
    how = half_met(lm)
    chat = [{"role": "user", "content": "Why is the house red?"}]
    assert is_one(chat)
    assert is_one("text")
    assert not is_one([chat, chat])
    assert not is_one(["text"])
    assert not is_one([])
    one, two = respond(lm, chat, how, new_tokens=4), respond(lm, [chat, chat], how, new_tokens=4)
    assert len(one.texts) == 1
    assert two.texts == one.texts * 2
    mixed = respond(lm, [chat, "Why?"], how, new_tokens=4)
    assert mixed.texts == one.texts + respond(lm, "Why?", how, new_tokens=4).texts


class Streamer:
    """What a transformers streamer is given."""

    def __init__(self) -> None:
        self.pieces: list[torch.Tensor] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.pieces.append(value.clone())

    def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize("recheck", ["never", "always"])
def test_a_streamer_sees_every_token(recheck: Any) -> None:
    lm, streamer = build("llama"), Streamer()
    how = half_met(lm)
    made = respond(lm, PROMPTS[:4], how, new_tokens=5, recheck=recheck, streamer=streamer)
    assert streamer.ended
    assert torch.equal(streamer.pieces[0], made.generation.batch.ids)
    seen = torch.stack(streamer.pieces[1:], dim=1)
    for row, ids in zip(seen.tolist(), written(made), strict=True):
        assert row[: len(ids)] == ids


def test_a_conversation_streams_beside_its_unsteered_twin() -> None:
    lm = build("llama")
    how = half_met(lm)
    met = how.judge(lm, PROMPTS[:8]).met["odd"].tolist()
    for row in (met.index(True), met.index(False)):
        steered = how.at(how.judge(lm, [PROMPTS[row]]))
        heard: list[live.Written] = []
        both = live.stream(lm, PROMPTS[row], steered, new_tokens=6, on_token=heard.append)
        alone = written(respond(lm, PROMPTS[row], how, new_tokens=6))
        assert list(both.steered.ids) == alone[0]
        assert (both.steered.ids == both.baseline.ids) == (not met[row])
        assert heard[-1] == both


def test_rules_add_up_and_strengths_count() -> None:
    lm = build("gpt2")
    always = Condition.of(random_vector(lm), layers=[1], threshold=-2.0)
    never = Condition.of(random_vector(lm), layers=[1], threshold=2.0)
    push = {"push": random_vector(lm, 1).at(0.5)}
    rules: Sequence[str] = ["if a then push", "if a and not b then push * 2"]
    how = ConditionalSteering({"a": always, "b": never}, push, rules)
    found = respond(lm, PROMPTS[:3], how, new_tokens=5)
    wanted = wb.generate(lm, PROMPTS[:3], random_vector(lm, 1).at(1.5), new_tokens=5)
    assert torch.equal(found.generation.ids, wanted.ids)
    assert found.verdicts["strength push"].eq(3).all()


def test_a_call_leaves_nothing_behind() -> None:
    """Neither in the steering, nor in a model, nor for another model."""
    lm, other = build("llama"), build("qwen2")
    how, others = half_met(lm), half_met(other)
    plain = wb.generate(lm, PROMPTS[:4], new_tokens=5)
    first = respond(lm, PROMPTS[:4], how, new_tokens=5, recheck="always")
    respond(other, PROMPTS[4:8], others, new_tokens=5, recheck="until met")
    again = respond(lm, PROMPTS[:4], how, new_tokens=5, recheck="always")
    assert written(again) == written(first)
    assert torch.equal(wb.generate(lm, PROMPTS[:4], new_tokens=5).ids, plain.ids)


def test_verdicts_while_a_text_is_written_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    lm = build("llama")
    with caplog.at_level(logging.DEBUG, "workbench.conditions.conditional"):
        respond(lm, PROMPTS[:2], half_met(lm), new_tokens=3, recheck="always")
    told = [
        each.getMessage()
        for each in caplog.records
        if each.name == "workbench.conditions.conditional"
    ]
    assert [each.split(" called")[0] for each in told] == ["row 0: 'push'", "row 1: 'push'"]


def idle(lm: LM) -> Any:
    """A hook under which the model must not run."""

    def ran(*_: Any) -> None:
        raise AssertionError("the model ran before the input was checked")

    model: Any = lm.model
    return model.model.layers[0].register_forward_pre_hook(ran)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"recheck": "sometimes"}, "recheck 'sometimes' is unknown; choose one of never, always"),
        ({"prompts": ["Oh " * 200]}, "makes .* tokens, over the 128 of .*'s context"),
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": ["Oh", " "]}, "prompt ' ' is empty"),
        ({"new_tokens": 0}, "new_tokens 0: give a whole number"),
        ({"temperature": -1.0}, "temperature -1.0: give 0"),
        ({"seed": -1}, "seed -1: give a whole number"),
        ({"streams": [0, 1]}, "2 streams for 1 rows"),
        ({"judged_as": ["Oh", "Ah"]}, "2 texts to judge for 1 prompts"),
        ({"judged_as": ["Ah"], "recheck": "always"}, "reads the prompts themselves"),
    ],
)
def test_bad_calls_are_refused_before_the_model_runs(how: dict[str, Any], message: str) -> None:
    lm = build("llama")
    steering = half_met(lm)
    prompts = how.pop("prompts", ["Oh"])
    handle = idle(lm)
    try:
        with pytest.raises(ValueError, match=message):
            respond(lm, prompts, steering, **how)
    finally:
        handle.remove()


def test_settings_that_generate_has_not_are_refused_before_the_model_runs() -> None:
    lm = build("llama")
    steering = half_met(lm)
    handle = idle(lm)
    try:
        with pytest.raises(TypeError, match="tokens_new"):
            respond(lm, ["Oh"], steering, tokens_new=3)
        with pytest.raises(TypeError, match="watch"):
            respond(lm, ["Oh"], steering, watch=None)
    finally:
        handle.remove()


def test_a_prompt_is_answered_and_what_stands_for_it_is_judged() -> None:
    lm = build("llama")
    how, count = half_met(lm), 8
    shown, read = PROMPTS[:count], PROMPTS[count : 2 * count]
    verdicts = how.judge(lm, read)
    assert verdicts.met["odd"].tolist() != how.judge(lm, shown).met["odd"].tolist()
    found = respond(lm, shown, how, new_tokens=6, judged_as=read)
    expected = wb.generate(lm, shown, how.at(verdicts), new_tokens=6)
    assert found.texts == expected.texts
    assert found.verdicts["prompt"].tolist() == list(verdicts.texts)
    one = respond(lm, shown[0], how, new_tokens=6, judged_as=read[0])
    assert one.texts == found.texts[:1]


def test_what_does_not_fit_is_refused_before_the_model_runs() -> None:
    lm, other = build("llama"), build("gpt2")
    good, push = half_met(lm).conditions["odd"], random_vector(lm, 1).at(1.0)

    def steered(condition: Condition, acts: Any) -> ConditionalSteering:
        return ConditionalSteering({"a": condition}, {"push": acts}, "if a then push")

    foreign = Condition.of(random_vector(other), threshold=0.1)
    none = Condition.of(random_vector(lm), threshold=0.1, positions=positions.after("zzz"))
    early = Condition.of(random_vector(lm), threshold=0.1, layers=[0], reads="input")
    unknown = wb.Intervention(9, push[0].update)
    cases: list[tuple[ConditionalSteering, str, str]] = [
        (steered(foreign, push), "never", "was made on"),
        (steered(good, random_vector(other).at(1.0)), "never", "was made on"),
        (steered(good, [unknown]), "never", "layer 9 is out of range"),
        (steered(good, random_vector(lm).at(torch.ones(3))), "never", "3 coefficients for a batch"),
        (steered(none, push), "never", "does not contain 'zzz'"),
        (steered(early, push), "always", "before the first block"),
    ]
    handle = idle(lm)
    try:
        for steering, recheck, message in cases:
            with pytest.raises(ValueError, match=message):
                respond(lm, ["Oh"], steering, recheck=recheck)  # pyright: ignore
    finally:
        handle.remove()


def test_what_is_no_steering_is_refused_when_it_is_made() -> None:
    lm = build("llama")
    good = half_met(lm).conditions["odd"]
    push = {"push": random_vector(lm, 1).at(1.0)}
    for acts in (3.0, "push", [], [3.0]):
        with pytest.raises(ValueError, match=r"behaviour 'push' is .*; give interventions"):
            ConditionalSteering({"a": good}, {"push": acts}, "if a then push")  # pyright: ignore
    with pytest.raises(ValueError, match="harmfull"):
        ConditionalSteering({"harmful": good}, push, "if harmfull then push")
    rules = half_met(lm).rules
    with pytest.raises(ValueError, match=r"no behaviour 'push'; there are \['pull'\]"):
        ConditionalSteering({"odd": good}, {"pull": push["push"]}, rules)
    with pytest.raises(ValueError, match=r"no condition 'odd'; there are \['even'\]"):
        ConditionalSteering({"even": good}, push, parse("if odd then push", ["odd"], ["push"]))
    with pytest.raises(ValueError, match=r"condition 'a' is 0.5; give a Condition"):
        ConditionalSteering({"a": 0.5}, push, "if a then push")  # pyright: ignore
