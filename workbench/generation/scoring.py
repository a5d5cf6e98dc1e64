"""What the unsteered model thinks of texts that a steered model wrote, in one forward pass.

    s_t = -log P(token t | before it)     surprisal
    H_t                                   its mean if the model chose token t itself

For a text that the unsteered model sampled, the s_t - H_t are martingale differences: their mean,
the *excess* in nats per token, is 0 but for chance. Greedy texts lie below 0, text that the model
cannot make sense of far above, in whatever state of doubt the model is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Intervention
from workbench.statistics.distributions import chosen_logprobs, token_scores
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True, eq=False)
class Scores:
    """Of every token of the completions (B, n), in nats, NaN after a text's end.

    logprobs   log P(token | the tokens before it)
    echoes     log P(next token = this token): the logits at a token scored against that same token
    entropy    H_t of the next-token distribution
    kl         KL(steered || unsteered) of the next-token distributions, or None
    """

    logprobs: Tensor
    echoes: Tensor
    entropy: Tensor
    kl: Tensor | None

    @property
    def steps(self) -> Tensor:
        """(B, n) s_t - H_t of every token, in nats."""
        return -self.logprobs - self.entropy

    @property
    def excess(self) -> Tensor:
        """(B,) mean of s_t - H_t, in nats per token."""
        return self.steps.double().nanmean(dim=1)


@torch.no_grad()
def score(
    lm: LM,
    written: Batch,
    *,
    steered_by: Sequence[Intervention] | None = None,
    remote: Remote = False,
) -> Scores:
    """Score completions under the unsteered model, by one forward.

    With `steered_by`, one more forward under these interventions finds the divergence: both read
    the text at once, so that it is exactly 0 where nothing is steered.
    Raises ValueError when the batch has no completions.
    """
    made = written.width - int(written.starts.min())
    if made < 1:
        raise ValueError("the batch has no completions to score")
    steered = None
    if steered_by is not None:
        steered = tracing.forward(
            lm, written, steered_by, _without_last, keep=made + 1, remote=remote, scoring=True
        )

    def read(part: Batch) -> Tensor:
        targets = part.ids[:, -made:]

        def finish(logits: Tensor) -> Tensor:
            return token_scores(logits, targets.to(logits.device), steered)

        return tracing.forward(lm, part, (), finish, keep=made + 1, remote=remote).cpu()

    # Both of a divergence read the same batch: then it is exactly 0 where nothing is steered.
    if steered is None:
        different, which = _different(written)
        parts = [read(part) for part in tracing.pieces(lm, different, remote)]
        table = torch.cat(parts, dim=1)[:, which]
    else:
        table = read(written)
    missing = ~written.completion[:, -made:]
    found = [values.masked_fill(missing, torch.nan) for values in table]
    return Scores(found[0], found[1], found[2], None if steered is None else found[3])


@torch.no_grad()
def prompt_echoes(
    lm: LM, prompts: Batch, *, memory: float = 1 << 30, remote: Remote = False
) -> Tensor:
    """Sum over each prompt's tokens of log P(next token = this token), unsteered: (B,) float64."""
    sums = torch.zeros(len(prompts), dtype=torch.float64)
    for batch, rows in batches(prompts, max(1, int(memory / (8 * lm.vocabulary)))):
        found = tracing.forward(lm, batch, (), _echo(batch.ids), remote=remote)
        sums[rows] = found.cpu().double().masked_fill(~batch.attention, 0).sum(dim=1)
    return sums


def _different(batch: Batch) -> tuple[Batch, Tensor]:
    """The rows that differ, in their order, and which of them each row is, (B,). Coefficients that
    lie close together often write the same."""
    seen = torch.cat([batch.ids, batch.attention.long()], dim=1).numpy()
    first: dict[bytes, int] = {}
    same = [first.setdefault(row.tobytes(), index) for index, row in enumerate(seen)]
    rows = torch.tensor(list(first.values()))
    return batch.select(rows), torch.searchsorted(rows, torch.tensor(same))


def _echo(ids: Tensor) -> Callable[[Tensor], Tensor]:
    def finish(logits: Tensor) -> Tensor:
        return chosen_logprobs(logits, ids.to(logits.device))

    return finish


def _without_last(logits: Tensor) -> Tensor:
    return logits[:, :-1]
