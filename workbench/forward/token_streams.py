"""The residual stream at several tokens of texts of unequal length, every layer from one pass.

Tokens are counted from a text's first one (0, 1, …) or from its last (-1, -2, …), over prompt and
completion as they stand. A text that is too short has no such token: it is left out there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.forward import tracing
from workbench.forward.reading import batches, later_norms, median_norms, tokens_at_once
from workbench.forward.streams import Activations
from workbench.text.positions import Mask, Positions, check_positions, mask, select
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


def touched_by(
    lm: LM, batch: Batch, positions: int | Sequence[int] | Positions
) -> dict[int | str, Tensor]:
    """Position -> its tokens, (B, T) bool; a rule of positions.py goes by its name.

    Raises ValueError for no positions, one named twice, or one that is neither a whole number nor a
    rule that suits every batch.
    """
    if isinstance(positions, Mask):
        raise ValueError("a mask belongs to one batch; give numbers of tokens or a position rule")
    if isinstance(positions, str):
        check_positions(positions)
    if callable(positions):
        return {repr(positions): select(lm, batch, positions)}
    given = list(positions) if isinstance(positions, Iterable) else [positions]
    for each in given:
        if isinstance(each, bool) or not isinstance(each, Integral):
            raise ValueError(
                f"position {each!r}: give a whole number (0: the first token, -1: the last), "
                "several of them, or one rule of positions.py"
            )
    numbers = [int(each) for each in given]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"positions {numbers}: name at least one, and each once")
    lengths = batch.attention.sum(dim=1)  # (B,)
    found: dict[int | str, Tensor] = {}
    for each in numbers:
        index = lengths + each if each < 0 else torch.full_like(lengths, each)
        found[each] = batch.attention & (batch.positions == index[:, None])
    return found


def read_tokens(
    lm: LM,
    batch: Batch,
    layers: Sequence[int],
    touched: Sequence[Tensor],
    *,
    remote: tracing.Remote = False,
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """For P choices of tokens (B, T) the mean stream over each text's tokens: (P, B, L, D) float32,
    NaN where a text has none; and (L,) the median norm of the stream over tokens other than each
    text's first, of the texts that are read.

    One forward for all choices and layers, of a few texts of like length at a time.
    """
    values = torch.full((len(touched), len(batch), len(layers), lm.width), torch.nan)
    any_of = torch.stack(list(touched)).any(dim=0)
    rows_read = any_of.any(dim=1).nonzero()[:, 0]
    norms = []
    shown = {"desc": "reading", "unit": "text", "delay": 2, "leave": False}
    with tqdm(total=len(rows_read), disable=not progress, **shown) as bar:
        budget = tokens_at_once(lm, len(layers))
        for part, places in batches(batch.select(rows_read), budget):
            rows = rows_read[places]
            read = any_of[rows][:, -part.width :]
            found = tracing.activations(lm, part, layers, mask(read), norms=True, remote=remote)
            for index, chosen in enumerate(touched):
                own = chosen[rows][:, -part.width :]
                has = own.any(dim=1)
                if has.any():
                    mean = Activations(found.values[own[read]], own.sum(dim=1)[has]).mean()
                    values[index, rows[has]] = mean.float()
            assert found.norms is not None
            norms.append(later_norms(part, found.norms))
            bar.update(len(rows))
    return values, median_norms(norms)
