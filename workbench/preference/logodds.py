"""Preference and utility log-odds out of log-probabilities: pure maths, in log space and float64
from the softmax on, which is taken in float32 as everywhere (complements: in float64 from the
logits).

For a positive and a negative answer to one prompt, L = -log P(answer | prompt) in nats,

    preference = L_n - L_p        utility = log( (e^-L_p + e^-L_n) / (1 - e^-L_p - e^-L_n) )

(arXiv 2602.02343). What is left over, 1 - P_p - P_n, is the probability of every other answer.
Where the two have most of the probability, subtracting loses it digit by digit; there it is added
up: another answer leaves the two at some token, so it is a sum over tokens of the probability of
getting there times that of all tokens that neither answer continues with. For two answers of one
token this is the logsumexp of the other tokens. Knows nothing of models, prompts or coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.statistics.distributions import chosen_logprobs

Floats = NDArray[np.float64]

# A product of probabilities above this is close enough to 1 to need its complement exactly.
_LARGE = math.log(0.25)


@dataclass(frozen=True, eq=False)
class Forks:
    """Where each row of a batch leaves the other answer of its pair.

    column  (B,) long, the first column at which the two differ; T where they are not compared
    rival   (B,) long, the other answer's token there
    whole   (B,) bool, whether the row counts all answers that leave it, its fork included (one row
            of a pair does), or only those that leave it after the fork
    """

    column: Tensor
    rival: Tensor
    whole: Tensor

    def select(self, rows: Tensor | list[int], cut: int = 0) -> Forks:
        """Those of some rows, with `cut` columns taken off on the left."""
        return Forks(self.column[rows] - cut, self.rival[rows], self.whole[rows])


def score_rows(
    logits: Tensor, targets: Tensor, scored: Tensor, forks: tuple[Tensor, ...] | None = None
) -> Tensor:
    """(2, B) float64 in nats: log P of each row's answer, and log P of the answers that leave it.

    logits   (B, K, V), one column before each of the targets
    targets  (B, K)
    scored   (B, K) bool, which of them belong to the answer
    forks    column, rival and whole of `Forks`, columns counted as in `targets`; without, the
             second number is NaN
    """
    found = chosen_logprobs(logits, targets).double().masked_fill(~scored, 0)
    total = found.sum(dim=1)
    if forks is None:
        return torch.stack([total, torch.full_like(total, torch.nan)])
    columns = torch.arange(targets.shape[1], device=targets.device)
    column, rival, whole = forks
    fork = column[:, None]
    head, tail = scored & (columns < fork), scored & (columns > fork)
    at_fork = scored & (columns == fork) & whole[:, None]
    counted = (head & whole[:, None]) | at_fork | tail
    # log(1 - P) is exact enough but where a run of tokens is nearly sure.
    rest = torch.log1p(-found.exp().clamp_max(1))
    sure = at_fork.clone()
    for run in (head, tail):
        sure |= run & (found.masked_fill(~run, 0).sum(dim=1, keepdim=True) > _LARGE)
    sure &= counted
    if sure.any():
        rows, places = sure.nonzero(as_tuple=True)
        table = logits[rows, places].double()
        left = table.scatter(1, targets[rows, places, None], -torch.inf)
        forked = (places == column[rows]).nonzero()[:, 0]
        left[forked, rival[rows[forked]]] = -torch.inf
        rest[rows, places] = left.logsumexp(dim=1) - table.logsumexp(dim=1)
    before = found.cumsum(dim=1) - found
    return torch.stack([total, (before + rest).masked_fill(~counted, -torch.inf).logsumexp(dim=1)])


def preference(loss_positive: Floats, loss_negative: Floats) -> Floats:
    """L_n - L_p, in nats."""
    return loss_negative - loss_positive


def utility(
    loss_positive: Floats, loss_negative: Floats, leaving: tuple[Floats, Floats], forked: Floats
) -> Floats:
    """The utility log-odds, in nats; NaN where 1 - P_p - P_n is not positive.

    leaving  log P of the answers that leave the positive and the negative row, as `score_rows` says
    forked   bool; true where both add up to all other answers, false where each is that of its own
             row alone (one answer begins with the other, or their prompts differ)

    Arrays of one shape.
    """
    either = np.logaddexp(-loss_positive, -loss_negative)
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = np.log1p(-np.exp(either))
        added = np.logaddexp(*leaving)
        # Off the fork: what leaves the likelier answer, less the other one.
        larger = loss_positive < loss_negative
        left = np.where(larger, *leaving)
        smaller = -np.where(larger, loss_negative, loss_positive)
        taken = left + np.log1p(-np.exp(smaller - left))
        others = np.where(either < math.log(0.5), plain, np.where(forked, added, taken))
        return np.where(np.isfinite(others), either - others, np.nan)


def utility_of_means(loss_positive: Floats, loss_negative: Floats) -> Floats:
    """The same formula with losses that are means per token: no probabilities of texts, so that
    their sum may reach 1, where this is NaN."""
    either = np.logaddexp(-loss_positive, -loss_negative)
    with np.errstate(invalid="ignore", divide="ignore"):
        others = np.log1p(-np.exp(either))
    return np.where(np.isfinite(others), either - others, np.nan)
