"""What wren learns from: documents side by side, and soft targets for every token in them.

Documents are written by the grammar while the model trains (no text is seen twice), each in a row
of its own beside others of like length. What should be predicted are the probabilities of each
token, which the writer knows (soft_targets.py), not the token that it happened to draw.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from workbench.wren import tokenizer as tokenizers
from workbench.wren.grammar import Document, write
from workbench.wren.recipe import CONTEXT, Recipe
from workbench.wren.soft_targets import SoftTargets, Targets

DOCUMENTS_PER_SHARD = 1500


class Batch(NamedTuple):
    """Documents side by side, and what should be predicted.

    rows           (documents, length) token ids, right-padded
    places         (N,) the places in the flattened rows that have a next token
    wanted_at      (M,) which of the N places, ascending
    wanted         (M,) a token that could come next there
    probabilities  (M,) how likely it is; they add up to 1 at each place
    """

    rows: Tensor
    places: Tensor
    wanted_at: Tensor
    wanted: Tensor
    probabilities: Tensor


Arrays = tuple[np.ndarray, ...]


def documents(seed: int | str, count: int) -> list[Document]:
    """``count`` documents of the grammar; a seed names them for good."""
    rng = random.Random(seed)
    return [write(rng) for _ in range(count)]


def one_hot(ids: list[int]) -> Targets:
    """A document whose targets are its own tokens."""
    return ids, [{token: 1.0} for token in ids]


def bundle(targets: list[Targets], size: int, pad: int) -> list[Arrays]:
    """Documents of like length side by side, about ``size`` tokens a batch, padding and all.

    Every document stands alone in its row, from position 0 on, as it does when it is used; with
    like lengths the padding is a few per cent. What is longer than the context is cut. These are
    the arrays of a `Batch`, as another process hands them over.
    """
    ordered = sorted(
        ((ids[:CONTEXT], soft) for ids, soft in targets), key=lambda pair: len(pair[0])
    )
    batches: list[Arrays] = []
    while ordered:
        width = len(ordered[-1][0])
        count = max(1, size // width)
        chosen, ordered = ordered[-count:], ordered[:-count]
        soft = [soft[1 : len(ids)] for ids, soft in chosen]
        places = [row * width + at for row, nexts in enumerate(soft) for at in range(len(nexts))]
        flat = [following for nexts in soft for following in nexts]
        batches.append(
            (
                np.array([ids + [pad] * (width - len(ids)) for ids, _ in chosen]),
                np.array(places, dtype=np.int64),
                np.repeat(np.arange(len(flat)), [len(following) for following in flat]),
                np.array([token for following in flat for token in following], dtype=np.int64),
                np.array([p for following in flat for p in following.values()], dtype=np.float32),
            )
        )
    return batches


def as_batch(arrays: Arrays) -> Batch:
    """The same as tensors."""
    return Batch(*map(torch.from_numpy, arrays))


def shard(directory: str, seed: int, index: int, size: int) -> list[Arrays]:
    """The batches of one shard, in random order; made in a process of its own."""
    torch.set_num_threads(1)
    tokenizer = tokenizers.load(directory)
    soft = SoftTargets(tokenizer)
    written = documents(f"shard {index} of seed {seed}", DOCUMENTS_PER_SHARD)
    batches = bundle(list(map(soft, written)), size, tokenizer.get_vocab()[tokenizers.PAD])
    random.Random(f"order of shard {index} of seed {seed}").shuffle(batches)
    return batches


def stream(directory: Path, recipe: Recipe, index: int) -> Iterator[tuple[int, Batch]]:
    """Endless (shard index, batch) from shard ``index`` on; the next is written ahead."""
    with ProcessPoolExecutor(1) as pool:

        def order(at: int) -> Future[list[Arrays]]:
            return pool.submit(shard, str(directory), recipe.seed, at, recipe.tokens_per_step)

        ahead = order(index)
        while True:
            written, ahead = ahead.result(), order(index + 1)
            for arrays in written:
                yield index, as_batch(arrays)
            index += 1
