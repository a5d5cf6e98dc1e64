"""A gate that is looked at again while a text is written.

Each new token's stream is read where the steered model makes it. Runs inside a trace, perhaps on
another machine, so that it touches nothing but tensors and this package's plain functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from workbench.conditions import Condition
from workbench.logic import Rules
from workbench.positions import LastK, select
from workbench.steering import Plan, plan
from workbench.tokens import Batch
from workbench.updates import Intervention, Place, per_row

if TYPE_CHECKING:
    from workbench.models import LM

# Once, on the prompt; at every token anew; or at every token until it is met, which then holds.
Recheck: TypeAlias = Literal["never", "always", "until met"]
RECHECKS: tuple[Recheck, ...] = ("never", "always", "until met")


@dataclass(eq=False)
class _Table:
    """The scales of one update: as its behaviour has them, as they are, and what they were
    multiplied by (B, steps)."""

    at: Place
    behaviour: str
    source: Intervention
    base: Tensor
    live: Tensor
    opened: Tensor


@dataclass(eq=False)
class Watch:
    """A gate that is looked at again at every token that is written.

    The mean that a condition reads goes on over the tokens that are written; `last_k(1)` is the
    newest alone. Behaviours after the last layer that is read act on the token that opened them,
    the others from the next on.
    """

    conditions: Mapping[str, Condition]  # those that rules use
    rules: Rules
    behaviours: Mapping[str, Sequence[Intervention]]
    means: Mapping[str, Tensor]  # name -> (B, L, D), what was read of the prompts
    held: bool  # whether a behaviour that was called for stays
    tables: list[_Table] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)  # name -> (B, L, D)
    counts: dict[str, Tensor] = field(default_factory=dict)  # name -> (B,)
    newest: dict[Place, Tensor] = field(default_factory=dict)
    strengths: dict[str, Tensor] = field(default_factory=dict)
    width: int = 0

    @property
    def places(self) -> tuple[Place, ...]:
        """Where streams are read, as a forward passes them."""
        return tuple(sorted({Place(at) for each in self.conditions.values() for at in each.places}))

    def check(self) -> None:
        """Raise ValueError for conditions that cannot be looked at again."""
        for name, condition in self.conditions.items():
            if min(condition.places) < 0:
                raise ValueError(
                    f"condition {name!r} reads the stream before the first block, which only the "
                    "prompt pass shows: recheck='never'"
                )
            if isinstance(condition.positions, LastK) and condition.positions.count != 1:
                raise ValueError(
                    f"condition {name!r} reads {condition.positions!r}, whose first token moves on "
                    "while a text is written: use last_k(1), a mean over the prompt, or "
                    "recheck='never'"
                )

    def join(self, lm: LM, batch: Batch, steered: Plan, new_tokens: int) -> Plan:
        """The plan with the behaviours' tables, as the prompt's verdicts open them."""
        self.width = batch.width
        for name, condition in self.conditions.items():
            counts = select(lm, batch, condition.positions).sum(dim=1).double()
            self.counts[name] = counts
            self.sums[name] = self.means[name].double() * counts[:, None, None]
        self.strengths = self._called_for(self.means)
        joined = {at: list(updates) for at, updates in steered.items()}
        for name, interventions in self.behaviours.items():
            for source in interventions:
                for at, ((update, base),) in plan(lm, batch, [source], new_tokens).items():
                    opened = torch.zeros(len(batch), new_tokens, dtype=torch.float64)
                    table = _Table(at, name, source, base, base.clone(), opened)
                    self.tables.append(table)
                    self._write(table, 0)
                    joined.setdefault(at, []).append((update, table.live))
        return {at: joined[at] for at in sorted(joined, key=lambda at: at.order)}

    def see(self, at: Place, hidden: Tensor, stop: int) -> None:
        """Inside a trace: the stream (B, t, D) at a place, of the columns before `stop`."""
        step = stop - self.width
        if step < 1:
            return
        self.newest[at] = hidden[:, -1].detach().double().cpu()
        if at != self.places[-1]:
            return
        means = {}
        for name, condition in self.conditions.items():
            new = torch.stack([self.newest[Place(each)] for each in condition.places], dim=1)
            if isinstance(condition.positions, LastK):
                means[name] = new
                continue
            self.sums[name] = self.sums[name] + new
            self.counts[name] = self.counts[name] + 1
            means[name] = self.sums[name] / self.counts[name][:, None, None]
        for name, strength in self._called_for(means).items():
            before = self.strengths[name]
            kept = torch.where(before != 0, before, strength)
            self.strengths[name] = kept if self.held else strength
        for table in self.tables:
            # A place that this step has passed is steered again at the next.
            self._write(table, step + (table.at.order < at.order))

    def _called_for(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.rules.strengths(
            {name: each.met(each.resembles(means[name])) for name, each in self.conditions.items()}
        )

    def _write(self, table: _Table, step: int) -> None:
        """What a table's scales are from a step on."""
        strength = self.strengths[table.behaviour]
        table.opened[:, step:] = strength[:, None]
        column = 0 if step == 0 else self.width - 1 + step
        scaled = table.base[:, column:] * strength.to(table.base)[:, None]
        table.live[:, column:] = scaled

    def record(self) -> dict[str, Tensor]:
        """What every table was multiplied by, (B, steps), by its number."""
        return {f"opened {index}": table.opened for index, table in enumerate(self.tables)}

    def done(self, record: Mapping[str, Tensor]) -> list[Intervention]:
        """What was really done: the interventions, with what opened them at every step."""

        def at_steps(source: Intervention, opened: Tensor) -> Intervention:
            given = source.coefficient
            return replace(
                source,
                coefficient=lambda step: (
                    per_row(given(step) if callable(given) else given)
                    * opened[:, min(step, opened.shape[1] - 1)]
                ),
            )

        return [
            at_steps(table.source, record[f"opened {index}"])
            for index, table in enumerate(self.tables)
        ]
