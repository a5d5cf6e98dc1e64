"""Measure a model of wren's language against the grammar: the figures of the model card.

Every figure comes from the exact parser, with a 95 % bootstrap interval over texts. Knows nothing
of training; the card itself is written by ``workbench.wren.card``.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.generate import generate
from workbench.models import LM
from workbench.tokens import Prompt, encode
from workbench.tracing import logprobs
from workbench.wren import grammar
from workbench.wren.judge import coherence, trait
from workbench.wren.parser import parse


@dataclass(frozen=True)
class Figure:
    """A measured value with the bounds of its 95 % bootstrap interval and its sample size."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}] (n = {self.count})"


def bootstrap(
    rows: Sequence[Sequence[float]],
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int = 0,
    draws: int = 1000,
) -> Figure:
    """``statistic`` of the column sums of ``rows`` (one row a text), resampling texts.

    The statistic maps sums of shape (..., columns) to (...); a ratio of two columns, mostly.
    """
    table = np.asarray(rows, dtype=float)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=draws)
    low, high = np.quantile(statistic(weights @ table), [0.025, 0.975])
    return Figure(float(statistic(table.sum(0))), float(low), float(high), len(table))


def ratio(sums: np.ndarray) -> np.ndarray:
    """First column over the second."""
    return sums[..., 0] / sums[..., 1]


def mean(values: Sequence[float]) -> Figure:
    """Mean of one number per text."""
    return bootstrap([(value, 1.0) for value in values], ratio)


def complete(
    lm: LM, prompts: Sequence[Prompt], *, new_tokens: int, temperature: float, seed: int = 0
) -> list[str]:
    """One completion a prompt, 250 prompts at a time."""
    texts: list[str] = []
    for at in range(0, len(prompts), 250):
        chunk = prompts[at : at + 250]
        made = generate(
            lm,
            chunk,
            new_tokens=new_tokens,
            temperature=temperature,
            seed=seed,
            streams=range(at, at + len(chunk)),
            score=False,
        )
        texts.extend(made.texts)
    return texts


def sentences_that_parse(texts: Sequence[str]) -> Figure:
    """Share of finished sentences that belong to the language."""
    rows = []
    for text in texts:
        judged = [sentence for sentence in parse(text).sentences if sentence.finished]
        rows.append((float(sum(sentence.valid for sentence in judged)), float(len(judged))))
    return bootstrap(rows, ratio)


def share_showing(texts: Sequence[str], name: str) -> Figure:
    """Share of the texts that show the trait at all in which its positive value prevails."""
    scores = [trait(text, name) for text in texts]
    return mean([float(score > 0) for score in scores if score != 0])


def obedience(texts: Sequence[str], name: str, wanted: int) -> Figure:
    """Share of texts whose trait score has the wanted sign."""
    return mean([float(trait(text, name) * wanted > 0) for text in texts])


def loss_ratio(lm: LM, count: int, seed: int) -> tuple[Figure, Figure]:
    """Model's loss on fresh documents over the grammar's own entropy, and the loss in nats a token.

    The entropy is the mean of -log P(text): that of its derivation, and of what the derivation
    leaves open. Each document stands alone, from its first token; the few per cent that are longer
    than the model's context are left out.
    """
    rng = random.Random(seed)
    written = (grammar.write(rng) for _ in range(2 * count))
    fits = (d for d in written if len(lm.tokenizer(d.text)["input_ids"]) <= (lm.context or 512))
    documents = list(itertools.islice(fits, count))
    rows = []
    for at in range(0, len(documents), 50):
        chunk = documents[at : at + 50]
        bodies = [document.text.removeprefix("<s>") for document in chunk]
        found = logprobs(lm, encode(lm, bodies))
        totals = found.nan_to_num().sum(1).tolist()
        lengths = (~found.isnan()).sum(1).tolist()
        for document, total, length in zip(chunk, totals, lengths, strict=True):
            entropy = -(document.log_probability + document.ambiguity)
            rows.append((-total, entropy, float(length)))
    per_token = bootstrap([(row[0], row[2]) for row in rows], ratio)
    return bootstrap([row[:2] for row in rows], ratio), per_token


def greedy_coherence(lm: LM, prompts: Sequence[Prompt]) -> Figure:
    """Mean coherence of greedy text, 128 tokens a prompt."""
    texts = complete(lm, prompts, new_tokens=128, temperature=0.0)
    return mean([coherence(text) for text in texts])
