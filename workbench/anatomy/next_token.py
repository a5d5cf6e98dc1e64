"""What steering does to the next token: its distribution after a prompt, before and after.

P is the distribution of the unsteered model, S that of the steered one; both are of the model's own
logits, with every scale and cap that it has. KL is in nats over the whole vocabulary. KL(S || P) is
the one that is shown, as in a sweep: what the steered model says, in the eyes of the unsteered one;
it is large where steering makes likely what was not. KL(P || S) is large where steering takes away
what was likely. Knows nothing of how an intervention was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from workbench.forward import tracing
from workbench.forward.rows import on_rows
from workbench.forward.steering import check_interventions, plan
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Intervention
from workbench.statistics.distributions import divergence, precise, total_variation
from workbench.support.checks import check_positive, check_whole, number
from workbench.text.token_texts import token_texts
from workbench.text.tokens import Batch, Prompt, to_batch

if TYPE_CHECKING:
    from workbench.geometry.displacement import Steers
    from workbench.loading.models import LM

Ranking: TypeAlias = Literal["change", "probability"]

# Numbers of a prompt and a coefficient, beside the tokens'.
_MEASURES = ("kl", "kl_reverse", "total_variation")


@torch.no_grad()
def next_tokens(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    steered: Steers | Sequence[Intervention],
    coefficients: ArrayLike | None = None,
    *,
    count: int = 10,
    by: Ranking = "change",
    pool: Literal["mean"] | None = None,
    memory: float = 1 << 28,
    remote: Remote = False,
) -> pd.DataFrame:
    """The tokens whose probability steering changes most, after each prompt and coefficient.

    steered       a vector, a LoRA or a local weight; or interventions, with their own coefficients
    coefficients  what `steered.at` is given (default: 1), one or several; none for interventions
    count         tokens of each prompt and coefficient, at most
    by            "change": the largest |S - P| first; "probability": the largest of P and S first
    pool          None: every prompt by itself; "mean": one table for all, of the mean probability
                  of each token over prompts, beside the means of what is measured of each prompt
    memory        bytes that logits of one forward may take, steered or not; one row always goes
                  through. An update of your own may see some of the prompts at a time

    One row per prompt, coefficient and token, ranked: `prompt_index`, `prompt` (-1 and "" where
    pooled), `prompts` (how many), `coefficient` (NaN for interventions), `token_id`, `token` (its
    text), `logprob_before` and `logprob_after` (nats), `before` and `after` (probabilities), and
    of the whole distribution `kl`, KL(S || P), `kl_reverse`, KL(P || S), both in nats, and
    `total_variation`. Interventions on generated tokens alone change nothing: no token is one yet.

    Raises ValueError for coefficients that are none, not finite or given to interventions, a count
    below 1, an unknown ranking or pool, memory that is no positive number, prompts that end in
    padding, and as `tokens.encode` and `steering.plan`.
    """
    if by not in get_args(Ranking):
        raise ValueError(f"by {by!r} is unknown; use 'change' or 'probability'")
    if pool not in ("mean", None):
        raise ValueError(f"pool {pool!r} is unknown; use 'mean' or None")
    check_whole("count", count, 1)
    memory = check_positive("memory", memory)
    grid, maker = _maker(steered, coefficients)
    batch = to_batch(lm, prompts, new_tokens=1)  # whose rows end in their last tokens
    # What does not fit is refused before the unsteered model runs.
    plan(lm, batch, steered if maker is None else maker(torch.full((len(batch),), grid[0])))  # type: ignore[arg-type]
    most = max(1, min(tracing.TOKENS // batch.width, int(memory / (8 * lm.vocabulary))))
    found: list[tuple[int, int, Tensor, Tensor, Tensor]] = []
    p_mean = torch.zeros(lm.vocabulary, dtype=torch.float64)
    s_mean = torch.zeros(len(grid), lm.vocabulary, dtype=torch.float64)
    measured = torch.zeros(len(grid), len(_MEASURES), dtype=torch.float64)
    for some in torch.arange(len(batch)).split(most):
        before = _logprobs(lm, batch.select(some), (), remote)  # (b, V)
        if pool == "mean":
            p_mean += before.double().exp().sum(dim=0)
        # Every prompt with every coefficient, a row each.
        for cells in torch.arange(len(some) * len(grid)).split(most):
            own, cell = some[cells // len(grid)], cells % len(grid)
            edits: Any = (
                on_rows(lm, batch, steered, own)  # type: ignore[arg-type]
                if maker is None
                else maker(torch.from_numpy(grid)[cell].float())
            )
            plain = before[cells // len(grid)]
            after = _logprobs(lm, batch.select(own), edits, remote)
            numbers = torch.stack(
                [
                    divergence(after, plain),
                    divergence(plain, after),
                    total_variation(after, plain),
                ],
                dim=-1,
            )
            if pool == "mean":
                s_mean.index_add_(0, cell, after.double().exp())
                measured.index_add_(0, cell, numbers.double())
                continue
            for row, index, p, s, values in zip(
                own.tolist(), cell.tolist(), plain, after, numbers, strict=True
            ):
                ids = _ranked(p.exp(), s.exp(), count, by)
                found.append((row, index, ids, torch.stack([p[ids], s[ids]]), values))
    if pool == "mean":
        p = p_mean / len(batch)
        for index, (total, values) in enumerate(zip(s_mean, measured, strict=True)):
            s = total / len(batch)
            ids = _ranked(p, s, count, by)
            found.append((-1, index, ids, torch.stack([p[ids], s[ids]]).log(), values / len(batch)))
    prompts_of = 1 if pool is None else len(batch)
    return pd.concat(
        [
            _frame(lm, batch, row, prompts_of, float(grid[index]), *values)
            for row, index, *values in found
        ],
        ignore_index=True,
    )


def _maker(
    steered: Steers | Sequence[Intervention], coefficients: ArrayLike | None
) -> tuple[np.ndarray, Callable[[Tensor], Sequence[Intervention]] | None]:
    """The coefficients, and what makes interventions of them; None where they are given."""
    at = getattr(steered, "at", None)
    if at is None:
        check_interventions(steered)  # type: ignore[arg-type]
        if coefficients is not None:
            raise ValueError(
                f"coefficients {coefficients!r} for interventions, which have their own; give a "
                "vector, a LoRA or a local weight, or leave them out"
            )
        return np.array([np.nan]), None
    given = np.atleast_1d(np.asarray(1.0 if coefficients is None else coefficients))
    grid = np.array([number(each) for each in given.ravel().tolist()])
    if given.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all():
        raise ValueError(f"coefficients {coefficients!r}: give a list of finite numbers")
    return grid, at


def _logprobs(
    lm: LM, batch: Batch, interventions: Sequence[Intervention], remote: Remote
) -> Tensor:
    """log P of the next token after each row: (B, V), float32 or better, on the CPU."""

    def last(logits: Tensor) -> Tensor:
        return precise(logits[:, -1]).log_softmax(dim=-1)

    return tracing.forward(lm, batch, interventions, last, keep=1, remote=remote).cpu()


def _ranked(before: Tensor, after: Tensor, count: int, by: Ranking) -> Tensor:
    """Ids of the first `count` tokens, of probabilities (V,)."""
    key = (after - before).abs() if by == "change" else torch.maximum(before, after)
    return key.topk(min(count, len(key))).indices


def _frame(
    lm: LM,
    batch: Batch,
    row: int,
    prompts: int,
    coefficient: float,
    ids: Tensor,
    logprobs: Tensor,
    measured: Tensor,
) -> pd.DataFrame:
    before, after = logprobs.double().numpy()
    return pd.DataFrame(
        {
            "prompt_index": row,
            "prompt": batch.texts[row] if row >= 0 else "",
            "prompts": prompts,
            "coefficient": coefficient,
            "token_id": ids.tolist(),
            "token": token_texts(lm.tokenizer, ids.tolist()),
            "logprob_before": before,
            "logprob_after": after,
            "before": np.exp(before),
            "after": np.exp(after),
            **dict(zip(_MEASURES, measured.tolist(), strict=True)),
        }
    )
