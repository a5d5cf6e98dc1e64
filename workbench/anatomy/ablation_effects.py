"""What ablating each part of a model does: to the next token, to log-odds, to texts.

Every table names the parts by `component`, the part's number in the list that was given, `layer`,
`kind`, `head` (-1 where there is none) and `name` (the kind, where the part has none), and says in
`attrs` how it came about: `model`, `weights` (the fingerprint), what stood in (`filling`: of means
how many texts, of samples the seed), `positions`, a hash of what was read, `versions`.

How parts are ablated is said alike everywhere, by `ablation_tables.Ablating`. Knows nothing of what
stands in for a part, nor of how many forwards it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.anatomy.ablation import Component, by_row
from workbench.anatomy.ablation_sweep import Finish, check_sweep
from workbench.anatomy.ablation_tables import PARTS, Ablating, Reading, about, named, table
from workbench.anatomy.fillings import Filling, zero
from workbench.contrast.pairs import Pairs
from workbench.forward import tracing
from workbench.forward.steering import place
from workbench.forward.tracing import Remote
from workbench.generation.generate import end_ids, generate
from workbench.generation.sampling import check_sampling
from workbench.preference.odds import both_sides
from workbench.statistics.distributions import chosen_logprobs, divergence, precise
from workbench.statistics.intervals import student
from workbench.text.positions import Positions, everything
from workbench.text.token_texts import token_texts
from workbench.text.tokens import Batch, Prompt, check_ended, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


def next_token_effects(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    components: Sequence[Component],
    **how: Unpack[Ablating],
) -> pd.DataFrame:
    """What ablating each component does to the next token after each prompt.

    One row per (draw, component, prompt): what names the component, `draw`, `prompt_index`, and

        kl       KL(whole || ablated) of the next token, nats
        token    the token that the whole model likes best (`token_texts`)
        logit    change of its logit, less the mean change over the vocabulary: a shift of all
                 logits alike is no effect
        logprob  change of its log-probability, nats

    Raises ValueError as `Component.check`, `tokens.encode` and the filling, for positions given as
    a mask, and for a batch of which a row ends in padding.
    """
    batch = to_batch(lm, prompts)
    check_ended(batch)

    def logprobs(part: Batch, rows: Tensor) -> Finish:
        return lambda logits: precise(logits[:, -1]).log_softmax(dim=-1)

    def compared(part: Batch, rows: Tensor, whole: Tensor) -> Finish:
        token = whole.argmax(dim=-1, keepdim=True)

        def finish(logits: Tensor) -> Tensor:
            before = whole.to(logits.device)
            log = precise(logits[:, -1]).log_softmax(dim=-1)
            kl = divergence(before, log)[:, None]
            index = token.to(logits.device)
            likely = log.gather(-1, index) - before.gather(-1, index)
            shift = log.mean(dim=-1, keepdim=True) - before.mean(dim=-1, keepdim=True)
            if shift.isnan().any():  # tokens that are impossible whatever is ablated
                shift = (log - before).nanmean(dim=-1, keepdim=True)
            return torch.cat([kl, likely - shift, likely], dim=-1)

        return finish

    def columns(likeliest: Tensor, found: Tensor) -> dict[str, np.ndarray]:
        words = np.array(token_texts(lm.tokenizer, likeliest.tolist()), dtype=object)
        numbers = zip(("kl", "logit", "logprob"), found.unbind(dim=-1), strict=True)
        said = {"token": np.tile(words, len(components))}
        return said | {name: each.float().reshape(-1).numpy() for name, each in numbers}

    reading = Reading(1, logprobs, compared, lambda whole: whole.argmax(dim=-1), columns)
    return table(lm, batch, components, reading, "prompt_index", **how)


def preference_effects(
    lm: LM,
    pairs: Pairs,
    components: Sequence[Component],
    **how: Unpack[Ablating],
) -> pd.DataFrame:
    """What ablating each component does to the preference of a pair's positive answer.

    One row per (draw, component, pair): what names the component, `draw`, `pair`, and

        preference  log P(positive) - log P(negative) with the component ablated, nats, each the sum
                    over the tokens of an answer, teacher-forced
        whole       the same without
        change      the former less the latter
        loss        change of the mean loss of both answers, nats per token

    Raises ValueError as `next_token_effects` and `odds.odds`.
    """
    batch = both_sides(lm, pairs)
    tokens = batch.completion.sum(dim=1)
    keep = int(tokens.max()) + 1

    def scored(part: Batch, rows: Tensor, whole: Tensor | None = None) -> Finish:
        columns = slice(1 - min(keep, part.width), None)
        targets, own = (place(lm, each[:, columns]) for each in (part.ids, part.completion))

        def finish(logits: Tensor) -> Tensor:
            where = logits.device
            found = chosen_logprobs(logits[:, :-1], targets.to(where))
            return found.masked_fill(~own.to(where), 0).sum(dim=1, keepdim=True)

        return finish

    def columns(whole: Tensor, ablated: Tensor) -> dict[str, np.ndarray]:
        before, found = whole.double(), ablated[..., 0].double()  # (2 n,), (C, 2 n)
        per_token = (before - found) / tokens
        preference = found[:, ::2] - found[:, 1::2]
        unablated = (before[::2] - before[1::2]).expand_as(preference)
        each = {
            "preference": preference,
            "whole": unablated,
            "change": preference - unablated,
            "loss": (per_token[:, ::2] + per_token[:, 1::2]) / 2,
        }
        return {name: values.reshape(-1).numpy() for name, values in each.items()}

    reading = Reading(keep, scored, scored, lambda whole: whole[:, 0], columns)
    frame = table(lm, batch, components, reading, "pair", **how)
    frame.attrs |= {"pairs": pairs.name, "pairs_sha256": pairs.fingerprint}
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

    One row per (component, prompt): what names the component, `prompt_index`, `prompt`, `text`,
    `finish` ("end" or "length"). Rows of the whole model come first, of the kind "whole", with
    component and layer -1. All texts of a prompt share their sampling noise.
    `judges.judge(frame, [judges.exact], trait)` adds the exact coherence of each.

    Raises ValueError as `generate` and `next_token_effects`, and for a filling that belongs to
    texts that stand.
    """
    check_sampling(new_tokens, temperature, 1.0, 1.0, 0, seed)
    batch = to_batch(lm, prompts, new_tokens=new_tokens)
    check_sweep(lm, components, by, positions)
    chosen = [(-1, None), *enumerate(components)]
    cells = [(number, each, row) for number, each in chosen for row in range(len(batch))]
    most = max(1, tracing.TOKENS // (batch.width + new_tokens))
    ends = end_ids(lm)
    found = []
    for start in range(0, len(cells), most):
        some = cells[start : start + most]
        rows = [row for *_, row in some]
        part = batch.select(rows)
        ablated = [each for _, each, _ in some]
        edits = by_row(lm, part, ablated, by=by, positions=positions, written=True)
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
        for (number, component, row), text, token in zip(some, made.texts, final, strict=True):
            found.append(
                {
                    **named(number, component),
                    "prompt_index": row,
                    "prompt": batch.texts[row],
                    "text": text,
                    "finish": "end" if token in ends else "length",
                }
            )
    frame = pd.DataFrame(found)
    how = {"new_tokens": int(new_tokens), "temperature": float(temperature), "seed": int(seed)}
    frame.attrs = {**about(lm, batch, [by], positions), **how}
    return frame


def over_draws(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """The mean of a column over the draws, with Student's 95 % interval: how far an effect is that
    of the part, and how far that of the texts that stood in.

    One row per (component, prompt or pair): what names them, `draws`, and `mean`, `low`, `high` in
    the column's unit; the ends are NaN of a single draw. Raises ValueError for another column.
    """
    if column not in frame:
        raise ValueError(f"there is no column {column!r}; the table has {list(frame.columns)}")
    unit = "pair" if "pair" in frame else "prompt_index"
    values = frame.groupby([*PARTS, unit], sort=False)[column]
    found = values.agg(["mean", "std", "count"]).reset_index()
    low, high = student(found["mean"], found["std"], found["count"])
    found = found.rename(columns={"count": "draws"})
    return found[[*PARTS, unit, "draws", "mean"]].assign(low=low, high=high)
