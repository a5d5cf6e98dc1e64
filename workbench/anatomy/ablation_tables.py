"""Tables of what ablating does, whatever is noted: how parts are named, and how a table came about.

Knows nothing of what is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.anatomy.ablation import Component
from workbench.anatomy.ablation_sweep import Finish, Sweep
from workbench.anatomy.fillings import Filling, zero
from workbench.forward.tracing import Remote
from workbench.statistics.intervals import bootstrap_mean
from workbench.support.checks import check_whole
from workbench.support.store import tensors_hash
from workbench.support.versions import versions
from workbench.text.positions import Positions, everything
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

Fillings: TypeAlias = Filling | Sequence[Filling]

# What names a part, in the tables.
PARTS = ["component", "layer", "kind", "head", "name"]


class Ablating(TypedDict, total=False):
    """How parts are ablated, by name.

    by         what stands in (default: `fillings.zero`); given several, such as `resampling.draws`,
               each is run by itself, and `draw` tells them apart
    positions  the tokens where it does (default: everything)
    memory     bytes that logits and streams of one forward may take (default: 2²⁸)
    remote     as in tracing.py
    """

    by: Fillings
    positions: Positions
    memory: float
    remote: Remote


@dataclass(frozen=True)
class Reading:
    """What is noted of each row of a batch.

    keep      of how many last columns there are logits
    plain     as `Sweep.run`: what is noted of the whole model
    compared  as `Sweep.run`: what is noted with a component ablated
    kept      what of the former is for the table: (b, N) -> (b,)
    columns   of what is kept (B,), and of the latter (C, B, M), the table's columns
    """

    keep: int
    plain: Callable[[Batch, Tensor], Finish]
    compared: Callable[[Batch, Tensor, Tensor], Finish]
    kept: Callable[[Tensor], Tensor]
    columns: Callable[[Tensor, Tensor], dict[str, np.ndarray]]


def table(
    lm: LM,
    batch: Batch,
    components: Sequence[Component],
    reading: Reading,
    unit: str,
    *,
    by: Fillings = zero,
    positions: Positions = everything,
    memory: float = 1 << 28,
    remote: Remote = False,
) -> pd.DataFrame:
    """One row per (draw, component, unit), the tables of all draws below each other.

    unit  the column that numbers the units, of which a table has as many as the reading says

    Raises ValueError as `Sweep`, before any work starts, and for no filling.
    """
    fillings = list(by) if isinstance(by, Sequence) else [by]
    if not fillings:
        raise ValueError("by is empty; give at least one filling, such as fillings.zero")
    sweeps = [Sweep(lm, batch, components, each, positions, memory, remote) for each in fillings]
    parts = pd.DataFrame([named(number, each) for number, each in enumerate(components)])
    frames = []
    for draw, sweep in enumerate(sweeps):
        order, whole, ablated = zip(
            *(
                (rows, reading.kept(before), values)
                for rows, before, values in sweep.run(reading.keep, reading.plain, reading.compared)
            ),
            strict=True,
        )
        back = torch.cat(order).argsort()
        columns = reading.columns(torch.cat(whole)[back], torch.cat(ablated, dim=1)[:, back])
        count = len(next(iter(columns.values()))) // len(components)
        frame = parts.loc[parts.index.repeat(count)].reset_index(drop=True)
        numbers = {"draw": draw, unit: np.tile(np.arange(count), len(components))}
        frames.append(frame.assign(**numbers, **columns))
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    frame.attrs = about(lm, batch, fillings, positions)
    return frame


def named(number: int, component: Component | None) -> dict[str, Any]:
    """What names a part in a table, or the whole model."""
    if component is None:
        return dict(zip(PARTS, (number, -1, "whole", -1, "whole"), strict=True))
    head = -1 if component.head is None else component.head
    name = component.name or component.kind
    found = (number, component.layer, component.kind, head, name)
    return dict(zip(PARTS, found, strict=True))


def about(
    lm: LM, batch: Batch, fillings: Sequence[Filling], positions: Positions
) -> dict[str, Any]:
    """How a table came about, as JSON values."""
    said = [dict(each.about) for each in fillings]
    return {
        "model": lm.name,
        "weights": lm.fingerprint if lm.in_memory else "",
        "filling": said[0] if len(said) == 1 else said,
        "positions": repr(positions),
        "tokens_sha256": tensors_hash({"ids": batch.ids, "attention": batch.attention}),
        "versions": versions(),
    }


def largest(frame: pd.DataFrame, count: int = 5, *, value: str = "change") -> pd.DataFrame:
    """The parts whose ablation changes a value most, in the mean over pairs or prompts.

    frame  rows of `ablation_effects`, of one draw

    One row per part, largest first: `layer`, `kind`, `head`, the mean of `value` with `low` and
    `high`, its 95 % bootstrap interval over rows, and the mean `loss` likewise, where there
    is one. As the largest of many the means are optimistic. Raises ValueError for a column
    that is not there, several draws, and a count below 1.
    """
    check_whole("count", count, 1)
    if value not in frame:
        raise ValueError(f"there is no column {value!r}; the frame has {list(frame.columns)}")
    if "draw" in frame and frame["draw"].nunique() > 1:
        raise ValueError("the frame has several draws: take their mean first (`over_draws`)")
    parts = {number: mine for number, mine in frame.groupby("component") if number >= 0}
    means = {number: mine[value].mean() for number, mine in parts.items()}
    rows = []
    for number in sorted(means, key=lambda number: -abs(means[number]))[:count]:
        mine = parts[number]
        found = bootstrap_mean(mine[value].to_numpy(dtype=float))
        row = {**mine[["layer", "kind", "head"]].iloc[0], value: found.value}
        row |= {"low": found.low, "high": found.high}
        if "loss" in mine:
            loss = bootstrap_mean(mine["loss"].to_numpy(dtype=float))
            row |= {"loss": loss.value, "loss_low": loss.low, "loss_high": loss.high}
        rows.append(row)
    return pd.DataFrame(rows)
