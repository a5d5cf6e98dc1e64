"""A language model on this machine as judge: the expected rating under its next-token distribution.

    rating = sum_r r p(r) / sum_r p(r)        r = 1 … 9, p(r) the probability of answering with r

so each text costs one forward per question (trait, coherence) and no sampling, and the same text
always gets the same score. G-Eval (Liu et al. 2023) weights ratings in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor
from tqdm.auto import tqdm

from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.tracing import Remote
from workbench.judges.interface import Written
from workbench.judges.rubric import DIGITS, description, distinct, expected, plainly, questions
from workbench.loading.models import LM
from workbench.statistics.distributions import precise
from workbench.text.tokens import Prompt, encode


@dataclass(frozen=True, eq=False)
class LocalJudge:
    """A judge made of any model that `workbench.load` returns.

    lm      the rater; asked through its chat template if it has one, in plain text otherwise
    traits  what a trait's name means, such as {"mood": "glad rather than gloomy"}; a name that is
            not there stands for itself
    remote  True runs on NDIF, "local" simulates that here

    Its columns:

        trait      expected rating, -1 to 1
        coherence  expected rating, 0 to 1
        mass       probability that the model gives to rating tokens at all, the lower of the two
                   questions; near 0 it does not understand what it is asked
        status     "ok", "too long" (for the model's context) or "not finite"
        reason     the same in words, "" where the status is "ok"

    Raises ValueError for an `lm` that is not loaded.
    """

    lm: LM
    traits: Mapping[str, str] = field(default_factory=dict)
    remote: Remote = False

    def __post_init__(self) -> None:
        if not isinstance(self.lm, LM):
            raise ValueError(
                f"lm {self.lm!r} is no loaded model: give LocalJudge(workbench.load(name))"
            )

    @property
    def label(self) -> str:
        return f"{self.lm.name} ({self.lm.fingerprint[:12]}) by rating tokens"

    def __call__(self, written: Sequence[Written], trait: str) -> pd.DataFrame:
        """Rate texts for a trait.

        Raises ValueError for an empty trait and for a model without a token for each rating.
        """
        look_for = description(trait, self.traits)
        digits = rating_tokens(self.lm)
        texts = distinct(written)
        asked = [self._prompt(q) for text in texts for q in questions(text, look_for)]
        found, reasons = self._ask(asked, digits)
        mass = np.exp(found).sum(axis=1).reshape(-1, 2).min(axis=1)
        ratings = expected(softmax(found, axis=1)).reshape(-1, 2)
        rows = {}
        for index, text in enumerate(texts):
            trait_share, coherence = ratings[index]
            reason = reasons.get(2 * index) or reasons.get(2 * index + 1) or ""
            status = "too long" if reason else "ok"
            if not reason and not np.isfinite(ratings[index]).all():
                status, reason = "not finite", f"{self.lm.name!r} gives no finite probabilities"
            if status != "ok":
                trait_share = coherence = np.nan
            rows[text] = (2 * trait_share - 1, coherence, mass[index], status, reason)
        columns = ["trait", "coherence", "mass", "status", "reason"]
        frame = pd.DataFrame([rows[text] for text in written], columns=columns)
        return frame.astype(dict.fromkeys(columns[:3], float))

    def _prompt(self, question: str) -> Prompt:
        # A text that holds the template's own markers must not end its message.
        for marker in self.lm.tokenizer.all_special_tokens:
            question = question.replace(marker, " ")
        if getattr(self.lm.tokenizer, "chat_template", None):
            return [{"role": "user", "content": question}]
        return plainly(question)

    @torch.no_grad()
    def _ask(
        self, asked: Sequence[Prompt], digits: list[list[int]]
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Log-probabilities of the ratings (n, 9), and why those of a prompt are NaN."""
        found = np.full((len(asked), len(digits)), np.nan)
        reasons: dict[int, str] = {}
        fitting = list(range(len(asked)))
        try:
            everyone = encode(self.lm, asked) if asked else None
        except ValueError:
            reasons = _too_long(self.lm, asked)
            fitting = [index for index in fitting if index not in reasons]
            everyone = encode(self.lm, [asked[index] for index in fitting]) if fitting else None
        if everyone is None:
            return found, reasons
        finish = _ratings(digits)
        with tqdm(total=len(fitting), desc="judging", unit="question", delay=2, leave=False) as bar:
            for batch, rows in batches(everyone, tracing.TOKENS):
                made = tracing.forward(self.lm, batch, (), finish, keep=1, remote=self.remote)
                found[[fitting[row] for row in rows]] = made.cpu().double().numpy()
                bar.update(len(rows))
        return found, reasons


def rating_tokens(lm: LM) -> list[list[int]]:
    """For each rating, the ids of the tokens that say it and nothing else (with or without a space
    before it). Raises ValueError for a vocabulary that cannot say one of them."""
    tokenizer: Any = lm.tokenizer
    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    said: dict[str, list[int]] = {digit: [] for digit in DIGITS}
    for index, piece in enumerate(pieces):
        # Decoding a whole vocabulary takes seconds: only what may be a digit is decoded, written
        # as itself or, as SentencePiece does, as a byte ("<0x37>").
        if piece is None or index in special or not str(piece).rstrip(">")[-1:].isdigit():
            continue
        word = tokenizer.decode([index]).strip()
        if word in said:
            said[word].append(index)
    missing = [digit for digit, ids in said.items() if not ids]
    if missing:
        raise ValueError(
            f"{lm.name!r} has no token for the rating {missing[0]!r}; choose another model as judge"
        )
    return list(said.values())


def _ratings(digits: Sequence[Sequence[int]]) -> Callable[[Tensor], Tensor]:
    def finish(logits: Tensor) -> Tensor:
        """(B, 1, V) -> (B, 9): each rating's log-probability, over all tokens that say it."""
        logprobs = precise(logits[:, -1]).log_softmax(dim=-1)
        return torch.stack([logprobs[:, list(ids)].logsumexp(dim=-1) for ids in digits], dim=-1)

    return finish


def _too_long(lm: LM, asked: Sequence[Prompt]) -> dict[int, str]:
    """Index -> what is wrong, for prompts that the model has no room for."""
    reasons = {}
    for index, prompt in enumerate(asked):
        try:
            encode(lm, [prompt])
        except ValueError as error:
            reasons[index] = str(error)
    return reasons
