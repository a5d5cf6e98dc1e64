"""Fluency of steered texts beside those that in-context examples lead to: delta-perplexity.

Write s for the steered model, which reads a question alone, c for the unsteered one, which reads
examples first, and P_m(y) = exp of the mean -log m(token) over the tokens of y: the perplexity of a
text. Of the text y_c that c writes and the text y_s that s writes,

    delta_perplexity            P_s(y_c) - P_c(y_c)
    delta_perplexity_symmetric  (P_s(y_c) - P_c(y_c) + P_c(y_s) - P_s(y_s)) / 2
    delta_nats_symmetric        the same of log P: nats a token

The first is the measure of Scalena et al. 2024, https://arxiv.org/abs/2406.17563: 0 where s finds
the other's text as likely as c itself does, and blind to what s writes. The second also asks c
about the text of s: a text that fell apart costs there, and a model that is only sharper, not
better, loses in one half about what it gains in the other. Both are small for a fluent model and
may be negative; a few texts that fell apart decide their means, so the paper gives medians. The
third does not let them: of sampled texts it estimates half of Jeffreys' divergence, a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.composition.compose import Composed, Property, compose
from workbench.composition.schedules import Given, Schedule
from workbench.forward import tracing
from workbench.generation.generate import Generation

if TYPE_CHECKING:
    from workbench.loading.models import LM


def perplexity(logprobs: Tensor) -> Tensor:
    """exp of the mean -log P of each text's tokens (B,), of log-probabilities (B, N) in nats that
    are NaN where there is no token."""
    return (-logprobs.nanmean(dim=1)).exp()


def fluency(
    lm: LM,
    made: Composed,
    shown: Generation,
    properties: Mapping[str, Property],
    schedules: Mapping[str, Schedule],
    *,
    compat: bool = False,
) -> pd.DataFrame:
    """How fluent texts are that `compose` made, beside those of in-context prompting: a row each.

    made                   of questions alone, under these properties and schedules
    shown                  `generate`'s of the same questions behind examples, unsteered, greedy

    Of both what counts are the tokens of their `lengths`: a model that goes on to ask itself the
    next question has to be cut there before, by `answers.end_answers`.

    Columns, with s, c and their texts as above:

        shown_by_shown     P_c(y_c)
        shown_by_steered   P_s(y_c)
        steered_by_steered P_s(y_s)
        steered_by_shown   P_c(y_s)
        delta_perplexity, delta_perplexity_symmetric, delta_nats_symmetric

    A schedule that looks is asked about the other text as about its own. With compat, as in the
    published code, it gives at each step what it gave in its own text, and nothing after that one's
    end. Raises ValueError for texts of different numbers, and as `compose`.
    """
    if len(made.batch) != len(shown.batch):
        raise ValueError(
            f"{len(made.batch)} steered texts and {len(shown.batch)} of in-context prompting; give "
            "one of each for every question"
        )
    forced = compose(
        lm,
        made.batch,
        properties,
        {
            name: _same(each, made.coefficients[name]) if compat else each
            for name, each in schedules.items()
        },
        new_tokens=shown.ids.shape[1],
        forced=shown.ids,
    )
    ended = torch.arange(shown.ids.shape[1]) >= shown.lengths[:, None]
    written = shown.batch.extend(made.ids, made.lengths)
    table = {
        "shown_by_shown": perplexity(shown.logprobs_steered),
        "shown_by_steered": perplexity(forced.logprobs.masked_fill(ended, torch.nan)),
        "steered_by_steered": perplexity(made.logprobs),
        "steered_by_shown": perplexity(tracing.logprobs(lm, written)),
    }
    frame = pd.DataFrame({name: values.tolist() for name, values in table.items()})
    forth = frame["shown_by_steered"] - frame["shown_by_shown"]
    back = frame["steered_by_shown"] - frame["steered_by_steered"]
    logs = np.log(frame)
    nats = (
        logs["shown_by_steered"] - logs["shown_by_shown"]
        + logs["steered_by_shown"] - logs["steered_by_steered"]
    ) / 2  # fmt: skip
    return frame.assign(
        delta_perplexity=forth,
        delta_perplexity_symmetric=(forth + back) / 2,
        delta_nats_symmetric=nats,
    )


def _same(schedule: Schedule, coefficients: Tensor) -> Schedule:
    return schedule if schedule.probe is None else Given(coefficients.nan_to_num(0.0))
