"""Compat by its definition: a state machine of plain hooks, one prompt at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from architectures import SENTENCES, build
from torch import Tensor

import workbench as wb
from workbench.conditions.conditional_reference import (
    ReferenceBehaviour,
    reference_condition,
    reference_respond,
)
from workbench.loading.models import LM

NEW = 5
RULES = (
    ["if C1 then B1"],
    ["if C1 then B1", "if C2 then B1"],
    ["if C1 then B1", "if C2 then B2"],
    ["if C1 or C2 then B1", "if C1 and C2 then B2", "if C2 then B2"],
)


def vector(lm: LM, seed: int) -> wb.SteeringVector:
    made = torch.Generator().manual_seed(seed)
    return wb.SteeringVector(
        directions={at: torch.randn(lm.width, generator=made) for at in range(lm.layers)},
        residual_norm={},
        layer=1,
        method="made up",
        model=lm.name,
        fingerprint=lm.fingerprint,
    )


@dataclass
class Setting:
    """What the library is called with; conditions are (vector, layers, threshold, comparator,
    mode), behaviours (vector, layers, strength)."""

    conditions: list[tuple[int, list[int], float, Any, Any]]
    behaviours: list[tuple[int, list[int], float]]
    rules: list[str]
    on_prompt: bool
    keep_norm: bool


@dataclass
class Machine:
    """One run of one prompt: what has been met, and how often each layer was passed."""

    lm: LM
    setting: Setting
    met: dict[int, bool] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)

    def holds(self, rule: str) -> bool:
        words = rule.removeprefix("if").split("then")[0].split()
        terms = [self.met.get(int(word[1:]) - 1, False) for word in words if word[0] == "C"]
        return any(terms) if "or" in words else all(terms)

    def enter(self, layer: int, hidden: Tensor) -> Tensor:
        """What a layer (1, t, D) is really given."""
        how = self.setting
        self.calls[layer] = self.calls.get(layer, 0) + 1
        first = self.calls[layer] == 1
        before = hidden.norm(dim=-1, keepdim=True)
        for index, (seed, layers, threshold, comparator, mode) in enumerate(how.conditions):
            if first and layer in layers and not self.met.get(index):
                h = hidden[0].mean(0) if mode == "mean" else hidden[0, -1]
                c = vector(self.lm, seed).directions[layer]
                y = torch.tanh(torch.outer(c, c) / (c @ c) @ h)
                found = float(h @ y / (h.norm() * y.norm()))
                self.met[index] = (
                    found > threshold if comparator == "smaller" else found < threshold
                )
        for rule in how.rules:
            seed, layers, strength = how.behaviours[int(rule.split("B")[1]) - 1]
            if layer in layers and self.holds(rule) and (how.on_prompt or not first):
                hidden = hidden + strength * vector(self.lm, seed).directions[layer]
        after = hidden.norm(dim=-1, keepdim=True)
        if how.keep_norm and float((after / before).max()) > 1:
            hidden = hidden * (before / after)
        return hidden

    @contextmanager
    def hooked(self) -> Iterator[None]:
        def hook(layer: int) -> Any:
            def pre(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
                return (self.enter(layer, args[0]), *args[1:])

            return pre

        model: Any = self.lm.model
        handles = [
            block.register_forward_pre_hook(hook(layer))
            for layer, block in enumerate(model.model.layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def run(self, text: str) -> list[int]:
        """The ids of a greedy text, with a cache of keys and values."""
        ids = torch.tensor([self.lm.tokenizer(text)["input_ids"]])
        made: list[int] = []
        past = None
        with self.hooked():
            while len(made) < NEW:
                out = self.lm.model(input_ids=ids, past_key_values=past, use_cache=True)
                past, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
                made.append(int(ids))
                if made[-1] == self.lm.tokenizer.eos_token_id:
                    break
        return made


def drawn(seed: int) -> Setting:
    """A setting with conditions above, at and below the behaviours' layers."""
    draw = random.Random(seed)
    conditions: list[Any] = [
        (
            10 + index,
            sorted(draw.sample([0, 1, 2], draw.choice([1, 2]))),
            draw.uniform(0.03, 0.3),
            draw.choice(["larger", "smaller"]),
            draw.choice(["mean", "last"]),
        )
        for index in range(2)
    ]
    behaviours = [
        (20 + index, sorted(draw.sample([1, 2], draw.choice([1, 2]))), draw.choice([1.5, -2.0]))
        for index in range(2)
    ]
    rules = list(draw.choice(RULES))
    return Setting(conditions, behaviours, rules, draw.random() < 0.7, draw.random() < 0.5)


@pytest.mark.parametrize("seed", range(24))
def test_it_is_what_plain_hooks_do(seed: int) -> None:
    lm, how = build("llama"), drawn(seed)
    conditions = {
        f"C{index + 1}": reference_condition(vector(lm, made), *rest)
        for index, (made, *rest) in enumerate(how.conditions)
    }
    behaviours = {
        f"B{index + 1}": ReferenceBehaviour(vector(lm, made), tuple(layers), strength)
        for index, (made, layers, strength) in enumerate(how.behaviours)
    }
    made, met = reference_respond(
        lm,
        SENTENCES,
        conditions,
        behaviours,
        how.rules,
        on_prompt=how.on_prompt,
        keep_norm=how.keep_norm,
        new_tokens=NEW,
    )
    for row, text in enumerate(SENTENCES):
        machine = Machine(lm, how)
        ids = machine.run(text)
        said = [machine.met.get(index, False) for index in range(2)]
        assert [bool(met[name][row]) for name in conditions] == said, row
        assert made.ids[row, : len(ids)].tolist() == ids, row
