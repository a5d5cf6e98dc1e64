"""Arithmetic on next-token distributions.

    H(p)       = -sum p log p
    KL(p || q) = sum p (log p - log q)
    TV(p, q)   = 1/2 sum |p - q|

A whole table of logits in float32 costs more to move than to compute with, so every function that
takes logits (B, T, V) works through a few tokens at a time, in blocks that stay in a processor's
caches. Of one step's distributions (B, V) there are besides the most likely tokens and the KL over
them. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

# Elements of one block's temporaries.
_BLOCK = 1 << 20
# A log-probability whose probability is 0 in every floating point format: an impossible token must
# give 0 times a number, not 0 times infinity.
_IMPOSSIBLE = -1e4
# The most likely tokens are looked for among so many first, then among MORE times as many, and so
# on: sorting a whole vocabulary at every step would cost more than a small model's forward.
FEW, MORE = 32, 8


def precise(values: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are. Of any shape."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats of log-probabilities (…, V): (…,), of their own precision, never negative.

    Tokens of probability 0 under both contribute 0; one that q alone makes impossible contributes
    its probability times 10,000 or so, where the divergence proper is infinite.
    """
    return _divergence(p.clamp_min(_IMPOSSIBLE), q.clamp_min(_IMPOSSIBLE))


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """TV of log-probabilities (…, V): (…,), between 0 and 1; how much probability changes hands."""
    return (p.exp() - q.exp()).abs().sum(dim=-1) / 2


def choice_scores(logits: Tensor, picked: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax of logits (B, V) at the picked tokens (B,), and H of the distributions, (B,).

    Tokens of probability 0 contribute nothing to H. With one temporary of the size of the logits: a
    decoding step has little else to do.
    """
    p = logits.softmax(dim=-1)
    top = logits.max(dim=-1, keepdim=True)
    # log sum exp; the most likely token's probability is never small, so its logarithm is exact.
    total = (top.values - p.gather(-1, top.indices).log())[:, 0]
    mean = torch.linalg.vecdot(p, logits)
    if mean.isnan().any():  # 0 times infinity
        mean = torch.linalg.vecdot(p, logits.clamp_min(_IMPOSSIBLE))
    return logits.gather(-1, picked[:, None])[:, 0] - total, (total - mean).clamp_min(0)


def chosen_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax of logits (B, T, V) at targets (B, T): (B, T), float32 or better."""
    found = torch.empty(targets.shape, dtype=precise(logits[:0]).dtype, device=logits.device)
    for block in _blocks(logits.shape):
        table = precise(logits[block]).log_softmax(dim=-1)
        found[block] = table.gather(-1, targets[block][..., None])[..., 0]
    return found


def token_scores(logits: Tensor, targets: Tensor, steered: Tensor | None = None) -> Tensor:
    """logprobs, echoes, entropy and, with `steered`, KL(steered || own): (3 or 4, B, n).

    logits   (B, n + 1, V): one column before each of the n targets, and the last target's own
    targets  (B, n)
    steered  (B, n, V) logits, or log-probabilities, of the steered model before each target; on
             any device

    Tokens of probability 0 under both contribute 0 to the divergence; one that only the own model
    makes impossible contributes its probability times 10,000 or so, where the divergence proper is
    infinite.
    """
    shape = (3 if steered is None else 4, *logits.shape[:2])
    found = torch.zeros(shape, dtype=precise(logits[:0]).dtype, device=logits.device)
    # What comes after a column, and what stands in it; the fill is cut off below.
    following, standing = pad(targets, (0, 1)), pad(targets, (1, 0))
    for block in _blocks(logits.shape):
        table = precise(logits[block]).log_softmax(dim=-1)
        found[0][block] = table.gather(-1, following[block][..., None])[..., 0]
        found[1][block] = table.gather(-1, standing[block][..., None])[..., 0]
        table.clamp_min_(_IMPOSSIBLE)
        if steered is not None:
            own = precise(steered[block].to(table.device)).log_softmax(dim=-1)
            covered = own.shape[1]  # one column fewer at the right end
            own.clamp_min_(_IMPOSSIBLE)
            found[3][block][:, :covered] = _divergence(own, table[:, :covered])
        found[2][block] = -torch.linalg.vecdot(table.exp(), table)
    found[1, :, :-1] = found[1, :, 1:].clone()
    return found[:, :, :-1]


def likely_kl(clean: Tensor, steered: Tensor, top_p: float, *, divided: bool = False) -> Tensor:
    """KL(clean || steered) (B,) of log-probabilities (B, V), both renormalised over the tokens that
    either holds among its `most_likely` ones; divided by their number, or not. NaN gives NaN."""
    (own, held), (other, held_too) = (_leading(each, top_p) for each in (clean, steered))
    # What both hold counts once.
    again = _marked(clean, own, held).gather(1, other)
    tokens, counted = torch.cat([own, other], dim=1), torch.cat([held, held_too & ~again], dim=1)
    one, two = (
        each.gather(1, tokens).masked_fill(~counted, -torch.inf).log_softmax(dim=-1)
        for each in (clean, steered)
    )
    found = divergence(one, two)
    return found / counted.sum(dim=-1) if divided else found


def most_likely(logprobs: Tensor, share: float) -> Tensor:
    """(B, V) bool: the most likely tokens, up to and with the first whose cumulative probability
    exceeds the share (Holtzman et al. 2020); the most likely one always."""
    return _marked(logprobs, *_leading(logprobs, share))


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """`divergence` of log-probabilities that are all finite."""
    return torch.linalg.vecdot(p.exp(), p - q).clamp_min(0)  # rounding may fall below 0


def _leading(logprobs: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Ids (B, k) of as many tokens as hold the most likely ones of every row, and which of a row's
    are among them."""
    vocabulary = logprobs.shape[-1]
    count = min(FEW, vocabulary)
    while True:
        ordered, order = logprobs.topk(count, dim=-1)
        total = ordered.exp().cumsum(dim=-1)
        if count == vocabulary or bool((total[:, -1] > share).all()):
            break
        count = min(MORE * count, vocabulary)
    before = total.roll(1, dims=-1)
    before[:, 0] = 0
    return order, before <= share


def _marked(logprobs: Tensor, tokens: Tensor, held: Tensor) -> Tensor:
    """(B, V) bool: a row's tokens (B, k) that are held."""
    return torch.zeros_like(logprobs, dtype=torch.bool).scatter(1, tokens, held)


def _blocks(shape: torch.Size) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the pieces of a table (B, T, V): whole rows, as many as a block holds,
    or parts of one row."""
    rows, columns, vocabulary = shape
    tokens = max(1, _BLOCK // vocabulary)
    tall, wide = max(1, tokens // columns), min(tokens, columns)
    for row in range(0, rows, tall):
        for column in range(0, columns, wide):
            yield slice(row, row + tall), slice(column, column + wide)
