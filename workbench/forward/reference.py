"""What a model's residual stream holds while it reads ordinary text, streamed in bounded memory.

At every layer: mean and covariance (moments.py), in parts that hold different documents, so that a
fit can be judged by documents that it has not seen; a sample of single tokens; and how long the
stream is by position. Memory does not grow with the text.

The first tokens of a text, and tokens that are no words (such as those that begin a chat's turn),
are outliers, at some layers tenfold: they are left out here and wherever a manifold is asked, and
`lengths` shows what was left out. How many are first is told by the length of the stream.

A stream is taken at unit length by default (`unit`), times √D: what follows a block reads it
through a norm, which sees its direction only. In their own length activations lie the nearer to
the mean the less sure the model is, so that spoiled text looks more ordinary than ordinary text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.steering import check_layer
from workbench.forward.streaming import Lengths, Streaming
from workbench.statistics.moments import Moments, merged
from workbench.support.checks import check_whole, require_layers
from workbench.support.versions import versions
from workbench.text.positions import Mask, Positions, check_positions, content, mask, select
from workbench.text.splits import text_hash
from workbench.text.tokens import Batch, Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Documents that are encoded together.
_TOGETHER = 64
# First tokens are left out up to the last, among so many, at whose place the stream is by this
# factor longer or shorter than usual at some layer.
_EARLY, _OUTLYING = 16, 1.5


@dataclass(frozen=True, eq=False)
class Reference:
    """Activations of ordinary text at some layers.

    folds      layer -> moments of its parts, document i in part i mod the number of parts
    samples    layer -> (n, D) float32, tokens drawn from all that were read
    documents  (n,) the document of each
    positions  (n,) its place in that document, 0 the first token
    lengths    one row per (layer, position): see `by_position`
    unit       whether streams are at unit length times √D
    skip       how many tokens of a text's beginning are left out at least
    rule       which of the others are read, in words
    provenance model, weights, texts, versions: JSON values
    """

    folds: Mapping[int, Sequence[Moments]]
    samples: Mapping[int, np.ndarray]
    documents: np.ndarray
    positions: np.ndarray
    lengths: pd.DataFrame
    unit: bool
    skip: int
    rule: str
    provenance: Mapping[str, Any]

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(self.folds)

    def moments(self, layer: int) -> Moments:
        """Of all parts of a layer together."""
        return merged(list(self.folds[layer]))


def collect(
    lm: LM,
    texts: Iterable[Prompt],
    layers: Sequence[int] | None = None,
    *,
    positions: Positions = content,
    skip: int | None = None,
    unit: bool = True,
    folds: int = 4,
    sample: int = 4096,
    seed: int = 0,
    progress: bool = True,
) -> Reference:
    """Read ordinary text once, at some layers (default: all).

    texts      documents, as a list or as they come
    positions  the tokens that are read; by default those of words
    skip       how many of a text's first tokens are left out; None: see `first_tokens`
    unit       take each stream at unit length (times √D)
    folds      parts that judge each other's fits
    sample     how many single tokens are kept

    Raises ValueError for no texts, layers out of range, positions given as a mask, numbers out of
    range, texts over the context length, and texts without a token to read.
    """
    chosen = _checked(lm, layers, positions)
    texts, skip = _with_skip(lm, texts, chosen, positions, skip)
    stream = Streaming(lm.width, chosen, folds=folds, sample=sample, seed=seed, unit=unit)
    lengths = Lengths(len(chosen))
    hashes = []
    for some in _some(texts):
        hashes += [text_hash(text) for text in some]
        begun = len(hashes) - len(some)
        for read in read_tokens(lm, some, chosen, positions, skip, progress=progress):
            lengths.add(read.norms, read.places, read.kept)
            stream.add(read.values, read.documents + begun, read.positions)
    if not hashes:
        raise ValueError("no ordinary text was given: give documents, some hundreds of them")
    if stream.folds[chosen[0]][-1].count < 2:
        raise ValueError(
            f"{len(hashes)} documents leave a part of {folds} without tokens: give more documents"
        )
    samples, documents, places = stream.sample()
    return Reference(
        folds=stream.folds,
        samples=samples,
        documents=documents,
        positions=places,
        lengths=lengths.table(chosen),
        unit=unit,
        skip=skip,
        rule=repr(positions),
        provenance={
            "model": lm.name,
            "weights": lm.fingerprint if lm.in_memory else "",
            "texts": len(hashes),
            "texts_sha256": text_hash("\n".join(hashes)),
            "tokens": sum(part.count for part in stream.folds[chosen[0]]),
            "seed": seed,
            "versions": versions(),
        },
    )


@dataclass(frozen=True, eq=False)
class Read:
    """Tokens of one batch: values (n, L, D), the document (n,) and place (n,) of each; and of all m
    tokens of the batch the lengths of the streams (m, L), the places (m,) and whether they are
    among the n, (m,)."""

    values: Tensor
    documents: np.ndarray
    positions: np.ndarray
    norms: Tensor
    places: Tensor
    kept: Tensor


def read_tokens(
    lm: LM,
    texts: Sequence[Prompt],
    layers: Sequence[int],
    positions: Positions = content,
    skip: int = 1,
    *,
    progress: bool = True,
) -> Iterator[Read]:
    """The chosen tokens of texts, batch by batch; texts that have none are passed over."""
    everyone = encode(lm, texts)
    touched = chosen_tokens(lm, everyone, positions, skip)
    able = touched.any(dim=1).nonzero()[:, 0]
    if len(able) == 0:
        return
    shown = {"desc": "ordinary text", "unit": "text", "delay": 2, "leave": False}
    with tqdm(total=len(able), disable=not progress, **shown) as bar:
        for batch, rows in batches(everyone.select(able), tracing.TOKENS):
            here = touched[able[rows], -batch.width :]
            found = tracing.activations(lm, batch, layers, mask(here), norms=True)
            assert found.norms is not None
            document = able[rows].repeat_interleave(found.counts).numpy()
            real = batch.attention
            yield Read(
                found.values,
                document,
                batch.positions[here].numpy(),
                found.norms[real],
                batch.positions[real],
                here[real],
            )
            bar.update(len(rows))


def chosen_tokens(lm: LM, batch: Batch, positions: Positions, skip: int) -> Tensor:
    """(B, T) bool: the tokens that a rule touches, without the first `skip` of each text."""
    return select(lm, batch, positions) & (batch.positions >= skip)


def first_tokens(
    lm: LM, texts: Sequence[Prompt], layers: Sequence[int], positions: Positions = content
) -> int:
    """How many tokens of a text's beginning are outliers, 1 at least: up to the last of the first
    16 places at which, at some layer, the stream is half as long again as usual, or shorter by as
    much (the geometric mean over texts)."""
    lengths = Lengths(len(layers))
    for read in read_tokens(lm, texts, layers, positions, 1, progress=False):
        lengths.add(read.norms, read.places, read.kept)
    table = lengths.table(layers)
    early = table[~table["left_out"] & (table["position"] < _EARLY)]
    odd = early[np.abs(np.log(early["ratio"])) > np.log(_OUTLYING)]
    return 1 + max(odd["position"], default=0)


def _with_skip(
    lm: LM,
    texts: Iterable[Prompt],
    layers: Sequence[int],
    positions: Positions,
    skip: int | None,
) -> tuple[Iterable[Prompt], int]:
    """The texts again, and how many first tokens are left out, as told by the first of them."""
    if skip is not None:
        return texts, check_whole("skip", skip, 0)
    if isinstance(texts, str):
        return texts, 1  # refused below
    source = iter(texts)
    begun = list(islice(source, _TOGETHER))
    found = first_tokens(lm, begun, layers, positions) if begun else 1
    return chain(begun, source), found


def _checked(lm: LM, layers: Sequence[int] | None, positions: Positions) -> tuple[int, ...]:
    check_positions(positions)
    require_layers(layers)
    if isinstance(positions, Mask):
        raise ValueError(
            f"{positions!r} belongs to one batch, and texts are read in many: give a position rule"
        )
    chosen = tuple(range(lm.layers)) if layers is None else tuple(layers)
    if not chosen:
        raise ValueError("layers is empty; name at least one layer, or None for all")
    return tuple(sorted({check_layer(lm, layer) for layer in chosen}))


def _some(texts: Iterable[Prompt]) -> Iterator[list[Prompt]]:
    if isinstance(texts, str):
        raise ValueError(f"texts is one text, {texts[:60]!r}; give a list of documents")
    source = iter(texts)
    while some := list(islice(source, _TOGETHER)):
        yield some
