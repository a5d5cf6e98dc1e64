"""What a vector does under several layer profiles, each a strength for every layer, in one batch.

    preference   log P(positive) - log P(negative) of each pair, nats (arXiv 2602.02343)
    divergence   KL(unsteered || steered) of the next token over texts, nats per token
    fisher       the second derivative of the divergence at no steering:
                 F_ij = mean over tokens of Cov_p(d log p / d a_i, d log p / d a_j)

so that the divergence of a small profile a is a' F a / 2 (Amari 1998, "Natural gradient works
efficiently in learning"). Profiles lie along the batch axis, beside the texts. Knows nothing of how
a profile is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.contrast.pairs import Pairs
from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.steering import place
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Intervention
from workbench.preference.odds import both_sides
from workbench.statistics.distributions import chosen_logprobs, divergence, precise
from workbench.support.checks import check_positive
from workbench.text.positions import Positions, everything
from workbench.text.tokens import Batch, Prompt, to_batch
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Residual norms: far from rounding, near enough for a derivative.
STEP = 0.02

# Of logits (B, K, V): what is noted of them, a number for each row (B,) for the most part.
Finish = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Strengths:
    """A vector at some of its layers, whose strengths (P, L), residual norms, are a batch.

    memory  bytes that the logits of one forward may take, and what is kept of several of them; one
            row always goes through

    Raises ValueError as `SteeringVector.at` and `check`, for memory that is no positive number, and
    of all that takes strengths for a table of another shape or one that is not finite.
    """

    lm: LM
    vector: SteeringVector
    layers: tuple[int, ...]
    positions: Positions = everything
    memory: float = 1 << 28
    remote: Remote = False

    def __post_init__(self) -> None:
        check_positive("memory", self.memory)
        self.vector.check(self.lm)
        self.vector.at(1.0, layers=self.layers, positions=self.positions)

    def preferences(self, pairs: Pairs, strengths: Tensor) -> Tensor:
        """(P, n) float64. Raises ValueError as `odds.both_sides`."""
        self._check(strengths)
        batch = both_sides(self.lm, pairs)
        keep = int(batch.completion.sum(dim=1).max()) + 1

        def noted(part: Batch) -> Callable[[Tensor], Finish]:
            columns = slice(1 - min(keep, part.width), None)

            def of(rows: Tensor) -> Finish:
                targets = place(self.lm, part.ids[rows, columns])
                own = place(self.lm, part.completion[rows, columns])

                def finish(logits: Tensor) -> Tensor:
                    where = logits.device
                    found = chosen_logprobs(logits[:, :-1], targets.to(where)).double()
                    return found.masked_fill(~own.to(where), 0).sum(dim=1)

                return finish

            return of

        found = self._measured(batch, strengths, keep, noted)
        return found[:, ::2] - found[:, 1::2]

    def divergences(self, texts: Sequence[Prompt] | Batch, strengths: Tensor) -> Tensor:
        """(P,) float64, the mean over all tokens of the texts."""
        self._check(strengths)
        batch = to_batch(self.lm, texts)

        def noted(part: Batch) -> Callable[[Tensor], Finish]:
            whole = tracing.forward(self.lm, part, (), _logs, remote=self.remote)

            def of(rows: Tensor) -> Finish:
                before = whole[rows.to(whole.device)]
                own = place(self.lm, part.attention[rows])

                def finish(logits: Tensor) -> Tensor:
                    where = logits.device
                    log = before.to(where)
                    kl = divergence(log, _logs(logits)).double()
                    return kl.masked_fill(~own.to(where), 0).sum(dim=1)

                return finish

            return of

        found = self._measured(batch, strengths, batch.width, noted)
        return found.sum(dim=1).clamp_min(0) / int(batch.attention.sum())

    @torch.no_grad()
    def fisher(self, texts: Sequence[Prompt] | Batch) -> Tensor:
        """(L, L) float64, by central differences: the 2 L + 1 rows of a text at once; where their
        logits would take more than the memory, a few of them for a few of its tokens."""
        batch = to_batch(self.lm, texts)
        alone = (batch.select([row]).trimmed() for row in range(len(batch)))
        return torch.stack([self._fisher_of(text) for text in alone]).sum(dim=0) / int(
            batch.attention.sum()
        )

    def _fisher_of(self, text: Batch) -> Tensor:
        """(L, L), the sum over the tokens of one text."""
        count, width, vocabulary = len(self.layers), text.width, self.lm.vocabulary
        step = torch.eye(count) * STEP
        # Of each layer the strengths on both sides of none, and none.
        profiles = torch.cat([torch.stack([step, -step], dim=1).flatten(0, 1), step[:1] * 0])
        most = max(1, int(self.memory / (12 * vocabulary * width)))

        def logs(some: Tensor, finish: Finish, keep: int) -> Tensor:
            rows, edits = text.select([0] * len(some)), self.steered(some)
            return tracing.forward(self.lm, rows, edits, finish, keep=keep, remote=self.remote)

        if most >= len(profiles):
            return logs(profiles, lambda logits: _products(_finite_logs(logits)), width).cpu()
        total = torch.zeros(count, count, dtype=torch.float64)
        columns = max(1, int(self.memory / (8 * vocabulary * len(profiles))))
        for start in range(0, width, columns):
            parts = [
                logs(some, lambda logits: _finite_logs(logits[:, :columns]), width - start)
                for some in profiles.split(most)
            ]
            total += _products(torch.cat(parts)).cpu()
        return total

    def steered(self, strengths: Tensor) -> tuple[Intervention, ...]:
        """The interventions of strengths (B, L), one profile for each row."""
        self._check(strengths)
        own = {layer: strengths[:, i].float() for i, layer in enumerate(self.layers)}
        return self.vector.at(own, positions=self.positions)

    def _check(self, strengths: Tensor) -> None:
        shape = tuple(strengths.shape)
        if len(shape) != 2 or 0 in shape or shape[1] != len(self.layers):
            raise ValueError(
                f"strengths of shape {shape}: give one row for each profile, one column for each "
                f"of the layers {list(self.layers)}"
            )
        if not bool(strengths.isfinite().all()):
            raise ValueError(f"strengths {strengths.tolist()}: give finite numbers")

    @torch.no_grad()
    def _measured(
        self,
        batch: Batch,
        strengths: Tensor,
        keep: int,
        noted: Callable[[Batch], Callable[[Tensor], Finish]],
    ) -> Tensor:
        """(P, B) float64: what is noted of every row under every profile.

        noted  rows of the batch -> some of these rows, by number -> what is noted of their logits
        """
        count, each = len(strengths), 12 * self.lm.vocabulary
        found = torch.empty(count, len(batch), dtype=torch.float64)
        budget = max(1, min(tracing.TOKENS, int(self.memory / each)))
        for part, rows in batches(batch, budget):
            note, kept = noted(part), min(keep, part.width)
            most = max(1, min(tracing.TOKENS // part.width, int(self.memory / (each * kept))))
            for cells in torch.arange(len(part) * count).split(most):
                own, which = cells // count, cells % count
                found[which, torch.tensor(rows)[own]] = tracing.forward(
                    self.lm,
                    part.select(own),
                    self.steered(strengths[which]),
                    note(own),
                    keep=kept,
                    remote=self.remote,
                ).cpu()
        return found


def _logs(logits: Tensor) -> Tensor:
    return precise(logits).log_softmax(dim=-1)


def _finite_logs(logits: Tensor) -> Tensor:
    return _logs(logits).clamp_min(-1e4)  # impossible tokens have no slope


def _products(logs: Tensor) -> Tensor:
    """(L, L) float64, the sum over tokens of Cov_p of the slopes, of log-probabilities
    (2 L + 1, T, V): of each layer on both sides of none, and of none."""
    count = len(logs) // 2
    total = torch.zeros(count, count, dtype=torch.float64, device=logs.device)
    for token in logs.unbind(dim=1):  # each by itself: in float64 all of them would be large
        up, down, plain = token[:-1:2].double(), token[1::2].double(), token[-1].double()
        p, slope = plain.exp(), (up - down) / (2 * STEP)
        flat = (slope - (slope @ p)[:, None]) * p.sqrt()
        total += flat @ flat.T
    return total
