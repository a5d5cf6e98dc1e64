"""A gate: conditions by name, and the rules that say which behaviours they call for, row by row.

Verdicts come from one unsteered pass over the prompts, which ends after the last layer that is
read. So behaviours at any layer act on the whole prompt or not at all, below the condition too.
State lives in the call. Lee et al. 2024, https://arxiv.org/abs/2409.05907.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
from torch import Tensor

from workbench.conditions.condition import Condition
from workbench.conditions.logic import Rules
from workbench.forward.mean_streams import mean_streams
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Coefficient, Intervention, schedule
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Of B rows: `similarities` (B, L) at the layers of each condition, `met` (B,) bool of each,
    `strengths` (B,) float64 of each behaviour; `means` (B, L, D), what was read."""

    texts: tuple[str, ...]
    conditions: Mapping[str, Condition]
    means: Mapping[str, Tensor]
    similarities: Mapping[str, Tensor]
    met: Mapping[str, Tensor]
    strengths: Mapping[str, Tensor]

    def frame(self) -> pd.DataFrame:
        """One row per prompt, condition and layer: `row`, `prompt`, `condition`, `layer`,
        `similarity`, `met` (of the condition as a whole); and `strength NAME` of each behaviour."""
        given = {f"strength {key}": each.numpy() for key, each in self.strengths.items()}
        parts = [
            pd.DataFrame(
                {
                    "row": range(len(self.texts)),
                    "prompt": self.texts,
                    "condition": name,
                    "layer": layer,
                    "similarity": self.similarities[name][:, index].numpy(),
                    "met": self.met[name].numpy(),
                }
                | given
            )
            for name, condition in self.conditions.items()
            for index, layer in enumerate(condition.layers)
        ]
        return pd.concat(parts).sort_values("row", kind="stable", ignore_index=True)


@dataclass(frozen=True, eq=False)
class Gate:
    """Conditions by name, and rules over them. Raises ValueError for a rule whose condition is
    not there."""

    conditions: Mapping[str, Condition]
    rules: Rules

    def __post_init__(self) -> None:
        lacking = [name for name in self.rules.conditions if name not in self.conditions]
        if lacking:
            raise ValueError(f"no condition {lacking[0]!r}; there are {list(self.conditions)}")

    @property
    def used(self) -> dict[str, Condition]:
        """The conditions that rules use."""
        return {name: self.conditions[name] for name in self.rules.conditions}

    def judge(self, lm: LM, batch: Batch, *, remote: Remote = False) -> Verdicts:
        """The verdicts on every row. Raises ValueError as `Condition.check` and `mean_streams`, and
        for a row whose similarity is not a number, which would count as not met."""
        used = self.used
        for condition in used.values():
            condition.check(lm)
        wanted = [(each.places, each.positions) for each in used.values()]
        means = dict(zip(used, mean_streams(lm, batch, wanted, remote=remote), strict=True))
        seen, met, strengths = look(used, self.rules, means)
        for name, values in seen.items():
            if not bool(values.isfinite().all()):
                row = int((~values.isfinite()).any(dim=1).nonzero()[0])
                raise ValueError(
                    f"the similarity of {batch.texts[row]!r} with {name!r} is "
                    f"{values[row].tolist()}: the model's stream is not finite, or has length 0"
                )
        if _log.isEnabledFor(logging.INFO):
            for row, text in enumerate(batch.texts):
                said = {name: (bool(met[name][row]), seen[name][row].tolist()) for name in used}
                _log.info("row %d %r: %s", row, text[:80], said)
        return Verdicts(batch.texts, used, means, seen, met, strengths)


def look(
    conditions: Mapping[str, Condition], rules: Rules, means: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Of mean streams (B, L, D) by condition: similarities (B, L) and whether each condition is met
    (B,), and strengths (B,) by behaviour."""
    seen = {name: each.resembles(means[name]) for name, each in conditions.items()}
    met = {name: each.met(seen[name]) for name, each in conditions.items()}
    return seen, met, rules.strengths(met)


def gated(interventions: Sequence[Intervention], strengths: Tensor) -> tuple[Intervention, ...]:
    """The interventions of a behaviour in rows (B,) of these strengths; 0 leaves a row as it is."""

    def times(coefficient: float | Tensor) -> Tensor:
        own = schedule(coefficient, len(strengths), 1)[:, 0]
        return (own * strengths).to(own.dtype)

    def opened(coefficient: Coefficient) -> Coefficient:
        if callable(coefficient):
            return lambda step: times(coefficient(step))
        return times(coefficient)

    return tuple(replace(each, coefficient=opened(each.coefficient)) for each in interventions)
