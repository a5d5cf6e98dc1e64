"""Mean residual streams of prompts: several choices of tokens and layers from one unsteered pass.

Knows nothing of what they are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.forward.reading import batches, tokens_at_once
from workbench.forward.streams import Activations
from workbench.forward.tracing import Remote
from workbench.text.positions import Positions, mask, select
from workbench.text.tokens import Batch, Prompt, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


def mean_streams(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    wanted: Sequence[tuple[Sequence[int], Positions]],
    *,
    remote: Remote = False,
) -> list[Tensor]:
    """For each (layers, positions) the means (B, L, D) over each row's tokens, in the order of the
    layers, as `tracing.activations` names them.

    One pass for all, which ends after the last layer that is read; rows of like length go together.
    Raises ValueError as `tokens.encode`, and for a row of which nothing is chosen.
    """
    if not wanted:
        return []
    batch = to_batch(lm, prompts)
    chosen = [_chosen(lm, batch, positions) for _, positions in wanted]
    any_of = torch.stack(chosen).any(dim=0)
    layers = sorted({layer for some, _ in wanted for layer in some})
    order: list[int] = []
    found: list[list[Tensor]] = [[] for _ in wanted]
    for part, rows in batches(batch, tokens_at_once(lm, len(layers))):
        read = any_of[rows][:, -part.width :]
        streams = tracing.activations(lm, part, layers, mask(read), remote=remote).values
        for (some, _), touched, means in zip(wanted, chosen, found, strict=True):
            own = touched[rows][:, -part.width :]
            columns = [layers.index(layer) for layer in some]
            means.append(Activations(streams[own[read]][:, columns], own.sum(dim=1)).mean())
        order += rows
    back = torch.tensor(order).argsort()
    return [torch.cat(means)[back] for means in found]


def _chosen(lm: LM, batch: Batch, positions: Positions) -> Tensor:
    """The tokens that are read, (B, T) bool. Raises ValueError for a row where there are none."""
    touched = select(lm, batch, positions)
    empty = (~touched.any(dim=1)).nonzero()
    if len(empty):
        row = int(empty[0])
        raise ValueError(f"{positions!r} chooses no token of row {row}: {batch.texts[row][:200]!r}")
    return touched
