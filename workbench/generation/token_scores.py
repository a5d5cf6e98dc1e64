"""How likely each token of one text is under several models: the same weights with and without
steering, an edited model, a baked checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.forward.steering import place
from workbench.interventions.updates import Intervention
from workbench.statistics.distributions import chosen_logprobs
from workbench.support.checks import check_whole
from workbench.text.token_texts import token_texts
from workbench.text.tokens import Batch, Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM


def token_scores(
    models: Mapping[str, LM | tuple[LM, Sequence[Intervention]]],
    prompt: Prompt,
    completion: str | Sequence[int],
    *,
    with_prompt: bool = False,
) -> pd.DataFrame:
    """log P(token | the tokens before it) of one completion, under each model.

    models      by name: a model (an edited one, say), or a model and interventions; all of one
                tokenizer
    completion   a text, or token ids as they were written
    with_prompt  the prompt's tokens too (those of a chat's template among them), all but the first,
                 which nothing precedes; the completion may then be ""

    One row per model and token: `model`, `step` (0 the completion's first token, -1 the prompt's
    last), `token` (its text), `logprob` (nats). Raises ValueError for no models, no tokens, ids
    that a model lacks, models that cut the text differently, and as `tokens.encode` and
    `steering.plan`.
    """
    if not models:
        raise ValueError("models is empty; name at least one")
    rows, cut = [], None
    for name, given in models.items():
        lm, interventions = given if isinstance(given, tuple) else (given, ())
        if not isinstance(completion, str):
            completion = [check_whole("token id", i, 0, lm.vocabulary - 1) for i in completion]
        batch = encode(lm, [prompt], [completion])
        start = int(batch.starts[0])
        first = 1 if with_prompt else start
        ids = batch.ids[0].tolist()
        if first == len(ids):
            raise ValueError(
                f"the completion {completion!r} has no tokens to score; give some, or with_prompt="
                "True and a prompt of two tokens at least"
            )
        own = ids if with_prompt else ids[start:]
        if cut is None:
            cut = own
        elif own != cut:
            raise ValueError(
                f"{name!r} cuts the {'text' if with_prompt else 'completion'} into other tokens "
                f"than {next(iter(models))!r}: compare models of one tokenizer"
            )
        score = _every_token if with_prompt else tracing.logprobs
        values = score(lm, batch, interventions)[0, first:].tolist()
        words = token_texts(lm.tokenizer, ids[first:])
        rows += [
            {"model": name, "step": step, "token": word, "logprob": value}
            for step, (word, value) in enumerate(zip(words, values, strict=True), first - start)
        ]
    return pd.DataFrame(rows)


def most_changed(scores: pd.DataFrame, before: str, after: str) -> int:
    """The step whose log-probability differs most between two models of `token_scores`.

    Raises ValueError for a name that is not among them.
    """
    wide = scores.pivot(index="step", columns="model", values="logprob")
    for name in (before, after):
        if name not in wide:
            raise ValueError(f"no scores of {name!r}; there are {list(wide)}")
    return int((wide[after] - wide[before]).abs().idxmax())


@torch.no_grad()
def _every_token(lm: LM, batch: Batch, interventions: Sequence[Intervention]) -> Tensor:
    """As `tracing.logprobs`, the prompt's tokens scored too: (1, T), NaN at the first."""
    targets = place(lm, batch.ids[:, 1:])

    def of_targets(logits: Tensor) -> Tensor:
        return chosen_logprobs(logits[:, :-1], targets.to(logits.device))

    found = tracing.forward(lm, batch, interventions, of_targets, keep=batch.width, scoring=True)
    return torch.nn.functional.pad(found.cpu(), (1, 0), value=torch.nan)
