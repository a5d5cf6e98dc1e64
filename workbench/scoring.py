"""What the unsteered model thinks of texts that a steered model wrote, in one forward pass.

    s_t = -log P(token t | before it)     surprisal
    H_t, V_t                              its mean and variance if the model chose token t itself

For a text that the unsteered model sampled, the s_t - H_t are martingale differences with variance
V_t: their mean over their root mean variance, the *surprise*, lies near 0 (a standard deviation of
1 / sqrt(tokens)). Greedy texts lie below 0, text that the model cannot make sense of far above,
whatever the model and its vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench import tracing
from workbench.reading import batches
from workbench.tokens import Batch
from workbench.tracing import Remote
from workbench.updates import Intervention

if TYPE_CHECKING:
    from workbench.models import LM

# Elements of the temporaries of one step over the logits: they stay in a processor's cache.
_BLOCK = 1 << 20
# A log-probability whose probability is 0 in every floating point format.
_IMPOSSIBLE = -1e4


@dataclass(frozen=True, eq=False)
class Scores:
    """Of every token of the completions (B, n), in nats, NaN after a text's end.

    logprobs   log P(token | the tokens before it)
    echoes     log P(next token = this token): the logits at a token scored against that same token
    entropy    H_t of the next-token distribution
    variance   V_t of the surprisal under that distribution
    kl         KL(steered || unsteered) of the next-token distributions, or None
    """

    logprobs: Tensor
    echoes: Tensor
    entropy: Tensor
    variance: Tensor
    kl: Tensor | None

    @property
    def surprise(self) -> Tensor:
        """(B,) mean of s_t - H_t over the root mean of V_t."""
        excess = (-self.logprobs - self.entropy).nanmean(dim=1)
        return excess / self.variance.nanmean(dim=1).sqrt().clamp_min(1e-6)


@torch.no_grad()
def score(
    lm: LM,
    written: Batch,
    *,
    steered_by: Sequence[Intervention] = (),
    kl: bool = False,
    remote: Remote = False,
) -> Scores:
    """Score completions under the unsteered model, by one forward.

    With `kl`, one more forward under `steered_by` gives the distributions that they came from.
    Raises ValueError when the batch has no completions.
    """
    made = written.width - int(written.starts.min())
    if made < 1:
        raise ValueError("the batch has no completions to score")
    targets = written.ids[:, -made:]
    reference = None
    if kl:
        reference = tracing.forward(
            lm, written, steered_by, _without_last, keep=made + 1, remote=remote
        )

    def finish(logits: Tensor) -> Tensor:
        return token_scores(logits, targets.to(logits.device), reference)

    found = tracing.forward(lm, written, (), finish, keep=made + 1, remote=remote).cpu()
    missing = ~written.completion[:, -made:]
    parts = [part.masked_fill(missing, torch.nan) for part in found]
    return Scores(parts[0], parts[1], parts[2], parts[3], parts[4] if kl else None)


def token_scores(logits: Tensor, targets: Tensor, steered: Tensor | None = None) -> Tensor:
    """logprobs, echoes, entropy, variance and, with `steered` logits (B, n, V), KL: (4 or 5, B, n).

    logits   (B, n + 1, V): one column before each of the n targets, and the last target's own
    targets  (B, n)
    """
    step = max(1, _BLOCK // (logits.shape[1] * logits.shape[2]))
    blocks = []
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        table = tracing.precise(logits[rows]).log_softmax(dim=-1)
        chosen = targets[rows, :, None]
        before = table[:, :-1]
        parts = [before.gather(-1, chosen)[..., 0], table[:, 1:].gather(-1, chosen)[..., 0]]
        # An impossible token must give 0 times a number, not 0 times infinity.
        before = before.clamp_min_(_IMPOSSIBLE)
        kl = None
        if steered is not None:
            own = tracing.precise(steered[rows]).log_softmax(dim=-1).clamp_min_(_IMPOSSIBLE)
            kl = torch.linalg.vecdot(own.exp(), own - before).clamp_min(0)
        weighted = before.exp().mul_(before)
        entropy = -weighted.sum(dim=-1)
        square = torch.linalg.vecdot(weighted, before)
        parts += [entropy, (square - entropy.square()).clamp_min(0)]
        if kl is not None:
            parts.append(kl)
        blocks.append(torch.stack(parts))
    return torch.cat(blocks, dim=1)


@torch.no_grad()
def prompt_echoes(
    lm: LM, prompts: Batch, *, memory: int = 1 << 30, remote: Remote = False
) -> Tensor:
    """Sum over each prompt's tokens of log P(next token = this token), unsteered: (B,) float64."""
    sums = torch.zeros(len(prompts), dtype=torch.float64)
    for batch, rows in batches(prompts, max(1, memory // (8 * lm.vocabulary))):
        found = tracing.forward(lm, batch, (), _echo(batch.ids), remote=remote)
        sums[rows] = found.cpu().double().masked_fill(~batch.attention, 0).sum(dim=1)
    return sums


def _echo(ids: Tensor) -> Callable[[Tensor], Tensor]:
    def finish(logits: Tensor) -> Tensor:
        return tracing.chosen_logprobs(logits, ids.to(logits.device))

    return finish


def _without_last(logits: Tensor) -> Tensor:
    return logits[:, :-1]
