"""What a model holds in its residual stream while it reads contrast pairs.

Every layer comes out of one pass over the texts, and is kept on disk, so that each method, layer
and split after the first is free. This module knows nothing of directions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.contrast.pairs import Pairs, check_pairs
from workbench.forward import tracing
from workbench.forward.steering import check_layer
from workbench.forward.tracing import TOKENS
from workbench.support.checks import require_layers
from workbench.support.store import cache_path, cached, tensors_hash
from workbench.text.positions import (
    Mask,
    Positions,
    check_positions,
    last_k,
    mask,
    only_read,
    select,
)
from workbench.text.tokens import Batch, Prompt, encode, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

_log = logging.getLogger(__name__)

# Bytes of activations that one forward may hand over before they are averaged.
_HANDED = 1 << 28
_LAST = last_k(1)


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
    positions: Positions = _LAST,
    *,
    layers: Sequence[int] | None = None,
    compat: bool = False,
    cache: bool = True,
    progress: bool = True,
) -> PairActivations:
    """Mean activation of every side of every pair over the tokens that `positions` touches.

    `last_k(k)` means the last k tokens of the whole text, `generated` the completion, `token(0)`
    its first token, `last` the last token of the prompt, `everything` all of them, `content` all
    but the first, special and template tokens. All layers are read and kept on disk, keyed
    by the weights, their dtype, the token ids and the tokens read; without `cache` only `layers`
    are. `progress` shows a bar where it takes longer than two seconds.
    `compat` reads as repeng does: prompt and completion tokenized as one text, and the last layer
    after the model's final norm.
    Raises ValueError for arguments of another kind, a layer out of range, a text over the context
    length, a side where `positions` touches nothing, and positions given as a mask.
    """
    check_pairs(pairs)
    check_positions(positions)
    require_layers(layers)
    wanted = tuple(range(lm.layers)) if layers is None else tuple(layers)
    for layer in wanted:
        check_layer(lm, layer)
    if not wanted:
        raise ValueError("layers is empty; name at least one layer, or None for all")
    if isinstance(positions, Mask):
        raise ValueError(
            "a mask belongs to one batch; pairs are read in many: give a position rule"
        )
    if compat and not all(isinstance(p, str) for pair in pairs for p in pair.prompts):
        raise ValueError(f"compat reads whole texts, but pairs {pairs.name!r} hold chats")

    later = only_read(positions) or positions.generated
    if not later and all(pair.prompt and pair.prompts[0] == pair.prompts[1] for pair in pairs):
        raise ValueError(
            f"{positions!r} reads only the prompts of {pairs.name!r}, which are the same on both "
            "sides; read `last_k(k)`, `generated` or `everything`"
        )

    everyone = encode_pairs(lm, pairs, compat)
    touched = _touched(lm, everyone, positions)
    read = tuple(range(lm.layers)) if cache else tuple(sorted(set(wanted)))

    def compute() -> dict[str, Tensor]:
        return _read(lm, everyone, touched, read, compat, progress)

    _log.info("%s: %d texts at %r, layers %s", pairs.name, len(everyone), positions, read)
    if cache:
        # What the model sees and what is read of it, not what either was made from: a tokenizer
        # or a chat template that changes the ids changes the key.
        seen = {"ids": everyone.ids, "attention": everyone.attention, "touched": touched}
        path = cache_path(
            "activations",
            model=lm.fingerprint,
            tokens=tensors_hash(seen),
            dtype=str(lm.dtype),
            compat=str(compat),
            version="2",
        )
        tensors = cached(path, compute)
    else:
        tensors = compute()
    index = [read.index(layer) for layer in wanted]
    values = tensors["values"][:, index]  # (2n, L, D), sides in turn
    return PairActivations(values[::2], values[1::2], tensors["residual_norm"][index], wanted)


def residual_norms(
    lm: LM, prompts: Sequence[Prompt] | Batch, layers: Sequence[int] | None = None
) -> dict[int, float]:
    """Layer -> median norm of the residual stream over the tokens of prompts other than the first.

    Padding never counts.
    """
    read = tuple(range(lm.layers)) if layers is None else tuple(layers)
    norms = [
        later_norms(batch, tracing.norms(lm, batch, read))
        for batch, _ in batches(to_batch(lm, prompts), TOKENS)
    ]
    return dict(zip(read, median_norms(norms).tolist(), strict=True))


def tokens_at_once(lm: LM, layers: int) -> int:
    """How many padded tokens one forward takes that hands every token over at so many layers."""
    return min(TOKENS, _HANDED // (4 * lm.width * layers))


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
        yield batch.select(rows).trimmed(), rows
        start += len(rows)


def encode_pairs(lm: LM, pairs: Pairs, compat: bool = False) -> Batch:
    """All sides as one batch: positive 0, negative 0, positive 1, … (compat: see `read_pairs`)."""
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


def _touched(lm: LM, batch: Batch, positions: Positions) -> Tensor:
    """The tokens to read, (B, T) bool. Raises ValueError for a row where there are none."""
    touched = select(lm, batch, positions)
    empty = (~touched.any(1)).nonzero()
    if len(empty):
        raise ValueError(
            f"{positions!r} touches no token of {batch.texts[int(empty[0])][:200]!r}; pairs "
            "without a prompt have no completion either: read `last_k(k)` or `everything`"
        )
    return touched


def _read(
    lm: LM, everyone: Batch, touched: Tensor, layers: tuple[int, ...], compat: bool, progress: bool
) -> dict[str, Tensor]:
    one_each = bool((touched.sum(1) == 1).all())
    budget = TOKENS if one_each else tokens_at_once(lm, len(layers))
    values = torch.empty(len(everyone), len(layers), lm.width)
    norms = []
    shown = {"desc": "reading", "unit": "text", "delay": 2, "leave": False}
    with tqdm(total=len(everyone), disable=not progress, **shown) as bar:
        for batch, rows in batches(everyone, budget):
            here = mask(touched[rows, -batch.width :])
            found = tracing.activations(lm, batch, layers, here, norms=True)
            values[rows] = found.mean().float()
            if compat and lm.layers - 1 in layers:
                values[rows, layers.index(lm.layers - 1)] = _after_norm(lm, batch, here)
            assert found.norms is not None
            norms.append(later_norms(batch, found.norms))
            bar.update(len(rows))
    return {"values": values, "residual_norm": median_norms(norms)}


def _after_norm(lm: LM, batch: Batch, touched: Mask) -> Tensor:
    """(B, D): mean over the touched tokens of the stream after the final norm."""
    hidden = tracing.last_hidden(lm, batch).float()
    weight = touched.touched[..., None]
    return (hidden * weight).sum(1) / weight.sum(1)


def later_norms(batch: Batch, norms: Tensor) -> Tensor:
    """The norms (n, L) of the real tokens that are not the first of their row."""
    return norms[batch.attention & (batch.positions > 0)]


def median_norms(norms: Sequence[Tensor]) -> Tensor:
    """(L,) medians over tokens. Raises ValueError when no text has a second token."""
    tokens = torch.cat(list(norms))
    if not len(tokens):
        raise ValueError("no text has a second token, so there is no residual norm to measure")
    return torch.from_numpy(np.median(tokens.double().numpy(), axis=0)).float()
