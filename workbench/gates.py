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

from workbench.conditions import Condition, mean_streams
from workbench.logic import Rules
from workbench.tokens import Batch
from workbench.tracing import Remote
from workbench.updates import Coefficient, Intervention, per_row

if TYPE_CHECKING:
    from workbench.models import LM

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Of B rows: `similarities` (B, L) at the layers of each condition, `met` (B,) bool of each,
    `strengths` (B,) float64 of each behaviour; `means` (B, L, D), what was read."""

    conditions: Mapping[str, Condition]
    means: Mapping[str, Tensor]
    similarities: Mapping[str, Tensor]
    met: Mapping[str, Tensor]
    strengths: Mapping[str, Tensor]

    def frame(self) -> pd.DataFrame:
        """One row per prompt, condition and layer: `row`, `condition`, `layer`, `similarity`,
        `met` (of the condition as a whole); and `strength NAME` of every behaviour."""
        parts = []
        for name, condition in self.conditions.items():
            for index, layer in enumerate(condition.layers):
                columns = {
                    "row": range(len(self.met[name])),
                    "condition": name,
                    "layer": layer,
                    "similarity": self.similarities[name][:, index].numpy(),
                    "met": self.met[name].numpy(),
                }
                given = {f"strength {key}": each.numpy() for key, each in self.strengths.items()}
                parts.append(pd.DataFrame(columns | given))
        return pd.concat(parts, ignore_index=True).sort_values("row", kind="stable")


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
        """The verdicts on every row. Raises ValueError as `mean_streams`."""
        used = self.used
        means = mean_streams(lm, batch, list(used.values()), remote=remote)
        found = self.verdicts(dict(zip(used, means, strict=True)))
        if _log.isEnabledFor(logging.INFO):
            for row, text in enumerate(batch.texts):
                said = {
                    name: (bool(found.met[name][row]), found.similarities[name][row].tolist())
                    for name in used
                }
                _log.info("row %d %r: %s", row, text[:80], said)
        return found

    def verdicts(self, means: Mapping[str, Tensor]) -> Verdicts:
        """The verdicts on rows whose mean streams (B, L, D) are known, by condition."""
        seen = {name: each.resembles(means[name]) for name, each in self.used.items()}
        met = {name: each.met(seen[name]) for name, each in self.used.items()}
        return Verdicts(self.used, means, seen, met, self.rules.strengths(met))


def gated(interventions: Sequence[Intervention], strengths: Tensor) -> tuple[Intervention, ...]:
    """The interventions of a behaviour in rows (B,) of these strengths; 0 leaves a row as it is."""
    return tuple(
        replace(each, coefficient=_times(each.coefficient, strengths)) for each in interventions
    )


def _times(coefficient: Coefficient, strengths: Tensor) -> Coefficient:
    if callable(coefficient):
        return lambda step: per_row(coefficient(step)) * strengths
    return per_row(coefficient) * strengths
