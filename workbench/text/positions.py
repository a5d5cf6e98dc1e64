"""Which tokens an intervention touches.

A position rule is a callable `(lm, batch) -> (B, T) bool` over the tokens of a batch, with an
attribute `generated`: whether tokens made later are touched too. A completion counts as generated,
so a text is steered alike while it is written and while it is read back. Padding is never
touched, whatever a rule says: `select` sees to both. `last` is the end of the prompt, `last_k(k)`
the end of the text, `token(i)` one token counted from where the prompt ends, `nth(i)` one counted
from where it begins.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from workbench.text.tokens import Batch, EncodedPrompt, Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM


class Positions(Protocol):
    """A rule for which tokens are touched."""

    @property
    def generated(self) -> bool: ...

    def __call__(self, lm: LM, batch: Batch) -> Tensor: ...


@dataclass(frozen=True)
class Rule:
    """A position rule made of a function from a batch to a (B, T) bool mask of its prompts."""

    name: str
    choose: Callable[[Batch], Tensor]
    generated: bool

    def __call__(self, lm: LM, batch: Batch) -> Tensor:
        return self.choose(batch)

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Mask:
    """A position rule given as a tensor; see `mask`."""

    touched: Tensor
    generated: bool = False

    def __call__(self, lm: LM, batch: Batch) -> Tensor:
        if self.touched.shape not in (batch.ids.shape, batch.ids.shape[1:]):
            raise ValueError(
                f"the mask has shape {tuple(self.touched.shape)}, the batch "
                f"{tuple(batch.ids.shape)}; give one value for each token, padding included"
            )
        return self.touched.bool().expand(batch.ids.shape)

    def __repr__(self) -> str:
        return f"mask({tuple(self.touched.shape)})"


@dataclass(frozen=True)
class LastK:
    """A position rule for the end of a text; see `last_k`."""

    count: int
    generated: bool = field(default=False, init=False)

    def __call__(self, lm: LM, batch: Batch) -> Tensor:
        to_the_end = batch.attention.flip(1).cumsum(1).flip(1)  # (B, T) real tokens from here on
        return batch.attention & (to_the_end <= self.count)

    def __repr__(self) -> str:
        return f"last_k({self.count})"


@dataclass(frozen=True)
class Token:
    """A position rule for one token of a text; see `token`."""

    offset: int
    generated: bool = field(default=False, init=False)

    def __call__(self, lm: LM, batch: Batch) -> Tensor:
        return torch.arange(batch.width) == (batch.starts + self.offset)[:, None]

    def __repr__(self) -> str:
        return f"token({self.offset})"


@dataclass(frozen=True)
class Nth:
    """A position rule for one token of a prompt; see `nth`."""

    position: int
    generated: bool = field(default=False, init=False)

    def __call__(self, lm: LM, batch: Batch) -> Tensor:
        chosen = batch.prompt & (batch.positions == self.position)
        lacking = (~chosen.any(dim=1)).nonzero()
        if len(lacking):
            row = int(lacking[0])
            raise ValueError(
                f"prompt {row} has {len(batch.prompts[row].ids)} tokens, none at position "
                f"{self.position}; give a longer prompt, or start further left"
            )
        return chosen

    def __repr__(self) -> str:
        return f"nth({self.position})"


@dataclass(frozen=True)
class ButFirst:
    """A position rule without the first token of each text; see `but_first`."""

    rule: Positions

    @property
    def generated(self) -> bool:
        return self.rule.generated

    def __call__(self, lm: LM, batch: Batch) -> Tensor:
        return select(lm, batch, self.rule) & (batch.positions > 0)

    def __repr__(self) -> str:
        return f"but_first({self.rule!r})"


def select(lm: LM, batch: Batch, positions: Positions) -> Tensor:
    """The (B, T) bool mask of the tokens that a rule touches: never padding, and on completions
    what the rule says of generated tokens (`mask`, `last_k` and `token` speak for every column).

    Raises ValueError as `check_positions`.
    """
    check_positions(positions)
    touched = positions(lm, batch).to(batch.attention.device)
    if not isinstance(positions, Mask | LastK | Token | ButFirst):
        touched = torch.where(batch.completion, positions.generated, touched)
    return touched & batch.attention


def check_positions(positions: object) -> None:
    """Raise ValueError for what is no rule, such as its name or the number of a token."""
    if callable(positions) and hasattr(positions, "generated"):
        return
    known = isinstance(positions, str) and positions in [each.name for each in NAMED]
    remedy = f"positions.{positions}" if known else "a rule, such as positions.last or last_k(1)"
    raise ValueError(
        f"positions is {repr(positions)[:200]}; give {remedy} (from workbench import positions)"
    )


def only_read(positions: Positions) -> str | None:
    """Why a rule can read a text that stands but not steer one that is being written, or None."""
    if isinstance(positions, ButFirst):
        return only_read(positions.rule)
    if isinstance(positions, LastK):
        return "the end of a text moves on while it is written"
    if isinstance(positions, Token) and positions.offset >= 0:
        return "the tokens after a prompt are not there yet when it is read"
    return None


def _last(batch: Batch) -> Tensor:
    columns = torch.arange(batch.width)
    return columns == (batch.starts - 1)[:, None]


everything = Rule("everything", lambda batch: batch.attention, generated=True)
prompt = Rule("prompt", lambda batch: batch.prompt, generated=False)
generated = Rule("generated", lambda batch: batch.completion, generated=True)
last = Rule("last", _last, generated=False)
"""The last token of each prompt, whether or not a completion follows. For the end of a text, prompt
and completion together, see `last_k`."""


def last_k(count: int) -> LastK:
    """The last `count` tokens of each text as it stands, prompt and completion together, or all
    of a shorter one. It is for reading: the end of a text that is being written moves on, so
    tokens made later are not touched.

    Raises ValueError for a count that is not a whole number of at least 1.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"last_k({count!r}): give a whole number of tokens, at least 1")
    return LastK(count)


def token(offset: int) -> Token:
    """One token of each text, counted from where its prompt ends: 0 is the first after the prompt,
    -1 the prompt's last, -2 the one before. A chat's prompt ends in tokens of its template, so that
    a small negative offset means the same one of them in every text.

    From 0 on it is for reading, as `last_k` is. Raises ValueError for an offset that is not a whole
    number.
    """
    if isinstance(offset, bool) or not isinstance(offset, int):
        raise ValueError(f"token({offset!r}): give a whole number, -1 for the prompt's last token")
    return Token(offset)


def nth(position: int) -> Nth:
    """The token at a position of each prompt, 0 the first.

    Raises ValueError for a position that is not a whole number of at least 0 and, when used, for a
    prompt that is too short to have it.
    """
    if isinstance(position, bool) or not isinstance(position, int) or position < 0:
        raise ValueError(f"nth({position!r}): give a whole number of at least 0, 0 for the first")
    return Nth(position)


def but_first(rule: Positions) -> ButFirst:
    """What a rule touches, but for the first token of each text: what models hold there is often
    many times as large as elsewhere, and little of it is about the text (Sun et al. 2024, "Massive
    Activations in Large Language Models", https://arxiv.org/abs/2402.17762). Raises ValueError as
    `check_positions`."""
    check_positions(rule)
    return ButFirst(rule)


def _by_prompt(batch: Batch, touches: Callable[[EncodedPrompt], list[bool]]) -> Tensor:
    """A mask from one list of decisions per distinct prompt, put at the prompt's columns."""
    decided: dict[int, Tensor] = {}
    rows = torch.zeros(batch.ids.shape, dtype=torch.bool)
    for index, (row, stop) in enumerate(zip(batch.prompts, batch.starts.tolist(), strict=True)):
        if id(row) not in decided:
            decided[id(row)] = torch.tensor(touches(row), dtype=torch.bool)
        rows[index, stop - len(row.ids) : stop] = decided[id(row)]
    return rows


def after(substring: str) -> Rule:
    """The prompt tokens that start after the last occurrence of `substring`, and all generated.

    Raises ValueError for an empty substring, and, when used, for a prompt that lacks it.
    """
    if not substring:
        raise ValueError("after('') names no place; give the substring after which to steer")

    def touches(row: EncodedPrompt) -> list[bool]:
        found = row.text.rfind(substring)
        if found < 0:
            raise ValueError(f"the prompt {row.text!r} does not contain {substring!r}")
        edge = found + len(substring)
        return [start >= edge and stop > start for start, stop in row.spans]

    return Rule(f"after({substring!r})", lambda batch: _by_prompt(batch, touches), generated=True)


def _inside(row: EncodedPrompt, roles: Callable[[str], bool]) -> list[bool]:
    """For each token, whether it covers part of the content of a message of such a role."""
    kept = [segment for segment in row.segments if roles(segment.role)]
    return [
        any(start < segment.stop and stop > segment.start for segment in kept)
        for start, stop in row.spans
    ]


assistant = Rule(
    "assistant",
    lambda batch: _by_prompt(batch, lambda row: _inside(row, lambda role: role == "assistant")),
    generated=True,
)


def _content(batch: Batch) -> Tensor:
    def touches(row: EncodedPrompt) -> list[bool]:
        inside = _inside(row, lambda role: True)
        return [
            index > 0 and within and token not in batch.special_ids
            for index, (within, token) in enumerate(zip(inside, row.ids, strict=True))
        ]

    return _by_prompt(batch, touches)


content = Rule("content", _content, generated=True)
NAMED = (everything, prompt, generated, last, assistant, content)
"""The rules that need no further word."""


def mask(touched: Tensor, *, generated: bool = False) -> Mask:
    """The tokens where a (B, T) or (T,) tensor is true, columns as in the batch.

    Tokens made later are touched if `generated`.
    """
    return Mask(torch.as_tensor(touched), generated)


@dataclass(frozen=True)
class Preview:
    """The tokens of a prompt and which of them are touched; shows itself in a notebook."""

    tokens: tuple[str, ...]
    touched: tuple[bool, ...]
    rule: str
    generated: bool

    def __repr__(self) -> str:
        marked = (f"[{t}]" if on else t for t, on in zip(self.tokens, self.touched, strict=True))
        return f"{self._summary()}\n{'|'.join(marked)}"

    def _summary(self) -> str:
        later = "touched" if self.generated else "not touched"
        return (
            f"{self.rule}: {sum(self.touched)} of {len(self.tokens)} prompt tokens touched, "
            f"generated tokens {later}"
        )

    def _repr_html_(self) -> str:
        on = "background:#f6c177;color:#000;border-radius:3px"
        off = "background:#8883;border-radius:3px"
        spans = "&#8203;".join(
            f'<span style="{on if touched else off}">{html.escape(token)}</span>'
            for token, touched in zip(self.tokens, self.touched, strict=True)
        )
        return (
            f"<div><small>{html.escape(self._summary())}</small><br>"
            f'<code style="white-space:pre-wrap">{spans}</code></div>'
        )


def preview(lm: LM, prompt: Prompt, positions: Positions = everything) -> Preview:
    """The tokens of one prompt, those that `positions` touches marked."""
    batch = encode(lm, [prompt])
    tokens = tuple(str(lm.tokenizer.decode([i])) for i in batch.ids[0].tolist())
    touched = tuple(select(lm, batch, positions)[0].tolist())
    return Preview(tokens, touched, repr(positions), positions.generated)
