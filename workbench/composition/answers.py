"""Where an answer ends: at a token that ends a text, or where the model asks itself the next
question.

Behind answered questions ("Q: …", "A: …", see in_context.py) a model that has answered often goes
on with a question of its own. The answer ends before it, with the token that begins the break
before "Q:" as its last one: that token ends it as an end token does, and what comes after counts
nowhere. The published code (https://github.com/DanielSc4/Dynamic-Activation-Composition) ends an
answer at a single token that holds "Q:", and lets one go on whose "Q" and ":" are two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from workbench.composition.compose import Composed
from workbench.generation.generate import Generation, end_ids
from workbench.text.completions import decode_completions
from workbench.text.tokens import pad_id

if TYPE_CHECKING:
    from workbench.loading.models import LM

Made = TypeVar("Made", Generation, Composed)

_QUESTION = "Q:"
_NEXT = re.compile(rf"\s*\n{_QUESTION}")


def ended(lm: LM, ids: Tensor, lengths: Tensor) -> list[bool]:
    """Whether each text, (B, N) ids of these lengths (B,), has a token at its end that ends it."""
    last = ids[torch.arange(len(ids)), lengths - 1]
    return torch.isin(last, torch.tensor(end_ids(lm), dtype=torch.long)).tolist()


def answer_lengths(lm: LM, ids: Tensor, lengths: Tensor) -> Tensor:
    """How many tokens of each text, (B, N) ids of these lengths (B,), are its answer's, the one
    that ends it included: (B,), at least 1."""
    rows = zip(ids.tolist(), lengths.tolist(), strict=True)
    return torch.tensor([_next_question(lm, row[:n])[0] for row, n in rows], dtype=torch.long)


def end_answers(lm: LM, made: Made, *, compat: bool = False) -> tuple[Made, list[bool]]:
    """Texts without what comes after their answers: `lengths` and `texts` are shorter, and every
    table has NaN (or padding) there. With it whether the model ended each answer, by a token that
    ends a text or by the next question. compat: by the published code's rule."""
    find = _published_end if compat else _next_question
    rows = zip(made.ids.tolist(), made.lengths.tolist(), strict=True)
    found = [find(lm, row[:n]) for row, n in rows]
    lengths = torch.tensor([length for length, _ in found], dtype=torch.long)
    texts = [
        text if said is None else said for text, (_, said) in zip(made.texts, found, strict=True)
    ]
    asks = [said is not None for _, said in found]
    own = ended(lm, made.ids, made.lengths)
    ends = [asked or end for asked, end in zip(asks, own, strict=True)]
    return _cut(lm, made, lengths, texts), ends


def _next_question(lm: LM, row: Sequence[int]) -> tuple[int, str | None]:
    """Of a text's ids how many are its answer's, and the answer; all, and None, where no question
    follows."""
    (text,) = decode_completions(lm.tokenizer, [row], skip_special_tokens=False)
    following = _NEXT.search(text)
    if following is None:
        return len(row), None
    answer = text[: following.start()]
    begun = decode_completions(
        lm.tokenizer, [row[:n] for n in range(1, len(row) + 1)], skip_special_tokens=False
    )
    # The first token that says more than the answer; part of a letter says another one.
    count = next(n for n, said in enumerate(begun, 1) if said != answer and said.startswith(answer))
    return count, answer


def _published_end(lm: LM, row: Sequence[int]) -> tuple[int, str | None]:
    """The same by the published rule, for which the answer is what stands before the token."""
    for place, token in enumerate(row):
        if _QUESTION in str(lm.tokenizer.decode([token])):
            before = [row[:place]]
            return place + 1, decode_completions(lm.tokenizer, before, skip_special_tokens=False)[0]
    return len(row), None


def _cut(lm: LM, made: Made, lengths: Tensor, texts: list[str]) -> Made:
    after = torch.arange(made.ids.shape[1]) >= lengths[:, None]
    same: dict[str, Any] = {
        "ids": made.ids.masked_fill(after, pad_id(lm)), "lengths": lengths, "texts": texts,
    }  # fmt: skip

    def blank(table: Tensor | None) -> Tensor | None:
        return None if table is None else table.masked_fill(after, torch.nan)

    if isinstance(made, Composed):
        tables = {name: blank(each) for name, each in made.coefficients.items()}
        return replace(
            made, **same, coefficients=tables, logprobs=blank(made.logprobs), kl=blank(made.kl)
        )
    names = ("logprobs_steered", "logprobs_unsteered", "entropy", "kl")
    return replace(made, **same, **{name: blank(getattr(made, name)) for name in names})
