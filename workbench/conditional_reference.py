"""Conditional steering exactly as its authors' library runs it, for its numbers again.

What differs from conditional.py: a condition reads its layer's input, and behaviour is added there;
"larger" says that the threshold is, and fires below it, "smaller" above it, both strictly; of
several layers any fires; what fires after a behaviour's layer reaches that layer only from the next
token on, so a behaviour layer below the condition layer misses the prompt; rules are read as
logic_reference.py reads them. `keep_norm` is its "OOI preventive normalization": if any token's
norm grew, all tokens of the pass are scaled back to theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from workbench.conditions import Condition, mean_streams
from workbench.generate import Generation, generate
from workbench.logic_reference import reference_value
from workbench.positions import everything, generated, last_k
from workbench.tokens import Batch, Prompt, to_batch
from workbench.updates import Add, Intervention, KeepNorm
from workbench.vectors import SteeringVector

if TYPE_CHECKING:
    from workbench.models import LM


@dataclass(frozen=True, eq=False)
class ReferenceBehaviour:
    """What it adds: `strength` times a vector, as it is, at the inputs of `layers`; from the first
    token that is written where `on_prompt` is false."""

    vector: SteeringVector
    layers: tuple[int, ...]
    strength: float
    on_prompt: bool = True
    keep_norm: bool = False


def reference_condition(
    vector: SteeringVector,
    layers: Sequence[int],
    threshold: float,
    threshold_is: Literal["larger", "smaller"],
    mode: Literal["mean", "last"] = "mean",
) -> Condition:
    """A condition as its library reads it, under its names."""
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
) -> tuple[list[Intervention], dict[str, Tensor]]:
    """What it does to a batch, and which conditions were met, (B,) bool each.

    rules  such as "if C1 or C2 then B1": a behaviour acts where any of its rules holds; None: all
           behaviours always act

    Raises ValueError for a behaviour at layer 0, whose input no block writes.
    """
    means = mean_streams(lm, batch, list(conditions.values()))
    fired = {
        name: _fired(each, each.resembles(found))
        for (name, each), found in zip(conditions.items(), means, strict=True)
    }
    always = torch.ones(len(batch), dtype=torch.float64)
    interventions = []
    for name, behaviour in behaviours.items():
        mine = [rule for rule in rules or () if rule.split("then")[1].split()[0] == name]
        whole = always if rules is None else _calls(mine, fired, lm.layers)
        for layer in behaviour.layers:
            if layer < 1:
                raise ValueError(
                    f"behaviour {name!r} at layer {layer} would be added before the first block, "
                    "where nothing is steered; name layers from 1 on"
                )
            known = always if rules is None else _calls(mine, fired, layer)
            interventions.append(_intervention(behaviour, layer, known, whole))
    return interventions, {name: when <= lm.layers for name, when in fired.items()}


def reference_respond(
    lm: LM,
    prompts: Sequence[Prompt],
    conditions: Mapping[str, Condition],
    behaviours: Mapping[str, ReferenceBehaviour],
    rules: Sequence[str] | None = None,
    *,
    new_tokens: int = 32,
) -> tuple[Generation, dict[str, Tensor]]:
    """Greedy texts, and which conditions were met; see `reference_interventions`."""
    batch = to_batch(lm, prompts, new_tokens=new_tokens)
    interventions, met = reference_interventions(lm, batch, conditions, behaviours, rules)
    return generate(lm, batch, interventions, new_tokens=new_tokens), met


def _fired(condition: Condition, similarities: Tensor) -> Tensor:
    """(B,) the first layer that fires, beyond all layers where none does."""
    above = condition.fires == "above"
    fires = similarities > condition.threshold if above else similarities < condition.threshold
    layers = torch.tensor(condition.layers).expand_as(fires)
    return torch.where(fires, layers, torch.iinfo(torch.long).max).amin(dim=1)


def _calls(rules: Sequence[str], fired: Mapping[str, Tensor], layer: int) -> Tensor:
    """(B,) float64 whether a rule holds, by what had fired up to a layer."""
    rows = len(next(iter(fired.values())))
    return torch.tensor(
        [
            float(
                any(
                    reference_value(
                        rule, {name: bool(when[row] <= layer) for name, when in fired.items()}
                    )
                    for rule in rules
                )
            )
            for row in range(rows)
        ],
        dtype=torch.float64,
    )


def _intervention(
    behaviour: ReferenceBehaviour, layer: int, known: Tensor, whole: Tensor
) -> Intervention:
    update = Add(behaviour.vector.directions[layer], behaviour.vector.origin)

    def at(step: int) -> Tensor:
        return behaviour.strength * (known if step == 0 else whole)

    return Intervention(
        layer - 1,
        KeepNorm(update, per="pass") if behaviour.keep_norm else update,
        at,
        everything if behaviour.on_prompt else generated,
    )
