"""A steered text and its unsteered twin, token by token, from one decoding.

Three rows lie along the batch:

    baseline   unsteered
    steered    under the interventions
    reader     unsteered, made to read what the steered row writes

so that every pass gives the next token of both texts and, from the reader, how likely the steered
token is to the unsteered model. Baseline and steered share their sampling noise: where the vector
changes nothing they are the same text.

Three rows take longer to read a prompt than one, so a listener is told the steered text's first
token beforehand, from a pass over its prompt alone. This module knows nothing of pages or threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from workbench.forward import decoding, tracing
from workbench.forward.steering import plan
from workbench.generation.generate import end_ids, generation_config
from workbench.generation.sampling import Chooser, Sampling, check_sampling
from workbench.interventions.updates import Coefficient, Intervention
from workbench.statistics.distributions import chosen_logprobs
from workbench.support.checks import number
from workbench.text.completions import decode_completions
from workbench.text.tokens import Batch, Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM

BASELINE, STEERED, READER = range(3)
# What a tokenizer shows for bytes that are no letter yet.
_BROKEN = "\ufffd"

Finish = Literal["", "end", "length", "stopped"]


class Flag(Protocol):
    """What says when to stop, such as a `threading.Event`."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True)
class Piece:
    """A token's text and log P(token) under the unsteered model, in nats; NaN: not scored yet.

    A letter whose bytes lie in several tokens is one piece, with the sum of their scores.
    """

    text: str
    logprob: float


@dataclass(frozen=True)
class Text:
    """What one of the two has written: pieces for show, ids and their unsteered log-probabilities.

    `finish` is "" while it is being written, then "end", "length" (as many tokens as asked for) or
    "stopped". `ids` and `logprobs` include the end token; pieces do not. A first token that is told
    ahead has NaN for its score.
    """

    pieces: tuple[Piece, ...] = ()
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Finish = ""

    @property
    def text(self) -> str:
        """The pieces as one text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def mean_logprob(self) -> float:
        """Nats per token under the unsteered model; NaN before the first one has a score."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else math.nan


@dataclass(frozen=True)
class Written:
    """Both texts, so far or to their end."""

    baseline: Text = Text()
    steered: Text = Text()


def stream(
    lm: LM,
    prompt: Prompt,
    interventions: Sequence[Intervention],
    *,
    new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    on_token: Callable[[Written], None] | None = None,
    pace: float = 0.0,
    stop: Flag | None = None,
) -> Written:
    """Continue one prompt with and without the interventions, side by side.

    prompt         a text or a chat
    interventions  coefficients are numbers, or functions of the step that return one
    new_tokens     the most tokens of either text
    temperature    0 is greedy
    seed           of the sampling noise, which both texts share
    on_token       gets both texts so far after every token, in the thread that called; and before
                   that, once, the steered text's first token alone, not scored yet
    pace           seconds between two calls of that, at least, once all rows have read the prompt;
                   the last tokens may come without one
    stop           looked at after every token: once set, what was written so far is returned

    The tokens are those that `generate` gives for the same settings, but for rounding, as
    matrices of three rows are multiplied in another order. Raises ValueError as `generate`, and for
    a tensor coefficient: rows are this function's own.
    """
    check_sampling(new_tokens, temperature, seed=seed)
    steered = [replace(each, coefficient=_rowwise(each.coefficient)) for each in interventions]
    one = encode(lm, [prompt], new_tokens=new_tokens)
    batch = one.select([0, 0, 0])
    ends = end_ids(lm)
    writers = [Writer(lm.tokenizer, ends, new_tokens) for _ in range(2)]

    def stopped() -> bool:
        return stop is not None and stop.is_set()

    def chooser(rows: Batch) -> Chooser:
        return Chooser(Sampling(temperature, seed=seed, streams=(0,) * len(rows)), rows, ends)

    ahead = Writer(lm.tokenizer, ends, new_tokens)
    if on_token is not None and not stopped():
        plan(lm, batch, steered, new_tokens)  # raises before anything is told
        ahead.take(_first(lm, one, interventions, chooser(one)), math.nan)
        on_token(Written(steered=ahead.so_far()))
    if stopped():
        return Written(writers[BASELINE].finished(), ahead.finished())

    told = -math.inf

    def heard(tokens: list[int], logprobs: list[float]) -> None:
        nonlocal told
        for writer, token, logprob in zip(writers, tokens, logprobs, strict=True):
            writer.take(token, logprob)
        if on_token is not None and time.monotonic() - told >= pace:
            told = time.monotonic()
            on_token(Written(*(writer.so_far() for writer in writers)))

    def halt(ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.full((3,), stopped(), device=ids.device)

    config = generation_config(lm, new_tokens, ends)
    follower = Follower(chooser(batch), heard)
    decoding.decode(lm, batch, steered, config, follower, stopping=(halt,))
    return Written(*(writer.finished() for writer in writers))


@torch.no_grad()
def _first(lm: LM, one: Batch, interventions: Sequence[Intervention], chooser: Chooser) -> int:
    """The first token of the steered text, by a forward of its row alone."""
    logits = tracing.forward(lm, one, interventions, lambda logits: logits[:, -1].float(), keep=1)
    return int(chooser(one.ids, logits).argmax())


class Follower:
    """A logits processor: the reader takes the steered row's token, and each token is told.

    `heard` gets the tokens of baseline and steered, and their unsteered log-probabilities.
    """

    def __init__(self, chooser: Chooser, heard: Callable[[list[int], list[float]], None]) -> None:
        self.chooser = chooser
        self.heard = heard

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (3, V) whose largest entry is each row's token."""
        tokens = self.chooser(input_ids, scores).argmax(dim=-1)
        tokens[READER] = tokens[STEERED]
        unsteered = chosen_logprobs(scores[[BASELINE, READER], None], tokens[:READER, None])
        self.heard(tokens[:READER].tolist(), unsteered[:, 0].tolist())
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)

    def record(self) -> dict[str, Tensor]:
        """What the chooser remembers."""
        return self.chooser.record()


class Writer:
    """One text as its tokens arrive, to an end token or `limit`. After its end it takes no more."""

    def __init__(self, tokenizer: Any, ends: tuple[int, ...], limit: int) -> None:
        self.tokenizer = tokenizer
        self.ends = ends
        self.limit = limit
        self.pieces: list[Piece] = []
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.finish: Finish = ""
        self.pending: list[tuple[int, float]] = []

    def take(self, token: int, logprob: float) -> None:
        """The next token, and its log-probability under the unsteered model, NaN: not scored."""
        if self.finish:
            return
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in self.ends:
            self._end("end")
            return
        self.pending.append((token, logprob))
        if not self._decoded().endswith(_BROKEN):
            self._flush()
        if len(self.ids) == self.limit:
            self._end("length")

    def so_far(self) -> Text:
        """The text up to the last whole letter."""
        return Text(tuple(self.pieces), tuple(self.ids), tuple(self.logprobs), self.finish)

    def finished(self) -> Text:
        """The whole text, "stopped" unless it ended by itself."""
        if not self.finish:
            self._end("stopped")
        return self.so_far()

    def _end(self, finish: Finish) -> None:
        self._flush()
        self.finish = finish

    def _decoded(self) -> str:
        ids = [token for token, _ in self.pending]
        return decode_completions(self.tokenizer, [ids], skip_special_tokens=False)[0]

    def _flush(self) -> None:
        """Show what is pending, whether it is a letter or not."""
        if self.pending:
            self.pieces.append(Piece(self._decoded(), sum(logprob for _, logprob in self.pending)))
            self.pending = []


def _rowwise(coefficient: Coefficient) -> Coefficient:
    """The same coefficient for the steered row alone."""
    if callable(coefficient):
        rule = coefficient
        return lambda step: _steered_only(rule(step))
    return _steered_only(coefficient)


def _steered_only(value: object) -> Tensor:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = float(value)
    if not math.isfinite(number(value)):
        raise ValueError(f"coefficient {value!r}: give one finite number")
    row = torch.zeros(3)
    row[STEERED] = number(value)
    return row
