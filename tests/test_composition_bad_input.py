"""What composing defines and what it refuses, at the edges of its input."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from architectures import SENTENCES, build
from conditioned import random_vector

from workbench.composition import compose as composition
from workbench.composition.compose import Same, compose
from workbench.composition.deltas import StepDeltas, step_deltas
from workbench.composition.schedules import Budget, Dynamic, Fixed, Schedule, Start
from workbench.interventions.updates import Add, Intervention
from workbench.loading.models import LM
from workbench.statistics.distributions import likely_kl, most_likely

STEPS = 4
PROMPTS = [SENTENCES[0], " ".join(SENTENCES[1].split()[:3])]


def random_deltas(lm: LM, seed: int, steps: int = STEPS, layers: tuple[int, ...] = (0, 1, 2)):
    generator = torch.Generator().manual_seed(seed)
    values = 0.3 * torch.randn(STEPS, 3, lm.heads_width(0), generator=generator)
    return StepDeltas(values[:steps, list(layers)], layers)


def padded(deltas: StepDeltas) -> StepDeltas:
    """The same with zeros at the steps and layers that it lacks."""
    values = torch.zeros(STEPS, 3, deltas.values.shape[-1])
    values[: deltas.steps, list(deltas.layers)] = deltas.values
    return StepDeltas(values, (0, 1, 2))


@pytest.mark.parametrize("schedule", [Fixed(1.5), Dynamic(0.6)])
def test_properties_of_other_steps_and_layers_are_as_if_zero_elsewhere(schedule: Schedule) -> None:
    lm = build("llama")
    parts = {
        "long": random_deltas(lm, 0),
        "short": random_deltas(lm, 1, steps=2),
        "one layer": random_deltas(lm, 2, layers=(1,)),
        "vector": Same([Intervention(2, Add(torch.ones(lm.width)), 0.2)]),
    }
    schedules = dict.fromkeys(parts, schedule)
    made = compose(lm, PROMPTS, parts, schedules, new_tokens=STEPS)
    full = {name: each if name == "vector" else padded(each) for name, each in parts.items()}  # type: ignore[arg-type]
    wanted = compose(lm, PROMPTS, full, schedules, new_tokens=STEPS)
    assert made.texts == wanted.texts
    torch.testing.assert_close(made.logprobs, wanted.logprobs, equal_nan=True)
    for name in parts:
        found, expected = made.coefficients[name], wanted.coefficients[name]
        torch.testing.assert_close(found, expected, equal_nan=True, atol=1e-5, rtol=1e-4)


def test_a_property_that_has_ended_adds_nothing_more() -> None:
    """Whatever its schedule still says: what it did before is seen in the text so far."""
    lm = build("llama")
    short = {"short": random_deltas(lm, 1, steps=1)}
    made = compose(lm, PROMPTS, short, {"short": Fixed(2.0)}, new_tokens=STEPS)
    once = compose(lm, PROMPTS, short, {"short": Start(2.0)}, new_tokens=STEPS)
    assert made.texts == once.texts
    torch.testing.assert_close(made.logprobs, once.logprobs, equal_nan=True)
    assert made.coefficients["short"][0, 1] == 2.0


def of_another_model() -> Mapping[str, object]:
    other = build("gpt2")
    return {"one": random_deltas(build("llama"), 0), "other": step_deltas(
        other, PROMPTS[:1], PROMPTS[1:], steps=1)}  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        (of_another_model, "this delta was made on"),
        (lambda: {"wide": StepDeltas(torch.ones(2, 1, 7), (0,))}, "has width"),
        (lambda: {"deep": StepDeltas(torch.ones(2, 1, 32), (7,))}, r"layer 7"),
        (lambda: {"below": StepDeltas(torch.ones(2, 1, 32), (-1,))}, r"layer -1"),
    ],
)
def test_properties_that_do_not_fit_are_refused_before_any_work(
    properties, message: str, monkeypatch
) -> None:
    monkeypatch.setattr(composition.decoding, "advance", None)
    given = properties()
    with pytest.raises(ValueError, match=message):
        compose(build("llama"), PROMPTS, given, dict.fromkeys(given, Fixed(1.0)), new_tokens=2)


@pytest.mark.parametrize("top_p", [0, 1, 0.0, 1.0, -0.1, 1.5, float("nan"), True, "0.5", None])
def test_a_share_that_is_none_is_refused(top_p: float) -> None:
    with pytest.raises(ValueError, match=r"top_p is .*give a share between 0 and 1"):
        Dynamic(top_p)


@pytest.mark.parametrize("clip", [(2.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_clip_that_is_reversed_or_endless_is_refused(clip: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"clip is .*least and the greatest"):
        Dynamic(clip=clip)


def test_no_schedule_is_refused() -> None:
    for nats in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="nats is"):
            Budget(nats)


@pytest.mark.parametrize("top_p", [1e-6, 0.5, 1 - 1e-6])
@pytest.mark.parametrize("logits", [[9.0, 0.0, 0.0], [0.0, 0.0, 0.0], [80.0, -80.0, -80.0]])
def test_the_union_of_likely_tokens_is_never_empty(logits: list[float], top_p: float) -> None:
    table = torch.tensor([logits]).log_softmax(dim=-1)
    assert most_likely(table, top_p).any()
    for divided in (True, False):
        found = likely_kl(table, table.roll(1, dims=-1), top_p, divided=divided)
        assert torch.isfinite(found).all()


def test_a_union_of_one_token_asks_for_nothing() -> None:
    table = torch.tensor([[9.0, 0.0, 0.0]]).log_softmax(dim=-1)
    other = torch.tensor([[5.0, 0.0, 0.0]]).log_softmax(dim=-1)
    assert likely_kl(table, other, 0.5).tolist() == [0.0]


def test_a_text_that_ends_at_once_has_a_coefficient_and_no_words(monkeypatch) -> None:
    lm = build("llama")
    monkeypatch.setattr(lm.model.generation_config, "eos_token_id", list(range(320)))
    deltas = {"one": random_deltas(lm, 0)}
    made = compose(lm, PROMPTS, deltas, {"one": Dynamic(0.6)}, new_tokens=STEPS)
    assert made.texts == ["", ""]
    assert made.lengths.tolist() == [1, 1]
    assert made.coefficients["one"].shape == (2, 1)
    assert len(made.frame()) == 2


def test_a_vector_whose_strength_is_no_schedules_is_refused() -> None:
    lm = build("llama")
    with pytest.raises(ValueError, match=r"'one' is a SteeringVector, .*give Same\("):
        compose(lm, ["Oh"], {"one": random_vector(lm)}, {"one": Fixed(1.0)})  # pyright: ignore
