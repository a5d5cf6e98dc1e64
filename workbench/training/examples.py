"""Contrast pairs as examples of training: who wins, who loses, and in which direction.

An "add" example wants the positive completion at +m; a "sub" example wants the negative one at -m.
Both sides of an example lie in one batch. Knows nothing of forms or objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.contrast.pairs import Pairs
from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.steering import place
from workbench.forward.tracing import TOKENS
from workbench.interventions.updates import Intervention
from workbench.statistics.distributions import chosen_logprobs
from workbench.text.splits import as_text
from workbench.text.tokens import Batch, encode
from workbench.training.objectives import Side

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True, eq=False)
class Examples:
    """e examples of n pairs.

    sides      2 n rows: the positive and the negative side of pair 0, of pair 1, …
    winning    (e,) long, the row of `sides` that each example wants
    losing     (e,) long, the row of the other side
    sign       (e,) +1 for "add", -1 for "sub"
    tokens     (2 n,) how many tokens each side's completion has
    reference  (2 n,) log-probability of each completion, unsteered; None if nobody asks for it
    """

    sides: Batch
    winning: Tensor
    losing: Tensor
    sign: Tensor
    tokens: Tensor
    reference: Tensor | None = None

    def __len__(self) -> int:
        return len(self.winning)

    def pair(self, example: int) -> int:
        """The number of the pair that an example is made of."""
        return int(self.winning[example]) // 2

    def batch(self, chosen: Sequence[int], losing: bool) -> tuple[Batch, Tensor]:
        """The sides of the chosen examples in one batch, the winning ones first, then, if asked
        for, the losing ones; and their rows in `sides`."""
        index = torch.as_tensor(list(chosen), dtype=torch.long)
        rows = self.winning[index]
        if losing:
            rows = torch.cat([rows, self.losing[index]])
        return self.sides.select(rows).trimmed(), rows

    def side(self, logprobs: Tensor, rows: Tensor) -> Side:
        """What an objective sees of rows of `sides` with these log-probabilities."""
        device = logprobs.device
        lengths = self.sides.attention[rows].sum(dim=1)
        reference = None if self.reference is None else self.reference[rows].to(device)
        return Side(logprobs, self.tokens[rows].to(device), lengths.to(device), reference)


def make_examples(lm: LM, pairs: Pairs, *, sub: bool, reference: bool) -> Examples:
    """The examples of pairs: an "add" for each and, if `sub`, a "sub" for each behind them.

    With `reference` each side is read once by the unsteered model.
    Raises ValueError for a pair without a prompt, a completion without tokens, and a side that is
    longer than the model's context.
    """
    for index, pair in enumerate(pairs):
        if not all(pair.prompts):
            raise ValueError(
                f"pair {index} of {pairs.name!r} has no prompt, so nothing says where its "
                f"completion begins: {pair.positive[:60]!r}; give Pair(positive, negative, prompt)"
            )
    prompts = [prompt for pair in pairs for prompt in pair.prompts]
    sides = encode(lm, prompts, [text for pair in pairs for text in (pair.positive, pair.negative)])
    tokens = sides.completion.sum(dim=1)
    if not tokens.all():
        row = int((tokens == 0).nonzero()[0])
        raise ValueError(
            f"pair {row // 2} of {pairs.name!r} has an empty completion: the tokenizer of "
            f"{lm.name!r} makes no token of it after {as_text(prompts[row])[-60:]!r}; give it text "
            "or leave the pair out"
        )
    positive = torch.arange(0, len(prompts), 2)
    ones = torch.ones(len(positive))
    return Examples(
        sides,
        winning=torch.cat([positive, positive + 1]) if sub else positive,
        losing=torch.cat([positive + 1, positive]) if sub else positive + 1,
        sign=torch.cat([ones, -ones]) if sub else ones,
        tokens=tokens,
        reference=_reference(lm, sides) if reference else None,
    )


def completion_logprobs(lm: LM, batch: Batch, interventions: Sequence[Intervention] = ()) -> Tensor:
    """log P(completion | prompt) of every row, summed over its tokens: (B,), where the model is.

    Gradients flow to the updates where they are enabled. Logits are only made where a completion
    is.
    """
    first = int(batch.starts.min())
    targets = place(lm, batch.ids[:, first:])
    scored = batch.completion[:, first:]

    def of_targets(logits: Tensor) -> Tensor:
        found = chosen_logprobs(logits[:, :-1], targets.to(logits.device))
        return found.masked_fill(~scored.to(found.device), 0.0).sum(dim=1)

    keep = batch.width - first + 1
    return tracing.forward(lm, batch, interventions, of_targets, keep=keep, scoring=True)


@torch.no_grad()
def _reference(lm: LM, sides: Batch) -> Tensor:
    found = torch.empty(len(sides), dtype=torch.float64)
    for batch, rows in batches(sides, TOKENS):
        found[rows] = completion_logprobs(lm, batch).double().cpu()
    return found.float()
