"""What a model's forward takes in, and what is read from inside it: a batch's tensors, and the
residual streams of chosen tokens. Knows nothing of steering or nnsight.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.text.tokens import Batch


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The arguments of the model's forward; architectures without position ids get none."""
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention.long()}
    if "position_ids" in model_parameters(model):
        inputs["position_ids"] = batch.positions
    return inputs


def model_parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """What the model's forward may be given. The class's own: on the module nnsight has put another
    in its place."""
    return inspect.signature(type(model).forward).parameters


@dataclass(frozen=True, eq=False)
class Kept:
    """The residual stream after a block, before anything is steered.

    layer   the block
    stream  (B, T, D) in the model's dtype
    beside  how many values the block returns beside it; None where it returns a plain tensor
    """

    layer: int
    stream: Tensor
    beside: int | None

    def select(self, rows: Tensor) -> Kept:
        """The same of some rows, which may stand twice."""
        return replace(self, stream=self.stream[rows.to(self.stream.device)])

    def output(self, stream: Tensor) -> Any:
        """A stream in the shape in which the block returns it."""
        return stream if self.beside is None else (stream, *[None] * self.beside)


@dataclass(frozen=True, eq=False)
class Activations:
    """Residual streams of chosen tokens.

    values  (n, L, D), the tokens of row 0 first, then of row 1, …
    counts  (B,) long, how many of the n tokens each row has
    norms   (B, T, L) float32, length of every token's residual stream, NaN at padding; or None
    """

    values: Tensor
    counts: Tensor
    norms: Tensor | None = None

    def split(self) -> list[Tensor]:
        """One (n_i, L, D) tensor per row."""
        return list(self.values.split(self.counts.tolist()))

    def mean(self) -> Tensor:
        """The mean over each row's tokens, (B, L, D)."""
        if bool((self.counts == 1).all()):
            return self.values
        rows = torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)
        totals = self.values.new_zeros(len(self.counts), *self.values.shape[1:])
        totals.index_add_(0, rows.to(totals.device), self.values)
        return totals / self.counts.to(totals.device)[:, None, None]
