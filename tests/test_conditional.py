"""Conditional steering: every row by its own verdict, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from architectures import SENTENCES, build

import workbench as wb
from workbench import positions
from workbench.conditional import ConditionalSteering, Response, is_one, respond
from workbench.conditions import Condition, similarities
from workbench.keep_norm import KeepNorm
from workbench.models import LM
from workbench.positions import prompt
from workbench.watching import RECHECKS

ARCHITECTURES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "gemma2", "opt", "bloom", "phi")
PROMPTS = [
    f"{start} {SENTENCES[index % len(SENTENCES)][: 12 + 5 * (index % 9)]}"
    for index, start in enumerate(("No,", "Then", "A", "They said:", "Why?", "Oh", "One", "It") * 8)
]


def vector(lm: LM, seed: int = 0) -> wb.SteeringVector:
    made = torch.Generator().manual_seed(seed)
    return wb.SteeringVector(
        directions={at: torch.randn(lm.width, generator=made) for at in range(lm.layers)},
        residual_norm=dict.fromkeys(range(lm.layers), 5.0),
        layer=1,
        method="made up",
        model=lm.name,
        fingerprint=lm.fingerprint,
    )


def steering(
    lm: LM,
    *,
    read: int = 1,
    steered: int = 1,
    quantile: float = 0.5,
    positions: positions.Positions | None = None,
) -> ConditionalSteering:
    """One that is met by half of the prompts, half way between two of them."""
    chosen = prompt if positions is None else positions
    seen = similarities(lm, PROMPTS, vector(lm), layers=[read], positions=chosen)
    seen = seen[:, 0].sort().values
    place = round(quantile * (len(seen) - 1))
    middle = float((seen[place] + seen[min(place + 1, len(seen) - 1)]) / 2)
    condition = Condition.of(vector(lm), layers=[read], threshold=middle, positions=chosen)
    behaviour = vector(lm, 1).at(1.5, layers=[steered])
    return ConditionalSteering({"odd": condition}, {"push": behaviour}, "if odd then push")


def ids(response: Response) -> list[list[int]]:
    made = response.generation
    return [row[:n].tolist() for row, n in zip(made.ids, made.lengths.tolist(), strict=True)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_of_mixed_prompts_is_as_many_alone(name: str) -> None:
    lm = build(name)
    how = steering(lm)
    together = respond(lm, PROMPTS, how, new_tokens=6)
    met = together.verdicts["met"]
    assert len(PROMPTS) == 64
    assert 20 < met.sum() < 44
    for row, each in enumerate(PROMPTS):
        alone = respond(lm, each, how, new_tokens=6)
        assert ids(alone) == [ids(together)[row]]
        assert alone.verdicts["met"].tolist() == [met.iloc[row]]


@pytest.mark.parametrize("recheck", ["always", "until met"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_rechecked_rows_are_independent_too(name: str, recheck: str) -> None:
    lm = build(name)
    how = steering(lm, read=1, steered=2)
    together = respond(lm, PROMPTS[:16], how, new_tokens=8, recheck=recheck)
    alone = [respond(lm, each, how, new_tokens=8, recheck=recheck) for each in PROMPTS[:16]]
    assert [ids(each)[0] for each in alone] == ids(together)


def test_rows_whose_condition_is_not_met_are_as_the_unsteered_model() -> None:
    lm = build("llama")
    how = steering(lm)
    plain = wb.generate(lm, PROMPTS, new_tokens=8)
    found = respond(lm, PROMPTS, how, new_tokens=8)
    met = torch.tensor(found.verdicts["met"].to_numpy())
    same = (found.generation.ids == plain.ids).all(dim=1)
    assert same[~met].all()
    assert not same[met].all()
    steered = found.generation.logprobs_steered
    assert torch.equal(steered[~met].nan_to_num(), plain.logprobs_steered[~met].nan_to_num())


def test_nothing_met_is_bit_for_bit_unsteered() -> None:
    lm = build("gpt2")
    far = Condition.of(vector(lm), layers=[1], threshold=2.0)
    behaviour = {"push": vector(lm, 1).at(1.5)}
    how = ConditionalSteering({"never": far}, behaviour, "if never then push")
    plain = wb.generate(lm, PROMPTS[:6], new_tokens=8)
    for recheck in RECHECKS:
        found = respond(lm, PROMPTS[:6], how, new_tokens=8, recheck=recheck).generation
        assert torch.equal(found.ids, plain.ids)
        assert torch.equal(found.logprobs_steered.nan_to_num(), plain.logprobs_steered.nan_to_num())


def test_a_behaviour_below_the_condition_acts_on_the_whole_prompt() -> None:
    """As if it had been called for by hand: never on the new tokens alone."""
    lm = build("llama")
    how = steering(lm, read=2, steered=0)
    found = respond(lm, PROMPTS[:8], how, new_tokens=6)
    met = found.verdicts["met"].to_numpy()
    by_hand = vector(lm, 1).at(torch.tensor(1.5 * met), layers=[0])
    wanted = wb.generate(lm, PROMPTS[:8], by_hand, new_tokens=6)
    assert 0 < met.sum() < 8
    assert torch.equal(found.generation.ids, wanted.ids)


def loop(
    lm: LM, how: ConditionalSteering, prompt: str, ids: torch.Tensor, read: positions.Positions
) -> list[bool]:
    """What rechecking is by definition, without a cache: after each token the whole text so far is
    read again, steered as it was, and the condition asked anew."""
    (act,) = how.behaviours["push"]
    condition, size = how.conditions["odd"], float(act.coefficient)  # pyright: ignore
    batch = wb.generate(lm, [prompt], new_tokens=1).batch
    opened = [bool(how.judge(lm, batch).met["odd"][0])]
    for step in range(1, ids.shape[1]):
        text = batch.extend(ids[:, :step], torch.tensor([step]), [""])
        touched = torch.zeros(1, text.width, dtype=torch.bool)
        touched[:, : batch.width] = opened[0]
        touched[:, batch.width : batch.width + step - 1] = torch.tensor(opened[1:])
        done = wb.Intervention(act.layer, act.update, size, positions.mask(touched))
        stream = wb.read(lm, text, [1], read, interventions=[done])
        opened.append(bool(condition.met(condition.resembles(stream))[0]))  # pyright: ignore
    return opened


@pytest.mark.parametrize("newest", [True, False])
def test_rechecking_opens_and_closes_while_a_text_is_written(newest: bool) -> None:
    lm = build("llama")
    read = positions.last_k(1) if newest else positions.everything
    how = steering(lm, read=1, steered=2, positions=positions.last_k(1) if newest else None)
    changes = 0
    for text in PROMPTS[:10]:
        found = respond(lm, text, how, new_tokens=7, recheck="always").generation
        opened = loop(lm, how, text, found.ids, read)
        (act,) = how.behaviours["push"]
        scales = 1.5 * torch.tensor(opened, dtype=torch.float64)
        by_hand = wb.Intervention(act.layer, act.update, lambda step, s=scales: float(s[step]))
        again = wb.generate(lm, [text], [by_hand], new_tokens=7)
        assert torch.equal(again.ids, found.ids)
        torch.testing.assert_close(again.logprobs_steered, found.logprobs_steered)
        changes += len(set(opened)) > 1
    assert changes > 0 or not newest


def test_what_was_called_for_stays_where_it_is_held() -> None:
    lm = build("llama")
    how = steering(lm, read=1, steered=2, positions=positions.last_k(1))
    apart = 0
    for text in PROMPTS[:10]:
        held = respond(lm, text, how, new_tokens=7, recheck="until met").generation
        opened = loop(lm, how, text, held.ids, positions.last_k(1))
        first = opened.index(True) if True in opened else len(opened)
        scales = [1.5 * (step >= first) for step in range(len(opened))]
        (act,) = how.behaviours["push"]
        by_hand = wb.Intervention(act.layer, act.update, lambda step, s=scales: s[step])
        again = wb.generate(lm, [text], [by_hand], new_tokens=7)
        # The loop closes again, so it is the same up to where the condition was first met.
        upto = min(first + 1, held.ids.shape[1])
        assert torch.equal(again.ids[:, :upto], held.ids[:, :upto])
        apart += first not in (0, len(opened))
    assert apart > 0


def test_scores_are_of_what_was_done() -> None:
    """The divergence of a rechecked text is zero where nothing was open."""
    lm = build("llama")
    how = steering(lm, read=1, steered=2, quantile=0.6)
    found = respond(lm, PROMPTS[:8], how, new_tokens=7, recheck="always", kl=True).generation
    plain = wb.generate(lm, PROMPTS[:8], new_tokens=7)
    assert found.kl is not None
    untouched = found.kl[:, 0].abs() < 1e-6
    assert (untouched == (how.judge(lm, plain.batch).strengths["push"] == 0)).all()


def test_it_runs_where_a_remote_model_would() -> None:
    lm = build("llama")
    how = steering(lm)
    for recheck in ("never", "always"):
        here = respond(lm, PROMPTS[:4], how, new_tokens=5, recheck=recheck)
        there = respond(lm, PROMPTS[:4], how, new_tokens=5, recheck=recheck, remote="local")
        assert ids(there) == ids(here)


def test_one_conversation_and_many() -> None:
    lm = build("llama")
    how = steering(lm)
    chat = [{"role": "user", "content": "Why is the house red?"}]
    assert is_one(chat)
    assert is_one("text")
    assert not is_one([chat, chat])
    assert not is_one(["text"])
    one, two = respond(lm, chat, how, new_tokens=4), respond(lm, [chat, chat], how, new_tokens=4)
    assert len(one.texts) == 1
    assert two.texts == one.texts * 2


def test_rules_add_up_and_strengths_count() -> None:
    lm = build("gpt2")
    always = Condition.of(vector(lm), layers=[1], threshold=-2.0)
    push = {"push": vector(lm, 1).at(0.5)}
    rules: Sequence[str] = ["if a then push", "if a and not b then push * 2"]
    never = Condition.of(vector(lm), layers=[1], threshold=2.0)
    how = ConditionalSteering({"a": always, "b": never}, push, rules)
    found = respond(lm, PROMPTS[:3], how, new_tokens=5)
    wanted = wb.generate(lm, PROMPTS[:3], vector(lm, 1).at(1.5), new_tokens=5)
    assert torch.equal(found.generation.ids, wanted.ids)
    assert found.verdicts["strength push"].eq(3).all()


def test_what_cannot_be_is_refused_before_any_work() -> None:
    lm, other = build("llama"), build("gpt2")
    good, push = Condition.of(vector(lm), threshold=0.1), {"push": vector(lm, 1).at(1.0)}
    with pytest.raises(ValueError, match="threshold of a condition is nan"):
        Condition.of(vector(lm), threshold=float("nan"))
    with pytest.raises(ValueError, match="no direction at \\[9\\]"):
        Condition.of(vector(lm), threshold=0.1, layers=[9])
    with pytest.raises(ValueError, match="a probe has a bias"):
        Condition.of(vector(lm), threshold=0.1, similarity="probe")
    with pytest.raises(ValueError, match="similarity 'angle' is unknown"):
        Condition.of(vector(lm), threshold=0.1, similarity="angle")  # pyright: ignore
    with pytest.raises(ValueError, match="give interventions"):
        ConditionalSteering({"a": good}, {"push": 3.0}, "if a then push")  # pyright: ignore
    with pytest.raises(ValueError, match="harmfull"):
        ConditionalSteering({"harmful": good}, push, "if harmfull then push")
    how = ConditionalSteering({"a": good}, push, "if a then push")
    with pytest.raises(ValueError, match="was made on"):
        respond(other, ["Oh"], how)
    with pytest.raises(ValueError, match="recheck 'sometimes' is unknown"):
        respond(lm, ["Oh"], how, recheck="sometimes")  # pyright: ignore
    with pytest.raises(ValueError, match="context"):
        respond(lm, ["Oh " * 200], how)
    early = Condition.of(vector(lm), threshold=0.1, layers=[0], reads="input")
    first = ConditionalSteering({"a": early}, push, "if a then push")
    with pytest.raises(ValueError, match="before the first block"):
        respond(lm, ["Oh"], first, recheck="always")
    none = Condition.of(vector(lm), threshold=0.1, positions=positions.after("zzz"))
    with pytest.raises(ValueError, match="zzz"):
        respond(lm, ["Oh"], ConditionalSteering({"a": none}, push, "if a then push"))


@pytest.mark.parametrize("per", ["token", "pass"])
def test_streams_can_keep_their_length(per: str) -> None:
    lm = build("llama")
    add = vector(lm, 1).at(1.0, layers=[1])[0].update
    kept = wb.Intervention(1, KeepNorm(add, per), 1.5)  # pyright: ignore
    plain, steered = (
        wb.read(lm, PROMPTS[:3], [1], positions.everything, pool=None, interventions=each)
        for each in ([], [kept])
    )
    for before, after in zip(plain, steered, strict=True):
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))
        assert not torch.allclose(after, before)
    shrinking = wb.Intervention(1, KeepNorm(lambda h, m: h / 2, per), 1.0)  # pyright: ignore
    (small,) = wb.read(lm, PROMPTS[:1], [1], pool=None, interventions=[shrinking])
    (whole,) = wb.read(lm, PROMPTS[:1], [1], pool=None)
    assert float(small.norm() / whole.norm()) == pytest.approx(1.0 if per == "token" else 0.5)
