"""How the next token is chosen from the logits.

Token v of row b at step s is drawn by the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014,
"A* Sampling"):

    argmax over v of  logits[v] / temperature + g[v],   g = -log(-log(u)),   u uniform

with u from a counter-based generator (Philox, Salmon et al. 2011) keyed by the seed and the row's
stream, its counter being the step. The noise of a text therefore depends on its own stream alone:
not on its neighbours, the chunking, or how many rows there are (its logits do, by rounding, as
matrices of another shape are multiplied in another order); and rows that share a stream (all
coefficients of one prompt) share their noise. This module knows nothing of models or steering.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.statistics.distributions import choice_scores, most_likely, precise
from workbench.support.checks import check_whole, number
from workbench.text.tokens import Batch

# The largest word of the generator's key.
_MOST = 2**64 - 1


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen from its logits; a temperature of 0 takes the largest."""

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    seed: int = 0
    streams: tuple[int, ...] = ()


def check_sampling(
    new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    min_new_tokens: int = 0,
    seed: int = 0,
) -> None:
    """Raises ValueError for what `generate` could not do, see there."""
    check_whole("new_tokens", new_tokens, 1)
    if not 0 <= number(temperature) < math.inf:
        raise ValueError(f"temperature {temperature!r}: give 0 (greedy) or a positive number")
    if not 0 < number(top_p) <= 1:
        raise ValueError(f"top_p {top_p!r}: give a share in (0, 1]")
    if not 0 < number(repetition_penalty) < math.inf:
        raise ValueError(f"repetition_penalty {repetition_penalty!r}: give a positive number")
    check_whole("min_new_tokens", min_new_tokens, 0, new_tokens)
    check_whole("seed", seed, 0, _MOST)


def check_streams(streams: Sequence[int], rows: int) -> tuple[int, ...]:
    """The streams as ints. Raises ValueError unless there is one whole number for each row."""
    if not isinstance(streams, Sequence | np.ndarray):
        raise ValueError(f"streams {streams!r}: give a list with one whole number for each row")
    if len(streams) != rows:
        raise ValueError(f"{len(streams)} streams for {rows} rows; give one for each")
    return tuple(check_whole("stream", stream, 0, _MOST) for stream in streams)


class Chooser:
    """The logits processor of one decoding: remembers what the model said, then picks.

    It takes the raw logits (B, V), records entropy and the log-probability of its choice, and
    returns scores whose largest entry is that choice.
    """

    def __init__(self, sampling: Sampling, batch: Batch, ends: tuple[int, ...]) -> None:
        self.sampling = sampling
        self.ids = batch.ids
        self.attention = batch.attention
        self.ends = ends
        self.seen: Tensor | None = None
        self.chosen: list[Tensor] = []
        self.entropy: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        choice = self.adjust(input_ids, scores, len(self.chosen))
        chosen, entropy = choice_scores(scores, choice.argmax(dim=-1))
        self.chosen.append(chosen)
        self.entropy.append(entropy)
        return choice

    def record(self) -> dict[str, Tensor]:
        """chosen and entropy, (B, n)."""
        return {
            "chosen": torch.stack(self.chosen, dim=1),
            "entropy": torch.stack(self.entropy, dim=1),
        }

    def adjust(self, input_ids: Tensor, scores: Tensor, step: int) -> Tensor:
        """The scores (B, V) of a step, whose largest entry is the choice; nothing is recorded."""
        how = self.sampling
        if how.repetition_penalty != 1.0:
            scores = self._penalize(input_ids, scores, step)
        if step < how.min_new_tokens and self.ends:
            scores = scores.clone()
            scores[:, list(self.ends)] = -torch.inf
        if how.temperature == 0:
            return scores
        scores = scores / how.temperature
        if how.top_p < 1:
            scores = nucleus(scores, how.top_p)
        noise = gumbel(how.seed, how.streams, step, scores.shape[-1])
        return scores + torch.from_numpy(noise).to(scores)

    def _penalize(self, input_ids: Tensor, scores: Tensor, step: int) -> Tensor:
        """The penalty counts a row's real tokens only: padding belongs to its neighbours."""
        if self.seen is None:
            self.seen = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
            rows, columns = self.attention.nonzero(as_tuple=True)
            self.seen[rows.to(scores.device), self.ids[rows, columns].to(scores.device)] = True
        else:
            self.seen.scatter_(1, input_ids[:, -1:], True)
        penalty = self.sampling.repetition_penalty
        penalized = torch.where(scores > 0, scores / penalty, scores * penalty)
        return torch.where(self.seen, penalized, scores)


def nucleus(scores: Tensor, share: float) -> Tensor:
    """Scores (B, V) with -inf outside the smallest set of tokens that holds more than `share` of
    the probability (Holtzman et al. 2020); the most likely token always stays."""
    likely = most_likely(precise(scores).log_softmax(dim=-1), share)
    return scores.masked_fill(~likely, -torch.inf)


def gumbel(seed: int, streams: Sequence[int], step: int, vocabulary: int) -> np.ndarray:
    """Standard Gumbel noise (B, V), float32: row b at this step depends on the seed and
    streams[b] alone."""
    distinct, rows = np.unique(np.asarray(streams, dtype=np.uint64), return_inverse=True)
    uniform = np.empty((len(distinct), vocabulary))
    for index, stream in enumerate(distinct):
        # The lowest counter word advances within a step, the next one holds the step.
        bits = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=[0, step, 0, 0])
        np.random.Generator(bits).random(out=uniform[index])
    np.maximum(uniform, np.finfo(np.float64).tiny, out=uniform)
    return (-np.log(-np.log(uniform))).astype(np.float32)[rows]
