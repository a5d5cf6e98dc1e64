"""Sweeps whose every text has its exact coherence: what a detector of the ceiling is judged on.

    python benchmarks/study_ceilings.py [MODEL ...] [--seeds 0 1] [--directory reports]

For each model (wren; its siblings, whose weights lie beside this script or are trained): traits x
layers x methods x seeds (studies.py), each a sweep of both signs. Two tables a model:

study_ceilings_MODEL  one row per text: what `workbench.sweep` logs, and the exact judge's columns
study_rivals_MODEL    one row per coefficient: what rival rules need and a sweep does not log

Columns beyond a sweep's: `shown`, the exact score of the trait (`trait` names it); `kept`, the
share of the text before it falls apart for good (1 if it does not); `kl_95` and `kl_first`, the
95th percentile over tokens, and the mean at the first token, of KL(steered || unsteered) in greedy
rollouts; `corpus_loss`, nats a token of texts that others wrote, under the steered model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from studies import COEFFICIENTS, Case, Study, direction  # puts the checkout on the path

from workbench import generate, judges, logprobs, sweep
from workbench.loading.models import LM
from workbench.vectors.steering_vector import SteeringVector

PROMPTS, NEW_TOKENS = 16, 48
ROLLOUTS, ROLLED = 8, 16  # of the rival rules: prompts, greedy tokens
CORPUS = 8
TOGETHER = 11  # coefficients of one batch

KEPT = (
    "prompt_index",
    "coefficient_norm",
    "tokens",
    "logprob_unsteered",
    "logprob_steered",
    "excess",
    "drift",
    "drift_from",
    "alert",
    "entropy",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "longest_repeat",
    "repeat_from",
    "empty",
    "coherence",
    "kept",
    "shown",
)
CODE = (
    "contrast.pairs", "extraction.extract", "extraction.methods", "forward.decoding",
    "forward.reading", "forward.steering", "forward.tracing", "generation.generate",
    "generation.measures", "generation.sampling", "generation.scoring", "interventions.updates",
    "judges.exact", "statistics.distributions", "statistics.drift", "sweeps.running",
    "sweeps.sweep", "text.positions", "vectors.controls", "vectors.steering_vector", "wren.judge",
)  # fmt: skip


def texts(lm: LM, vector: SteeringVector, prompts: Sequence[Any], case: Case) -> pd.DataFrame:
    """The sweep of a case, a row per text."""
    frame = sweep(
        lm,
        vector,
        prompts,
        COEFFICIENTS,
        new_tokens=NEW_TOKENS,
        temperature=1.0,
        seed=case.seed,
        trait=case.trait,
        judges=[judges.exact],
        kl=False,
        progress=False,
    )
    length = frame["text"].str.len().clip(lower=1)
    kept = (frame["breaks_at"] / length).fillna(1.0).mask(frame["empty"], 0.0)
    return frame.assign(kept=kept, shown=frame["trait"])[list(KEPT)]


def rivals(
    lm: LM, vector: SteeringVector, prompts: Sequence[Any], corpus: Sequence[str]
) -> pd.DataFrame:
    """What rules need that look at steered distributions, a row per coefficient."""
    some, rows = list(prompts[:ROLLOUTS]), []
    for part in np.array_split(COEFFICIENTS, -(-len(COEFFICIENTS) // TOGETHER)):
        count = len(part)
        rolled = generate(
            lm,
            some * count,
            steer(vector, part, len(some)),
            new_tokens=ROLLED,
            score=False,
            kl=True,
        ).kl
        assert rolled is not None
        read = logprobs(lm, list(corpus) * count, steer(vector, part, len(corpus)))
        for c, kl, likely in zip(part, rolled.chunk(count), read.chunk(count), strict=True):
            rows.append(
                {
                    "coefficient_norm": c,
                    "kl_95": float(torch.quantile(kl[~kl.isnan()], 0.95)),
                    "kl_first": float(kl[:, 0].mean()),
                    "corpus_loss": -float(likely.nanmean()),
                }
            )
    return pd.DataFrame(rows)


def steer(vector: SteeringVector, coefficients: np.ndarray, rows: int) -> Any:
    """Each coefficient for so many rows of a batch."""
    return vector.at(torch.from_numpy(np.repeat(coefficients, rows)).float(), unit="norm")


def measure(lm: LM, case: Case) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The texts of a case, and what rivals need."""
    parts, vector = case.pairs, direction(lm, case)
    prompts = parts.select.prompts[:PROMPTS]
    corpus = [pair.full[index % 2] for index, pair in enumerate(parts.report[:CORPUS])]
    return texts(lm, vector, prompts, case), rivals(lm, vector, prompts, corpus)


STUDY = Study(
    tables=("ceilings", "rivals"),
    measure=measure,
    settings={
        "prompts": PROMPTS,
        "new_tokens": NEW_TOKENS,
        "rivals": {"rollouts": ROLLOUTS, "rolled": ROLLED, "corpus": CORPUS},
    },
    modules=CODE,
)

if __name__ == "__main__":
    STUDY.main("Sweeps whose every text is judged exactly.")
