"""Conditional steering exactly as its authors' library runs it, for its numbers again.

What differs from conditional.py: a condition reads its layer's input, and behaviour is added there;
"larger" says that the threshold is, and fires below it, "smaller" above it, both strictly; of
several layers any fires. All this happens in the one pass over the prompt: a behaviour layer below
the condition layer misses the prompt, though not what is written, and a condition layer above a
behaviour that acts reads the stream that it changed. Rules are read as logic_reference.py reads
them, and each that holds adds its behaviour once more.

Lee et al. 2024, https://arxiv.org/abs/2409.05907; IBM/activation-steering, as of version 52be602.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from workbench.conditions.condition import Condition
from workbench.conditions.logic_reference import reference_value
from workbench.forward import tracing
from workbench.generation.generate import Generation, generate
from workbench.interventions.keep_norm import KeepNorm
from workbench.interventions.updates import Intervention
from workbench.text.positions import Positions, everything, generated, last_k, prompt
from workbench.text.tokens import Batch, Prompt, to_batch
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True, eq=False)
class ReferenceBehaviour:
    """What it adds: `strength` times a vector, as it is, at the inputs of `layers`."""

    vector: SteeringVector
    layers: tuple[int, ...]
    strength: float


def reference_condition(
    vector: SteeringVector,
    layers: Sequence[int],
    threshold: float,
    threshold_is: Literal["larger", "smaller"],
    mode: Literal["mean", "last"] = "mean",
) -> Condition:
    """A condition as its library reads it, under its names. Raises ValueError for other words."""
    for name, value, known in (
        ("threshold_is", threshold_is, ("larger", "smaller")),
        ("mode", mode, ("mean", "last")),
    ):
        if value not in known:
            raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
    return Condition.of(
        vector,
        threshold=threshold,
        layers=layers,
        fires="below" if threshold_is == "larger" else "above",
        similarity="unsigned",
        reads="input",
        positions=everything if mode == "mean" else last_k(1),
    )


def reference_interventions(
    lm: LM,
    batch: Batch,
    conditions: Mapping[str, Condition],
    behaviours: Mapping[str, ReferenceBehaviour],
    rules: Sequence[str] | None = None,
    *,
    on_prompt: bool = True,
    keep_norm: bool = False,
) -> tuple[list[Intervention], dict[str, Tensor]]:
    """What it does to a batch, and which conditions were met, (B,) bool each.

    rules      such as "if C1 or C2 then B1": C1, B1, … are the first, … of the conditions and
               behaviours; None: all behaviours always act
    on_prompt  False: behaviours act from the first token that is written on
    keep_norm  its "OOI preventive normalization": if any token of a layer's input has grown, all
               tokens of the pass get their former length

    Raises ValueError for a rule that does not end in a behaviour, a behaviour at layer 0, whose
    input no block writes, and what does not fit the model.
    """
    for condition in conditions.values():
        condition.check(lm)
    for name, behaviour in behaviours.items():
        behaviour.vector.check(lm)
        if min(behaviour.layers) < 1:
            raise ValueError(
                f"behaviour {name!r} at layer {min(behaviour.layers)} would be added before the "
                "first block, where nothing is steered; name layers from 1 on"
            )
    called = _called(rules, list(behaviours.values()))
    acting = sorted({layer for behaviour in behaviours.values() for layer in behaviour.layers})
    asking = {layer for condition in conditions.values() for layer in condition.layers}
    met = {name: torch.zeros(len(batch), dtype=torch.bool) for name in conditions}
    early: list[Intervention] = []
    for layer in sorted({*acting, *asking}):
        for name, condition in conditions.items():
            if layer in condition.layers:
                met[name] = met[name] | _fires(lm, batch, condition, layer, early)
        if layer in acting and on_prompt:
            early.append(_added(lm, layer, called, met, len(batch), prompt, keep_norm))
    later = [_added(lm, layer, called, met, len(batch), generated, keep_norm) for layer in acting]
    return [*early, *later], met


def reference_respond(
    lm: LM,
    prompts: Sequence[Prompt],
    conditions: Mapping[str, Condition],
    behaviours: Mapping[str, ReferenceBehaviour],
    rules: Sequence[str] | None = None,
    *,
    on_prompt: bool = True,
    keep_norm: bool = False,
    new_tokens: int = 32,
) -> tuple[Generation, dict[str, Tensor]]:
    """Greedy texts, and which conditions were met; see `reference_interventions`."""
    batch = to_batch(lm, prompts, new_tokens=new_tokens)
    interventions, met = reference_interventions(
        lm, batch, conditions, behaviours, rules, on_prompt=on_prompt, keep_norm=keep_norm
    )
    return generate(lm, batch, interventions, new_tokens=new_tokens), met


def _called(
    rules: Sequence[str] | None, behaviours: Sequence[ReferenceBehaviour]
) -> list[tuple[str | None, ReferenceBehaviour]]:
    """What is added under which rule, in the order of the rules."""
    if rules is None:
        return [(None, each) for each in behaviours]
    found: list[tuple[str | None, ReferenceBehaviour]] = []
    for rule in rules:
        number = re.search(r"B\s*([1-9]\d{0,5})\s*$", rule)
        if number is None or int(number[1]) > len(behaviours):
            raise ValueError(
                f"rule {rule!r} does not end in one of the {len(behaviours)} behaviours, such as B1"
            )
        found.append((rule, behaviours[int(number[1]) - 1]))
    return found


def _fires(
    lm: LM, batch: Batch, condition: Condition, layer: int, steered: Sequence[Intervention]
) -> Tensor:
    """(B,) bool, whether a condition is met at one of its layers."""
    here = replace(condition, directions={layer: condition.directions[layer]})
    means = tracing.read(lm, batch, here.places, here.positions, interventions=steered)
    assert isinstance(means, Tensor)
    return here.met(here.resembles(means))


@dataclass(frozen=True, eq=False)
class _AddRows:
    """h + m r: adds to every row a vector of its own, rows (B, D)."""

    rows: Tensor
    origin: None = None

    @property
    def width(self) -> int:
        return self.rows.shape[1]

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        given = self.rows[:, None].to(hidden.device, scale.dtype)
        return hidden + (scale * given).to(hidden.dtype)


def _added(
    lm: LM,
    layer: int,
    called: Sequence[tuple[str | None, ReferenceBehaviour]],
    met: Mapping[str, Tensor],
    rows: int,
    positions: Positions,
    keep_norm: bool,
) -> Intervention:
    """All that is added at a layer's input, by what is known to be met."""
    totals: dict[int, Tensor] = {}
    for row in range(rows):
        verdicts = {name: bool(each[row]) for name, each in met.items()}
        for rule, behaviour in called:
            if layer in behaviour.layers and (rule is None or reference_value(rule, verdicts)):
                added = behaviour.strength * behaviour.vector.directions[layer]
                totals[row] = totals.get(row, torch.zeros_like(added)) + added
    nothing = torch.zeros(lm.width)
    update = _AddRows(torch.stack([totals.get(row, nothing) for row in range(rows)]))
    acts = torch.tensor([float(row in totals) for row in range(rows)])
    return Intervention(
        layer - 1, KeepNorm(update, per="pass") if keep_norm else update, acts, positions
    )
