"""What a model holds in its residual stream while it reads contrast pairs.

Every layer comes out of one pass over the texts, and is kept on disk, so that each method, layer
and split after the first is free. This module knows nothing of directions.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench import tracing
from workbench.layers import evaluating
from workbench.pairs import Pairs
from workbench.positions import Mask, Positions, Rule, last, mask, select
from workbench.store import cache_path, cached
from workbench.tokens import Batch, Prompt, encode

if TYPE_CHECKING:
    from workbench.models import LM

# Padded tokens of one forward: enough to keep a processor busy, little enough for its caches.
TOKENS = 4096
# Bytes of activations that one forward may hand over before they are averaged.
_HANDED = 1 << 28


@dataclass(frozen=True)
class LastK:
    """The last `count` tokens of a text; see `last_k`."""

    count: int
    generated: bool = True

    def __call__(self, lm: LM, batch: Batch) -> Tensor:
        return batch.attention & (torch.arange(batch.width) >= batch.width - self.count)

    def __repr__(self) -> str:
        return f"last_k({self.count})"


def last_k(count: int) -> LastK:
    """The last `count` tokens of each text, prompt and completion together (left-padded rows)."""
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"last_k({count!r}): give a whole number of tokens, at least 1")
    return LastK(count)


@dataclass(frozen=True, eq=False)
class PairActivations:
    """Pooled activations: row i of both tensors belongs to pair i.

    positive, negative  (n, L, D) float32, the mean over the tokens read
    residual_norm       (L,) median norm over all tokens other than the first of each text
    layers              the L decoder layers
    """

    positive: Tensor
    negative: Tensor
    residual_norm: Tensor
    layers: tuple[int, ...]

    def rows(self, indices: Sequence[int]) -> PairActivations:
        """The same for some of the pairs (the norms stay those of all)."""
        chosen = torch.tensor(list(indices), dtype=torch.long)
        return replace(self, positive=self.positive[chosen], negative=self.negative[chosen])


def read_pairs(
    lm: LM,
    pairs: Pairs,
    positions: Positions = last,
    *,
    layers: Sequence[int] | None = None,
    compat: bool = False,
    cache: bool = True,
) -> PairActivations:
    """Mean activation of every side of every pair over the tokens that `positions` touches.

    `last` means the last token of the whole text, `generated` the completion, `last_k(k)` the last
    k tokens, `everything` all of them. All layers are read and kept on disk, keyed by the weights,
    the texts, the positions and the dtype; without `cache` only `layers` are.
    `compat` reads as repeng does: prompt and completion tokenized as one text, and the last layer
    after the model's final norm.
    Raises ValueError for a layer out of range, a text over the context length, a side where
    `positions` touches nothing, and positions given as a mask.
    """
    wanted = tuple(range(lm.layers)) if layers is None else tuple(layers)
    for layer in wanted:
        tracing.check_layer(lm, layer)
    if not wanted:
        raise ValueError("layers is empty; name at least one layer, or None for all")
    if isinstance(positions, Mask):
        raise ValueError(
            "a mask belongs to one batch; pairs are read in many: give a position rule"
        )
    if compat and not all(isinstance(p, str) for pair in pairs for p in pair.prompts):
        raise ValueError(f"compat reads whole texts, but pairs {pairs.name!r} hold chats")

    ends = positions is last or positions.generated
    if not ends and all(pair.prompt and pair.prompts[0] == pair.prompts[1] for pair in pairs):
        raise ValueError(
            f"{positions!r} reads only the prompts of {pairs.name!r}, which are the same on both "
            "sides; read `last`, `last_k(k)`, `generated` or `everything`"
        )

    # Only rules that say all about themselves in their repr can be found again on disk.
    keyed = cache and isinstance(positions, Rule | LastK)
    read = tuple(range(lm.layers)) if keyed else tuple(sorted(set(wanted)))

    def compute() -> dict[str, Tensor]:
        return _read(lm, pairs, positions, read, compat)

    if keyed:
        path = cache_path(
            "activations",
            model=lm.fingerprint,
            data=pairs.fingerprint,
            positions=repr(positions),
            dtype=str(lm.dtype),
            compat=str(compat),
            version="1",
        )
        tensors = cached(path, compute)
    else:
        tensors = compute()
    index = [read.index(layer) for layer in wanted]
    values = tensors["values"][:, index]  # (2n, L, D), sides in turn
    return PairActivations(values[::2], values[1::2], tensors["residual_norm"][index], wanted)


def residual_norms(
    lm: LM, prompts: Sequence[Prompt], layers: Sequence[int] | None = None
) -> dict[int, float]:
    """Layer -> median norm of the residual stream over the tokens of prompts other than the first.

    Padding never counts.
    """
    read = tuple(range(lm.layers)) if layers is None else tuple(layers)
    norms = [
        _later(batch, tracing.norms(lm, batch, read))
        for batch, _ in batches(encode(lm, prompts), TOKENS)
    ]
    return dict(zip(read, _median(norms).tolist(), strict=True))


def batches(batch: Batch, tokens: int) -> Iterator[tuple[Batch, list[int]]]:
    """The rows in batches of like length, longest first, of at most `tokens` padded tokens each.

    Comes with the indices of the rows. One row always fits.
    """
    lengths = batch.attention.sum(1)
    order = lengths.argsort(descending=True, stable=True).tolist()
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        rows = order[start : start + max(1, tokens // width)]
        yield _trimmed(batch.select(rows), width), rows
        start += len(rows)


def _trimmed(batch: Batch, width: int) -> Batch:
    """The batch without the columns on the left that are padding in every row."""
    cut = batch.width - width
    return replace(
        batch,
        ids=batch.ids[:, cut:],
        attention=batch.attention[:, cut:],
        starts=batch.starts - cut,
    )


def _encoded(lm: LM, pairs: Pairs, compat: bool) -> Batch:
    """All sides as one batch: positive 0, negative 0, positive 1, ..."""
    if compat:
        return encode(lm, [text for pair in pairs for text in pair.full])
    sides = [
        (prompt, text)
        for pair in pairs
        for prompt, text in zip(pair.prompts, (pair.positive, pair.negative), strict=True)
    ]
    # A whole text stands in the prompt's place, so that it gets the tokenizer's special tokens.
    return encode(
        lm, [prompt or text for prompt, text in sides], [text if p else () for p, text in sides]
    )


def _touched(lm: LM, batch: Batch, positions: Positions) -> Mask:
    """The tokens to read, as a mask: rules about a text's end see prompt and completion as one."""
    if positions is last:
        touched = LastK(1)(lm, batch)
    elif isinstance(positions, LastK):
        touched = positions(lm, batch)
    else:
        touched = select(lm, batch, positions)
    return mask(touched)


def _check_touched(lm: LM, batch: Batch, positions: Positions) -> None:
    empty = (~_touched(lm, batch, positions).touched.any(1)).nonzero()
    if len(empty):
        raise ValueError(
            f"{positions!r} touches no token of {batch.texts[int(empty[0])][:200]!r}; pairs "
            "without a prompt have no completion either: read `last`, `last_k(k)` or `everything`"
        )


def _read(
    lm: LM, pairs: Pairs, positions: Positions, layers: tuple[int, ...], compat: bool
) -> dict[str, Tensor]:
    everyone = _encoded(lm, pairs, compat)
    _check_touched(lm, everyone, positions)
    one_each = positions is last
    budget = TOKENS if one_each else min(TOKENS, _HANDED // (4 * lm.width * len(layers)))
    values = torch.empty(len(everyone), len(layers), lm.width)
    norms = []
    with tqdm(total=len(everyone), desc="reading", unit="text", delay=2, leave=False) as progress:
        for batch, rows in batches(everyone, budget):
            touched = _touched(lm, batch, positions)
            found = tracing.activations(lm, batch, layers, touched, norms=True)
            values[rows] = found.mean().float()
            if compat and lm.layers - 1 in layers:
                values[rows, layers.index(lm.layers - 1)] = _after_norm(lm, batch, touched)
            assert found.norms is not None
            norms.append(_later(batch, found.norms))
            progress.update(len(rows))
    return {"values": values, "residual_norm": _median(norms)}


@torch.no_grad()
def _after_norm(lm: LM, batch: Batch, touched: Mask) -> Tensor:
    """(B, D): mean over the touched tokens of the stream after the final norm, which is what
    transformers calls the last hidden state."""
    model, device = lm.model.base_model, lm.device
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention.long()}
    if "position_ids" in inspect.signature(type(model).forward).parameters:
        inputs["position_ids"] = batch.positions
    with evaluating(lm.model):
        found = model(**{name: value.to(device) for name, value in inputs.items()}, use_cache=False)
    hidden = found.last_hidden_state
    weight = touched.touched.to(hidden.device)[..., None]
    return ((hidden.float() * weight).sum(1) / weight.sum(1)).cpu()


def _later(batch: Batch, norms: Tensor) -> Tensor:
    """The norms (n, L) of the real tokens that are not the first of their row."""
    return norms[batch.attention & (batch.positions > 0)]


def _median(norms: Sequence[Tensor]) -> Tensor:
    """(L,) medians over tokens. Raises ValueError when no text has a second token."""
    tokens = torch.cat(list(norms))
    if not len(tokens):
        raise ValueError("no text has a second token, so there is no residual norm to measure")
    return torch.from_numpy(np.median(tokens.double().numpy(), axis=0)).float()
