"""What ablating each part of a model does: to the next token, to log-odds, to texts.

Knows nothing of what stands in for a part, nor of how many forwards it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench import tracing
from workbench.ablation import Component, by_row
from workbench.ablation_sweep import Finish, Sweep
from workbench.distributions import chosen_logprobs, divergence, precise
from workbench.fillings import Filling, zero
from workbench.generate import end_ids, generate
from workbench.odds import both_sides
from workbench.pairs import Pairs
from workbench.positions import Positions, everything
from workbench.steering import place
from workbench.tokens import Batch, Prompt, to_batch
from workbench.tracing import Remote

if TYPE_CHECKING:
    from workbench.models import LM


def next_token_effects(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    components: Sequence[Component],
    *,
    by: Filling = zero,
    positions: Positions = everything,
    memory: float = 1 << 28,
    remote: Remote = False,
) -> pd.DataFrame:
    """What ablating each component does to the next token after each prompt.

    One row per (component, prompt): `layer`, `kind`, `head` (-1 where there is none),
    `prompt_index`, and

        kl       KL(whole || ablated) of the next token, nats
        token    the token that the whole model likes best, as text
        logit    change of its logit
        logprob  change of its log-probability, nats

    memory  bytes that logits and streams of one forward may take

    Raises ValueError as `Component.check`, `tokens.encode` and the filling, and for positions given
    as a mask.
    """
    batch = to_batch(lm, prompts)
    sweep = Sweep(lm, batch, components, by, positions, memory, remote)

    def compared(part: Batch, rows: Tensor, whole: Tensor) -> Finish:
        token = whole.argmax(dim=-1, keepdim=True)

        def finish(logits: Tensor) -> Tensor:
            where, last = logits.device, precise(logits[:, -1])
            log = last.log_softmax(dim=-1)
            before, index = precise(whole.to(where)), token.to(where)
            change = last.gather(-1, index) - before.gather(-1, index)
            before = before.log_softmax(dim=-1)
            kl = divergence(before, log)[:, None]
            likely = (log - before).gather(-1, index)
            return torch.cat([kl, change, likely], dim=-1)

        return finish

    found = torch.empty(len(components), len(batch), 3)
    token = torch.empty(len(batch), dtype=torch.long)
    for rows, whole, values in sweep.run(1, _last, compared):
        found[:, rows] = values
        token[rows] = whole.argmax(dim=-1)
    frame = _frame(components, len(batch), "prompt_index")
    words = [lm.tokenizer.decode([index]) for index in token.tolist()]
    frame["token"] = np.tile(np.array(words, dtype=object), len(components))
    for index, name in enumerate(("kl", "logit", "logprob")):
        frame[name] = found[..., index].reshape(-1).numpy()
    return frame


def preference_effects(
    lm: LM,
    pairs: Pairs,
    components: Sequence[Component],
    *,
    by: Filling = zero,
    positions: Positions = everything,
    memory: float = 1 << 28,
    remote: Remote = False,
) -> pd.DataFrame:
    """What ablating each component does to the preference of a pair's positive answer.

    One row per (component, pair): `layer`, `kind`, `head` (-1 where there is none), `pair`, and

        preference  log P(positive) - log P(negative) with the component ablated, nats, each the sum
                    over the tokens of an answer, teacher-forced
        whole       the same without
        change      the former less the latter
        loss        change of the mean loss of both answers, nats per token

    Raises ValueError as `next_token_effects` and `odds.odds`.
    """
    batch = both_sides(lm, pairs)
    sweep = Sweep(lm, batch, components, by, positions, memory, remote)
    keep = int(batch.completion.sum(dim=1).max()) + 1

    def scored(part: Batch, rows: Tensor, whole: Tensor | None = None) -> Finish:
        columns = slice(1 - min(keep, part.width), None)
        targets, own = (place(lm, each[:, columns]) for each in (part.ids, part.completion))

        def finish(logits: Tensor) -> Tensor:
            where = logits.device
            found = chosen_logprobs(logits[:, :-1], targets.to(where))
            return found.masked_fill(~own.to(where), 0).sum(dim=1, keepdim=True)

        return finish

    found = torch.empty(len(components), len(batch), dtype=torch.float64)
    whole = torch.empty(len(batch), dtype=torch.float64)
    for rows, before, values in sweep.run(keep, scored, scored):
        whole[rows], found[:, rows] = before[:, 0].double(), values[..., 0].double()
    tokens = batch.completion.sum(dim=1)
    frame = _frame(components, len(pairs), "pair")
    frame["preference"] = (found[:, ::2] - found[:, 1::2]).reshape(-1).numpy()
    frame["whole"] = (whole[::2] - whole[1::2]).repeat(len(components)).numpy()
    frame["change"] = frame["preference"] - frame["whole"]
    per_token = (whole - found) / tokens
    frame["loss"] = ((per_token[:, ::2] + per_token[:, 1::2]) / 2).reshape(-1).numpy()
    return frame


def write_ablated(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    components: Sequence[Component],
    *,
    by: Filling = zero,
    positions: Positions = everything,
    new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
    remote: Remote = False,
) -> pd.DataFrame:
    """Texts that are written with each component ablated, and with none: for a judge.

    One row per (component, prompt): `layer`, `kind`, `head` (-1 where there is none),
    `prompt_index`, `prompt`, `text`, `finish` ("end" or "length"). Rows of the whole model come
    first, of the kind "whole", with layer -1. All texts of a prompt share their sampling noise.
    `judges.judge(frame, [judges.exact], trait)` adds the exact coherence of each.

    Raises ValueError as `generate` and `next_token_effects`, and for a filling that belongs to
    texts that stand.
    """
    batch = to_batch(lm, prompts, new_tokens=new_tokens)
    for component in components:
        component.check(lm)
        for at in component.places:
            by.anywhere(lm, at)
    cells = [(component, row) for component in (None, *components) for row in range(len(batch))]
    most = max(1, tracing.TOKENS // (batch.width + new_tokens))
    ends = end_ids(lm)
    found = []
    for start in range(0, len(cells), most):
        some = cells[start : start + most]
        rows = [row for _, row in some]
        part = batch.select(rows)
        edits = by_row(lm, part, [each for each, _ in some], by=_Anywhere(by), positions=positions)
        made = generate(
            lm,
            part,
            edits,
            new_tokens=new_tokens,
            temperature=temperature,
            seed=seed,
            streams=rows,
            score=False,
            remote=remote,
        )
        final = made.ids.gather(1, (made.lengths[:, None] - 1).clamp_min(0))[:, 0].tolist()
        for (component, row), text, token in zip(some, made.texts, final, strict=True):
            found.append(
                {
                    **_named(component),
                    "prompt_index": row,
                    "prompt": batch.texts[row],
                    "text": text,
                    "finish": "end" if token in ends else "length",
                }
            )
    return pd.DataFrame(found)


@dataclass(frozen=True)
class _Anywhere:
    """A filling where the text is still to come."""

    filling: Filling

    def anywhere(self, lm: LM, at: Any) -> Tensor:
        return self.filling.anywhere(lm, at)

    def on(self, lm: LM, at: Any, batch: Batch, rows: Tensor) -> Tensor:
        return self.filling.anywhere(lm, at)


def _last(part: Batch, rows: Tensor) -> Finish:
    return lambda logits: logits[:, -1]


def _named(component: Component | None) -> dict[str, Any]:
    if component is None:
        return {"layer": -1, "kind": "whole", "head": -1}
    head = -1 if component.head is None else component.head
    return {"layer": component.layer, "kind": component.kind, "head": head}


def _frame(components: Sequence[Component], rows: int, index: str) -> pd.DataFrame:
    return pd.DataFrame(
        [{**_named(each), index: row} for each in components for row in range(rows)]
    )
