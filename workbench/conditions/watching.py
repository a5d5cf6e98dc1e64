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

from workbench.conditions.condition import Condition
from workbench.conditions.gates import look
from workbench.conditions.logic import Rules
from workbench.forward.steering import Plan, plan
from workbench.interventions.updates import Intervention, Place, schedule
from workbench.text.positions import LastK, Positions, Token, last, last_k, select
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Once, on the prompt; at every token anew; or at every token until it is met, which then holds.
Recheck: TypeAlias = Literal["never", "always", "until met"]
RECHECKS: tuple[Recheck, ...] = ("never", "always", "until met")


def check_watched(conditions: Mapping[str, Condition]) -> None:
    """Raise ValueError for conditions that cannot be looked at again."""
    for name, condition in conditions.items():
        if min(condition.places) < 0:
            raise ValueError(
                f"condition {name!r} reads the stream before the first block, which only the "
                "prompt pass shows: recheck='never'"
            )
        if isinstance(condition.positions, LastK | Token) and not _newest(condition.positions):
            raise ValueError(
                f"condition {name!r} reads {condition.positions!r}, of which a new token is "
                "neither one nor one more: use last_k(1), a mean over the prompt, or "
                "recheck='never'"
            )


@dataclass(eq=False)
class _Table:
    """The scales (B, W) of one update: as its behaviour has them, and as they are. `late` says that
    a pass is through with its place when the gate's last stream is read."""

    behaviour: str
    source: Intervention
    late: bool
    base: Tensor
    live: Tensor


@dataclass(eq=False)
class Watch:
    """A gate that is looked at again at every token that is written.

    `last` and `last_k(1)` read the newest token alone; any other mean goes on over the tokens that
    are written. The prompt counts as it was judged, unsteered; a new token as the steered model
    makes it, before anything is added at the place where it is read. Behaviours after the last
    layer that is read act on the token that opened them, the others from the next on.
    """

    conditions: Mapping[str, Condition]  # those that rules use
    rules: Rules
    behaviours: Mapping[str, Sequence[Intervention]]  # those that rules use
    means: Mapping[str, Tensor]  # condition -> (B, L, D), what was read of the prompts
    held: bool  # whether a behaviour that was called for stays
    tables: list[_Table] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)  # condition -> (B, L, D)
    counts: dict[str, Tensor] = field(default_factory=dict)  # condition -> (B,)
    newest: dict[Place, Tensor] = field(default_factory=dict)
    called: dict[str, Tensor] = field(default_factory=dict)  # behaviour -> (B, steps)
    width: int = 0

    @property
    def places(self) -> tuple[Place, ...]:
        """Where streams are read, as a forward passes them."""
        used = self.conditions.values()
        return tuple(sorted({Place(at) for each in used for at in each.places}))

    def join(self, lm: LM, batch: Batch, steered: Plan, new_tokens: int) -> Plan:
        """The plan with the behaviours' tables, as the prompt's verdicts open them."""
        self.width = batch.width
        for name, condition in self.conditions.items():
            counts = select(lm, batch, condition.positions).sum(dim=1).double()
            self.counts[name] = counts
            self.sums[name] = self.means[name].double() * counts[:, None, None]
        *_, strengths = look(self.conditions, self.rules, self.means)
        joined = {at: list(updates) for at, updates in steered.items()}
        for name, interventions in self.behaviours.items():
            self.called[name] = strengths[name][:, None].repeat(1, new_tokens)
            for source in interventions:
                for at, ((update, base),) in plan(lm, batch, [source], new_tokens).items():
                    late = at.order < self.places[-1].order
                    table = _Table(name, source, late, base, base.clone())
                    self.tables.append(table)
                    self._write(table, 0)
                    joined.setdefault(at, []).append((update, table.live))
        return {at: joined[at] for at in sorted(joined, key=lambda at: at.order)}

    def see(self, at: Place, hidden: Tensor, stop: int) -> None:
        """Inside a trace: the stream (B, t, D) at a place, of the columns before `stop`."""
        step = stop - self.width
        if step < 1:
            return
        self.newest[at] = hidden[:, -1].detach().cpu().double()
        if at != self.places[-1]:
            return
        means = {}
        for name, condition in self.conditions.items():
            new = torch.stack([self.newest[Place(each)] for each in condition.places], dim=1)
            if _newest(condition.positions):
                means[name] = new
                continue
            self.sums[name] = self.sums[name] + new
            self.counts[name] = self.counts[name] + 1
            means[name] = self.sums[name] / self.counts[name][:, None, None]
        *_, strengths = look(self.conditions, self.rules, means)
        for name, called in self.called.items():
            before = called[:, step - 1]
            kept = torch.where(before != 0, before, strengths[name])
            called[:, step:] = (kept if self.held else strengths[name])[:, None]
        for table in self.tables:
            self._write(table, step)

    def _write(self, table: _Table, step: int) -> None:
        """Set a table's scales from a step on, or from the next where this one is through."""
        strength = self.called[table.behaviour][:, step].to(table.base)
        column = 0 if step == 0 else self.width - 1 + step + table.late
        table.live[:, column:] = table.base[:, column:] * strength[:, None]

    def record(self) -> dict[str, Tensor]:
        """What was called for at every step, (B, steps), by behaviour."""
        return {f"called {name}": called for name, called in self.called.items()}

    def done(self, record: Mapping[str, Tensor]) -> list[Intervention]:
        """What was really done: the interventions, times what was called for at every step."""
        # A server's watch is another one: this one learns from its record.
        self.called = {name: record[f"called {name}"] for name in self.called}
        return [_at_steps(table, self.called[table.behaviour]) for table in self.tables]


def _newest(positions: Positions) -> bool:
    return positions in (last, last_k(1))


def _at_steps(table: _Table, called: Tensor) -> Intervention:
    given = table.source.coefficient

    def coefficient(step: int) -> Tensor:
        own = schedule(given(step) if callable(given) else given, len(called), 1)[:, 0]
        known = called[:, min(max(step - table.late, 0), called.shape[1] - 1)]
        return (own * known).to(own.dtype)

    return replace(table.source, coefficient=coefficient)
