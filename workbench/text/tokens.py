"""Text to a padded batch of token ids.

A row is `padding + prompt + completion`. The prompt and the completion are tokenized apart and
joined as ids, so a prompt's ids are the same whatever follows it: that is what makes teacher
forcing and generation agree. How a completion is tokenized is said in completions.py, how a chat
becomes a text in chats.py. This module knows nothing of layers or steering.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from workbench.support.checks import require_model
from workbench.text.chats import Message, Segment, render
from workbench.text.completions import Completion, encode_completions

if TYPE_CHECKING:
    from workbench.loading.models import LM

Prompt: TypeAlias = str | Sequence[Message]


@dataclass(frozen=True)
class EncodedPrompt:
    """One tokenized prompt: its ids, and for each id the characters that it covers."""

    text: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of token ids with what is needed to place an intervention on them.

    ids        (B, T) long; unused columns hold the pad token
    attention  (B, T) bool; false on padding
    starts     (B,) long; each row's first completion column, T where there is no completion
    prompts    one per row
    texts      the full text of each row, prompt and completion
    """

    ids: Tensor
    attention: Tensor
    starts: Tensor
    prompts: tuple[EncodedPrompt, ...]
    texts: tuple[str, ...]
    special_ids: frozenset[int] = field(default=frozenset(), repr=False)

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def width(self) -> int:
        """T, the number of columns."""
        return self.ids.shape[1]

    @cached_property
    def positions(self) -> Tensor:
        """Position ids (B, T) long, counted from each row's first real token.

        Padding has that of the last real token before it, or 0.
        """
        return (self.attention.long().cumsum(dim=1) - 1).clamp_min(0)

    @cached_property
    def completion(self) -> Tensor:
        """(B, T) bool, true on the real tokens of the completions."""
        return self.attention & (torch.arange(self.width) >= self.starts[:, None])

    @cached_property
    def prompt(self) -> Tensor:
        """(B, T) bool, true on the real tokens of the prompts."""
        return self.attention & ~self.completion

    def extend(self, ids: Tensor, lengths: Tensor, texts: Sequence[str] | None = None) -> Batch:
        """The batch with generated ids appended on the right, as completions.

        ids      (B, N) long
        lengths  (B,) long, how many of a row's N ids are real; the rest become padding
        texts    what was appended, as text

        Columns stay where they were, so what was steered in generation is at the same column here.
        """
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        suffixes = texts if texts is not None else [""] * len(self)
        return Batch(
            ids=torch.cat([self.ids, ids], dim=1),
            attention=torch.cat([self.attention, real], dim=1),
            starts=self.starts,
            prompts=self.prompts,
            texts=tuple(a + b for a, b in zip(self.texts, suffixes, strict=True)),
            special_ids=self.special_ids,
        )

    def select(self, rows: slice | Sequence[int] | Tensor) -> Batch:
        """The batch of the chosen rows, columns unchanged."""
        chosen = torch.arange(len(self))[rows]
        return Batch(
            ids=self.ids[chosen],
            attention=self.attention[chosen],
            starts=self.starts[chosen],
            prompts=tuple(self.prompts[i] for i in chosen.tolist()),
            texts=tuple(self.texts[i] for i in chosen.tolist()),
            special_ids=self.special_ids,
        )

    def trimmed(self) -> Batch:
        """The batch without the columns on the left that are padding in every row."""
        cut = int(self.attention.any(dim=0).nonzero()[0])
        return replace(
            self, ids=self.ids[:, cut:], attention=self.attention[:, cut:], starts=self.starts - cut
        )


def encode(
    lm: LM,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion] | None = None,
    *,
    new_tokens: int = 0,
) -> Batch:
    """Tokenize prompts, with completions if given, into one left-padded batch.

    A text prompt gets the tokenizer's own special tokens; a chat (a list of
    {"role", "content"}) is rendered with the chat template, ending where the assistant speaks.
    A chat that ends in an assistant message is left open after it. Completions get no special
    tokens, and may be given as token ids; each is tokenized as what follows a prompt.

    `new_tokens` is how many tokens will be generated after the rows: only the check against the
    model's context length needs it.

    Raises ValueError for an empty list, an empty prompt, counts that differ, a chat without a chat
    template, and a row that is longer than the model's context.
    """
    require_model(lm)
    _check_prompts(prompts)
    if completions is not None and len(completions) != len(prompts):
        raise ValueError(
            f"{len(completions)} completions for {len(prompts)} prompts; give one for each"
        )
    keys = [json.dumps(prompt, default=dict) for prompt in prompts]
    unique = dict(zip(keys, prompts, strict=True))
    known = dict(zip(unique, _encode_prompts(lm.tokenizer, list(unique.values())), strict=True))
    encoded = [known[key] for key in keys]
    tails = encode_completions(lm.tokenizer, completions or [()] * len(prompts))
    _check_context(lm, encoded, tails, new_tokens)
    return _pad(lm, encoded, tails)


def from_ids(
    lm: LM,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]] | None = None,
    *,
    new_tokens: int = 0,
) -> Batch:
    """A batch of token ids as they are, for programs that cut their texts themselves.

    Which characters each id covers is not known: position rules that look at the text (`content`,
    `assistant`, `after`) cannot be used on it.

    Raises ValueError for a prompt of no tokens, and as `encode`.
    """
    empty = [row for row, ids in enumerate(prompts) if len(ids) == 0]
    if not prompts or empty:
        raise ValueError(f"prompts of no tokens: {empty or 'all'}; give each one at least")
    rows = [tuple(map(int, ids)) for ids in prompts]
    texts = [str(lm.tokenizer.decode(list(ids))) for ids in rows]
    encoded = [EncodedPrompt(text, ids, (), ()) for text, ids in zip(texts, rows, strict=True)]
    tails = encode_completions(lm.tokenizer, completions or [()] * len(prompts))
    _check_context(lm, encoded, tails, new_tokens)
    return _pad(lm, encoded, tails)


def to_batch(lm: LM, prompts: Sequence[Prompt] | Batch, *, new_tokens: int = 0) -> Batch:
    """Prompts as a batch, by `encode`; a batch as it is.

    Raises ValueError as `encode`, for a batch that with `new_tokens` more is longer than the
    model's context, and for one to be continued whose rows do not all end in its last column.
    """
    if not isinstance(prompts, Batch):
        return encode(lm, prompts, new_tokens=new_tokens)
    require_model(lm)
    if new_tokens:
        check_ended(prompts)
    longest = int(prompts.attention.sum(dim=1).max())
    if lm.context is not None and longest + new_tokens > lm.context:
        more = f" and {new_tokens} new tokens make {longest + new_tokens}" if new_tokens else " is"
        room = lm.context - longest
        remedy = f"give new_tokens={room} or fewer" if room > 0 else "shorten it"
        raise ValueError(
            f"a row of {longest} tokens{more}, over the {lm.context} of {lm.name!r}'s context; "
            f"{remedy}"
        )
    return prompts


def check_ended(batch: Batch) -> None:
    """Raise ValueError unless all rows end in the batch's last column, where what follows them is
    read."""
    ended = (~batch.attention[:, -1]).nonzero()
    if len(ended):
        raise ValueError(
            f"row {int(ended[0])} of the batch ends before its last column: a text cannot be "
            "continued after padding; encode the texts as prompts"
        )


def _check_prompts(prompts: Sequence[Prompt]) -> None:
    if isinstance(prompts, (str, Mapping)):
        raise ValueError(f"prompts is one prompt, {prompts!r}; wrap it in a list")
    if not isinstance(prompts, Collection):
        raise ValueError(f"prompts is {repr(prompts)[:200]}; give a list of texts or chats")
    if len(prompts) == 0:
        raise ValueError("prompts is empty; give at least one prompt")
    for prompt in prompts:
        if isinstance(prompt, Mapping):
            raise ValueError(
                f"prompt {prompt!r} is one message; a chat is a list of messages, and prompts are "
                "a list of chats: [[message, …]]"
            )
        if hasattr(prompt, "negative"):  # a contrast pair, of a room that this one does not know
            raise ValueError("prompts are contrast pairs; give those of the pairs: pairs.prompts")
        if not isinstance(prompt, Sequence):
            raise ValueError(
                f"prompt {repr(prompt)[:200]} is neither a text nor a chat (a list of messages)"
            )


def _encode_prompts(tokenizer: Any, prompts: Sequence[Prompt]) -> list[EncodedPrompt]:
    for prompt in prompts:
        if isinstance(prompt, str) and not prompt.strip():
            raise ValueError(f"prompt {prompt!r} is empty; give it at least one word")
    rendered = [
        (prompt, (Segment("text", 0, len(prompt)),))
        if isinstance(prompt, str)
        else render(tokenizer, prompt)
        for prompt in prompts
    ]
    encoded: list[EncodedPrompt | None] = [None] * len(prompts)
    for special in (True, False):  # a rendered chat holds its special tokens already
        rows = [i for i, prompt in enumerate(prompts) if isinstance(prompt, str) == special]
        tokenized = _tokenize(tokenizer, [rendered[i][0] for i in rows], special)
        for row, (ids, spans) in zip(rows, tokenized, strict=True):
            if not ids:
                raise ValueError(f"prompt {prompts[row]!r} has no tokens; give it at least a word")
            text, segments = rendered[row]
            encoded[row] = EncodedPrompt(text=text, ids=ids, spans=spans, segments=segments)
    return [prompt for prompt in encoded if prompt is not None]


def _tokenize(
    tokenizer: Any, texts: Sequence[str], special: bool
) -> list[tuple[tuple[int, ...], tuple[tuple[int, int], ...]]]:
    """Token ids of each text and the characters that each token covers."""
    if not texts:
        return []
    if not getattr(tokenizer, "is_fast", False):
        return [_tokenize_slowly(tokenizer, text, special) for text in texts]
    both = tokenizer(list(texts), add_special_tokens=special, return_offsets_mapping=True)
    return [
        (tuple(ids), tuple((a, b) for a, b in spans))
        for ids, spans in zip(both["input_ids"], both["offset_mapping"], strict=True)
    ]


def _tokenize_slowly(
    tokenizer: Any, text: str, special: bool
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The same without offsets: a token's span is what it adds to the decoded text so far."""
    ids = tuple(tokenizer(text, add_special_tokens=special)["input_ids"])
    edges = [0]
    for count in range(1, len(ids) + 1):
        seen = len(tokenizer.decode(ids[:count], skip_special_tokens=True))
        edges.append(max(edges[-1], min(seen, len(text))))
    return ids, tuple(pairwise(edges))


def _check_context(
    lm: LM,
    prompts: Sequence[EncodedPrompt],
    tails: Sequence[tuple[tuple[int, ...], str]],
    new_tokens: int,
) -> None:
    context = lm.context
    if context is None:
        return
    for prompt, (tail, _) in zip(prompts, tails, strict=True):
        own = len(prompt.ids) + len(tail)
        total, room = own + new_tokens, context - own
        if total > context:
            parts = f"a prompt of {len(prompt.ids)} tokens"
            parts += f" with a completion of {len(tail)}" if tail else ""
            parts += f" and {new_tokens} new tokens" if new_tokens else ""
            start = prompt.text if len(prompt.text) <= 60 else prompt.text[:60] + "…"
            room = context - (total - new_tokens)
            remedy = f"give new_tokens={room} or fewer" if room > 0 else "shorten it"
            # A prompt that takes more than half of the context may be what is at fault.
            remedy += ", or shorten it" if 0 < room < context / 2 else ""
            raise ValueError(
                f"{parts} makes {total} tokens, over the {context} of {lm.name!r}'s context; "
                f"{remedy}: {start!r}"
            )


def _pad(
    lm: LM, prompts: Sequence[EncodedPrompt], tails: Sequence[tuple[tuple[int, ...], str]]
) -> Batch:
    rows = [(*p.ids, *tail) for p, (tail, _) in zip(prompts, tails, strict=True)]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id(lm), dtype=torch.long)
    attention = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor(row)
        attention[index, width - len(row) :] = True
    return Batch(
        ids=ids,
        attention=attention,
        starts=torch.tensor([width - len(tail) for tail, _ in tails]),
        prompts=tuple(prompts),
        texts=tuple(p.text + text for p, (_, text) in zip(prompts, tails, strict=True)),
        special_ids=frozenset(lm.tokenizer.all_special_ids),
    )


def pad_id(lm: LM) -> int:
    """The token id that fills unused columns; any id will do where the tokenizer names none."""
    named = (lm.tokenizer.pad_token_id, lm.tokenizer.eos_token_id)
    return next((i for i in named if isinstance(i, int)), 0)
