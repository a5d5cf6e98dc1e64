"""Interventions on a batch, cut to some of its rows: a batch is then run a few rows at a time.

Knows nothing of what is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from workbench.interventions.updates import Coefficient, Intervention, per_row
from workbench.text.positions import mask, select
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


def on_rows(
    lm: LM, batch: Batch, interventions: Sequence[Intervention], rows: Tensor
) -> tuple[Intervention, ...]:
    """The interventions of a batch on the batch of its rows (b,), `batch.select(rows)`: of what is
    given for each row (coefficients, masks, targets, directions) those of these rows.

    An update says by `on_rows(rows)` what it is there; one without such a method is the same.
    Raises ValueError as the position rules.
    """
    found = []
    for each in interventions:
        cut = getattr(each.update, "on_rows", None)
        touched = select(lm, batch, each.positions)[rows]
        found.append(
            replace(
                each,
                update=each.update if cut is None else cut(rows),
                coefficient=_on_rows(each.coefficient, rows),
                positions=mask(touched, generated=each.positions.generated),
            )
        )
    return tuple(found)


def _on_rows(coefficient: Coefficient, rows: Tensor) -> Coefficient:
    if callable(coefficient):
        whole = coefficient
        return lambda step: _cut(whole(step), rows)
    return _cut(coefficient, rows)


def _cut(coefficient: float | Tensor, rows: Tensor) -> Tensor:
    values = per_row(coefficient)
    return values[rows] if values.ndim == 1 and len(values) > 1 else values
