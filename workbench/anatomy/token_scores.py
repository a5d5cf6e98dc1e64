"""How likely each token of one text is under several models: the same weights with and without
steering, an edited model, a baked checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from workbench.forward import tracing
from workbench.interventions.updates import Intervention
from workbench.text.token_texts import token_texts
from workbench.text.tokens import Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM


def token_scores(
    models: Mapping[str, LM | tuple[LM, Sequence[Intervention]]],
    prompt: Prompt,
    completion: str | Sequence[int],
) -> pd.DataFrame:
    """log P(token | the tokens before it) of one completion, under each model.

    models      by name: a model (an edited one, say), or a model and interventions; all of one
                tokenizer
    completion  a text, or token ids as they were written

    One row per model and token: `model`, `step`, `token` (its text), `logprob` (nats). Raises
    ValueError for no models, models that cut the text differently, and as `tokens.encode` and
    `steering.plan`.
    """
    if not models:
        raise ValueError("models is empty; name at least one")
    rows, cut = [], None
    for name, given in models.items():
        lm, interventions = given if isinstance(given, tuple) else (given, ())
        batch = encode(lm, [prompt], [completion])
        ids = batch.ids[batch.completion].tolist()
        if cut is None:
            cut = ids
        elif ids != cut:
            raise ValueError(
                f"{name!r} cuts the completion into other tokens than {next(iter(models))!r}: "
                "compare models of one tokenizer"
            )
        values = tracing.logprobs(lm, batch, interventions)[batch.completion].tolist()
        words = token_texts(lm.tokenizer, ids)
        rows += [
            {"model": name, "step": step, "token": word, "logprob": value}
            for step, (word, value) in enumerate(zip(words, values, strict=True))
        ]
    return pd.DataFrame(rows)
