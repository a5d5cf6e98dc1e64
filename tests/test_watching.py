"""Gates that are looked at again, against their definition: after each token the whole text so far
is read again without a cache, steered as it was below the condition's layer, which is asked anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from architectures import build
from conditioned import PROMPTS, half_met, random_vector, written
from edited import make

import workbench as wb
from workbench.conditions.condition import Condition
from workbench.conditions.conditional import ConditionalSteering, respond
from workbench.conditions.watching import check_watched
from workbench.interventions.updates import Intervention, Place
from workbench.loading.models import LM
from workbench.text import positions

NEW = 7
ARCHITECTURES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "gemma2", "opt", "bloom", "phi")


@dataclass
class Definition:
    """One condition at one layer that opens one behaviour, of coefficients that are numbers."""

    lm: LM
    condition: Condition
    behaviour: Sequence[Intervention]
    newest: bool  # whether the newest token alone counts
    held: bool

    def late(self, act: Intervention) -> bool:
        return Place(act.layer, act.site).order < Place(self.condition.places[0]).order

    def opened(self, text: str, ids: torch.Tensor) -> list[bool]:
        """Whether it was called for when each of the ids (N,) was chosen."""
        batch = wb.generate(self.lm, [text], new_tokens=1, score=False).batch
        prompt = wb.read(self.lm, batch, self.condition.places, self.condition.positions, pool=None)
        found = [self.met(prompt[0].mean(dim=0, keepdim=True))]
        for step in range(1, len(ids)):
            longer = batch.extend(ids[None, :step], torch.tensor([step]), [""])
            touched = positions.mask(torch.tensor([[found[0]] * batch.width + found[:step]]))
            done = [replace(act, positions=touched) for act in self.behaviour if self.late(act)]
            how: dict[str, Any] = {"pool": None, "interventions": done}
            new = wb.read(self.lm, longer, self.condition.places, positions.generated, **how)
            streams = new[0][-1:] if self.newest else torch.cat([prompt[0], new[0]])
            met = self.met(streams.double().mean(dim=0, keepdim=True))
            found.append(met or (self.held and found[-1]))
        return found

    def met(self, means: torch.Tensor) -> bool:
        return bool(self.condition.met(self.condition.resembles(means))[0])

    def by_hand(self, act: Intervention, opened: list[bool]) -> Intervention:
        """The same strengths as a plain schedule."""
        late, size = self.late(act), float(act.coefficient)  # pyright: ignore
        return replace(act, coefficient=lambda step: size * opened[max(step - late, 0)])


def behaviours(lm: LM) -> dict[str, Sequence[Intervention]]:
    """Before, at and after the condition's layer, in the stream and at the MLP; on what is written
    alone."""
    push = random_vector(lm, 1)
    return {
        "after": push.at(1.5, layers=[2]),
        "at": push.at(1.5, layers=[1]),
        "before": push.at(1.5, layers=[0]),
        "around": push.at(0.8, layers=[0, 2]),
        "written": push.at(1.5, layers=[2], positions=positions.generated),
        "weights": make(lm, "lora", layers=(1,)).at(1.0),
    }


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("newest", [True, False])
@pytest.mark.parametrize("where", ["after", "at", "before", "around", "written", "weights"])
def test_it_is_as_defined(where: str, newest: bool, held: bool) -> None:
    lm = build("llama")
    chosen = positions.last_k(1) if newest else positions.prompt
    how = half_met(lm, positions=chosen)
    acts = behaviours(lm)[where]
    steering = ConditionalSteering(how.conditions, {"push": acts}, "if odd then push")
    definition = Definition(lm, how.conditions["odd"], acts, newest, held)
    recheck = "until met" if held else "always"
    changes = 0
    for text in PROMPTS[:6]:
        found = respond(lm, text, steering, new_tokens=NEW, recheck=recheck, kl=True)
        made = found.generation
        ids = made.ids[0, : int(made.lengths[0])]
        opened = definition.opened(text, ids)
        assert found.strengths["push"][0, : len(ids)].tolist() == opened
        opened += [False] * (NEW + 1 - len(opened))
        by_hand = [definition.by_hand(act, opened) for act in acts]
        wanted = wb.generate(lm, [text], by_hand, new_tokens=NEW, kl=True)
        assert torch.equal(made.ids, wanted.ids)
        close = {"atol": 1e-5, "rtol": 1e-5, "equal_nan": True}
        for name in ("logprobs_steered", "logprobs_unsteered", "kl", "entropy"):
            torch.testing.assert_close(getattr(made, name), getattr(wanted, name), **close)
        changes += len(set(opened[: len(ids)])) > 1
    assert changes > 0 or not newest


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_of_mixed_prompts_is_as_many_alone(name: str) -> None:
    lm = build(name)
    steering = half_met(lm, steered=2, positions=positions.last_k(1))
    how: dict[str, Any] = {"new_tokens": 5, "recheck": "always", "score": False}
    together = respond(lm, PROMPTS, steering, **how)
    strengths = together.strengths["push"]
    for row, text in enumerate(PROMPTS):
        alone = respond(lm, text, steering, **how)
        assert written(alone) == [written(together)[row]]
        torch.testing.assert_close(alone.strengths["push"][0], strengths[row], equal_nan=True)
    said = [set(row[~row.isnan()].tolist()) for row in strengths]
    assert {0.0, 1.0} in said
    assert len(PROMPTS) == 64


def test_rules_with_not_and_strengths_are_looked_at_again() -> None:
    lm = build("llama")
    how = half_met(lm, positions=positions.last_k(1))
    odd = how.conditions["odd"]
    both = {"odd": odd, "other": replace(odd, directions=random_vector(lm, 5).directions)}
    rules = ["if odd and not other then push * 2", "if other then push * -0.5", "if odd then push"]
    steering = ConditionalSteering(both, {"push": random_vector(lm, 1).at(1.0, layers=[2])}, rules)
    found = respond(lm, PROMPTS[:12], steering, new_tokens=NEW, recheck="always")
    seen = found.strengths["push"]
    assert set(seen[~seen.isnan()].tolist()) == {0.0, 3.0, -0.5, 0.5}
    for row, text in enumerate(PROMPTS[:12]):
        steps = seen[row].nan_to_num()
        by_hand = random_vector(lm, 1).at(lambda step, s=steps: float(s[step]), layers=[2])
        wanted = wb.generate(lm, [text], by_hand, new_tokens=NEW)
        assert torch.equal(wanted.ids[0], found.generation.ids[row])


@pytest.mark.parametrize("recheck", ["always", "until met"])
def test_it_runs_where_a_remote_model_would(recheck: Any) -> None:
    lm = build("llama")
    steering = half_met(lm, steered=2, positions=positions.last_k(1))
    how: dict[str, Any] = {"new_tokens": 5, "recheck": recheck, "kl": True}
    here, there = (respond(lm, PROMPTS[:6], steering, **how, remote=at) for at in (False, "local"))
    assert written(there) == written(here)
    assert torch.equal(there.strengths["push"].nan_to_num(), here.strengths["push"].nan_to_num())
    assert here.generation.kl is not None
    assert there.generation.kl is not None
    torch.testing.assert_close(there.generation.kl, here.generation.kl, equal_nan=True)


def test_nothing_met_is_bit_for_bit_unsteered() -> None:
    lm = build("gpt2")
    far = Condition.of(random_vector(lm), layers=[1], threshold=2.0)
    push = {"push": random_vector(lm, 1).at(1.5, layers=[0, 2])}
    steering = ConditionalSteering({"never": far}, push, "if never then push")
    plain = wb.generate(lm, PROMPTS[:6], new_tokens=8)
    for recheck in ("always", "until met"):
        found = respond(lm, PROMPTS[:6], steering, new_tokens=8, recheck=recheck).generation
        assert torch.equal(found.ids, plain.ids)
        assert torch.equal(found.logprobs_steered.nan_to_num(), plain.logprobs_steered.nan_to_num())


def test_a_run_that_is_stopped_or_ends_early_says_so_far() -> None:
    lm = build("llama")
    steering = half_met(lm, steered=2, positions=positions.last_k(1))
    whole = respond(lm, PROMPTS[:4], steering, new_tokens=NEW, recheck="always")

    def stop(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((4,), ids.shape[1] == whole.generation.batch.width + 3)

    part = respond(lm, PROMPTS[:4], steering, new_tokens=NEW, recheck="always", stopping=[stop])
    assert part.generation.lengths.tolist() == [3] * 4
    assert torch.equal(part.strengths["push"][:, :3], whole.strengths["push"][:, :3])
    assert part.strengths["push"][:, 3:].isnan().all()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"reads": "input", "layers": [0]}, "reads the stream before the first block"),
        ({"positions": positions.last_k(2)}, r"reads last_k\(2\), of which a new token is neither"),
        ({"positions": positions.token(-2)}, r"reads token\(-2\), of which a new token is neither"),
    ],
)
def test_what_cannot_be_looked_at_again_is_refused(how: dict[str, Any], message: str) -> None:
    lm = build("llama")
    odd = Condition.of(random_vector(lm), threshold=0.1, **how)
    with pytest.raises(ValueError, match=f"condition 'odd' {message}.*recheck='never'"):
        check_watched({"odd": odd})
    for rule in (positions.last, positions.last_k(1), positions.prompt, positions.content):
        check_watched({"odd": Condition.of(random_vector(lm), threshold=0.1, positions=rule)})
