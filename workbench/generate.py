"""Text written by a steered model, with its log-probabilities.

Decoding stays greedy inside transformers' `generate`; a single logits processor makes it sample.
Token v of row b at step s is drawn by the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014,
"A* Sampling"):

    argmax over v of  logits[v] / temperature + g[v],   g = -log(-log(u)),   u uniform

with u from a counter-based generator (Philox, Salmon et al. 2011) keyed by the seed and the row's
stream, its counter being the step. A text therefore depends on its own stream alone: not on its
neighbours, the chunking, or how many rows there are; and rows that share a stream (all
coefficients of one prompt) share their noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from workbench import scoring, tracing
from workbench.completions import decode_completions
from workbench.distributions import entropy
from workbench.tokens import Batch, Prompt, pad_id, to_batch
from workbench.tracing import Remote
from workbench.updates import Intervention

if TYPE_CHECKING:
    from workbench.models import LM


@dataclass(frozen=True, eq=False)
class Generation:
    """B generated completions of up to N tokens.

    ids                 (B, N) long, the pad token after a text's end
    lengths             (B,) long, tokens of each text, its end token included
    texts               the completions, special tokens left out
    logprobs_steered    (B, N) log P(token) under the steered model that wrote it
    logprobs_unsteered  (B, N) the same under the unsteered model, or None if not scored
    entropy             (B, N) of the steered next-token distribution
    kl                  (B, N) KL(steered || unsteered) of the next-token distributions, or None
    batch               the prompts

    All in nats, of the models' own distributions (temperature 1, no penalty), float32, NaN after
    a text's end.
    """

    ids: Tensor
    lengths: Tensor
    texts: list[str]
    logprobs_steered: Tensor
    logprobs_unsteered: Tensor | None
    entropy: Tensor
    kl: Tensor | None
    batch: Batch = field(repr=False)


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen from its logits; a temperature of 0 takes the largest."""

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    seed: int = 0
    streams: tuple[int, ...] = ()


def generate(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    interventions: Sequence[Intervention] = (),
    *,
    new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
    streams: Sequence[int] | None = None,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    min_new_tokens: int = 0,
    score: bool = True,
    kl: bool = False,
    streamer: Any = None,
    stopping: Sequence[Callable[..., Any]] = (),
    remote: Remote = False,
) -> Generation:
    """Continue each prompt by up to `new_tokens` tokens under the interventions.

    Args:
        lm: The model.
        prompts: Texts or chats, or a batch that `tokens.encode` made.
        interventions: What is steered; a tensor coefficient has one number per row.
        new_tokens: The most tokens to generate, N.
        temperature: 0 is greedy; else the logits are divided by it before sampling.
        seed: The key of the sampling noise.
        streams: One number per row; equal numbers share their noise. Default: 0, 1, 2, …
        top_p: Sample among the most likely tokens that hold this share of the probability.
        repetition_penalty: Logits of the row's earlier tokens are divided by it if positive,
            multiplied if negative (Keskar et al. 2019, CTRL).
        min_new_tokens: The end token is forbidden before so many tokens.
        score: Also score the texts under the unsteered model, by one more forward.
        kl: Also compare the next-token distributions, in the same forward; keeps (B, N, V)
            float32 in memory.
        streamer: Gets the new ids as they come (transformers' protocol).
        stopping: Stopping criteria of transformers: what was made so far is returned.
        remote: True runs on NDIF, "local" simulates that here.

    Raises ValueError before any work for arguments out of range, a prompt that does not fit the
    context with its new tokens, and whatever `tokens.encode` and `tracing.plan` refuse.
    """
    check_sampling(new_tokens, temperature, top_p, repetition_penalty, min_new_tokens, seed)
    batch = to_batch(lm, prompts, new_tokens=new_tokens)
    rows = len(batch)
    chosen = tuple(range(rows)) if streams is None else tuple(int(s) for s in streams)
    if len(chosen) != rows:
        raise ValueError(f"{len(chosen)} streams for {rows} rows; give one for each")
    if chosen and min(chosen) < 0:
        raise ValueError(f"stream {min(chosen)} is negative; number the streams from 0")
    ends = end_ids(lm)
    sampling = Sampling(temperature, top_p, repetition_penalty, min_new_tokens, seed, chosen)
    chooser = Chooser(sampling, batch, ends, keep=kl)
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        max_new_tokens=new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=pad_id(lm),
        # What a checkpoint's own generation settings would otherwise slip in.
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_length=0,
    )
    ids, record = tracing.decode(
        lm,
        batch,
        interventions,
        config,
        chooser,
        streamer=streamer,
        stopping=stopping,
        remote=remote,
    )
    made = ids.shape[1]
    lengths = text_lengths(ids, ends)
    ended = torch.arange(made) >= lengths[:, None]
    ids = ids.masked_fill(ended, pad_id(lm))
    texts = decode_completions(
        lm.tokenizer, [row[:n] for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]
    )

    def shaped(values: Tensor, fill: float) -> Tensor:
        """(B, n) -> (B, N), NaN (or padding) after each text's end."""
        values = values[:, :made].masked_fill(ended, fill)
        return torch.nn.functional.pad(values, (0, new_tokens - made), value=fill)

    unsteered, divergence = None, None
    if score or kl:
        written = batch.extend(ids, lengths, texts)
        unsteered, divergence = _score(lm, written, made, record.get("logprobs"), remote)
    return Generation(
        ids=shaped(ids, pad_id(lm)),
        lengths=lengths,
        texts=texts,
        logprobs_steered=shaped(record["chosen"], torch.nan),
        logprobs_unsteered=(
            shaped(unsteered, torch.nan) if score and unsteered is not None else None
        ),
        entropy=shaped(record["entropy"], torch.nan),
        kl=shaped(divergence, torch.nan) if divergence is not None else None,
        batch=batch,
    )


def check_sampling(
    new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    min_new_tokens: int = 0,
    seed: int = 0,
) -> None:
    """Raises ValueError for what `generate` could not do, see there."""
    if not isinstance(new_tokens, Integral) or new_tokens < 1:
        raise ValueError(f"new_tokens {new_tokens!r}: give a whole number of at least 1")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature {temperature!r}: give 0 (greedy) or a positive number")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p {top_p!r}: give a share in (0, 1]")
    if not 0 < repetition_penalty < float("inf"):
        raise ValueError(f"repetition_penalty {repetition_penalty!r}: give a positive number")
    if not 0 <= min_new_tokens <= new_tokens:
        raise ValueError(f"min_new_tokens {min_new_tokens!r}: give 0 … {new_tokens}")
    if not isinstance(seed, Integral) or not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed!r}: give a whole number from 0 to 2**64 - 1")


def end_ids(lm: LM) -> tuple[int, ...]:
    """The token ids that end a text: the generation settings' own, else the tokenizer's."""
    ends = getattr(lm.model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = lm.tokenizer.eos_token_id
    if ends is None:
        return ()
    return (int(ends),) if isinstance(ends, int) else tuple(int(i) for i in ends)


def text_lengths(ids: Tensor, ends: Sequence[int]) -> Tensor:
    """How many of each row's ids (B, n) belong to its text, the first end token included: (B,)."""
    is_end = torch.isin(ids, torch.tensor(ends, dtype=torch.long))
    before = (is_end.cumsum(dim=1) - is_end.long()) == 0
    return before.sum(dim=1)


def _score(
    lm: LM, written: Batch, made: int, steered: Tensor | None, remote: Remote
) -> tuple[Tensor, Tensor | None]:
    """Under the unsteered model: log-probabilities (B, n) of the texts, and with the steered
    log-probabilities (B, n, V) of every token the KL divergence (B, n); both in one forward."""
    if steered is None:
        return tracing.logprobs(lm, written, remote=remote)[:, -made:], None
    # Prompts may end in completions of their own: what was just made alone is scored.
    fresh = replace(written, starts=torch.full_like(written.starts, written.width - made))
    scores = scoring.score(lm, fresh, steered=steered[:, :made], remote=remote)
    return scores.logprobs, scores.kl


# ---- choosing tokens ----------------------------------------------------------------------------


class Chooser:
    """The logits processor of one decoding: remembers what the model said, then picks.

    It takes the raw logits (B, V), records entropy and the log-probability of its choice, and
    returns scores whose largest entry is that choice.
    """

    def __init__(
        self, sampling: Sampling, batch: Batch, ends: tuple[int, ...], keep: bool = False
    ) -> None:
        self.sampling = sampling
        self.ids = batch.ids
        self.attention = batch.attention
        self.ends = ends
        self.keep = keep
        self.seen: Tensor | None = None
        self.chosen: list[Tensor] = []
        self.entropy: list[Tensor] = []
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = len(self.chosen)
        logprobs = scores.log_softmax(dim=-1)
        choice = self._adjust(input_ids, scores, step)
        picked = choice.argmax(dim=-1, keepdim=True)
        self.chosen.append(logprobs.gather(-1, picked)[:, 0])
        self.entropy.append(entropy(logprobs))
        if self.keep:
            self.logprobs.append(logprobs)
        return choice

    def record(self) -> dict[str, Tensor]:
        """chosen and entropy (B, n); logprobs (B, n, V) if kept."""
        kept = {"logprobs": torch.stack(self.logprobs, dim=1)} if self.keep else {}
        return {
            "chosen": torch.stack(self.chosen, dim=1),
            "entropy": torch.stack(self.entropy, dim=1),
            **kept,
        }

    def _adjust(self, input_ids: Tensor, scores: Tensor, step: int) -> Tensor:
        how = self.sampling
        if how.repetition_penalty != 1.0:
            scores = self._penalize(input_ids, scores, step)
        if step < how.min_new_tokens and self.ends:
            scores = scores.clone()
            scores[:, list(self.ends)] = -torch.inf
        if how.temperature == 0:
            return scores
        scores = scores / how.temperature
        if how.top_p < 1:
            scores = nucleus(scores, how.top_p)
        noise = gumbel(how.seed, how.streams, step, scores.shape[-1])
        return scores + torch.from_numpy(noise).to(scores)

    def _penalize(self, input_ids: Tensor, scores: Tensor, step: int) -> Tensor:
        """The penalty counts a row's real tokens only: padding belongs to its neighbours."""
        if self.seen is None:
            self.seen = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
            rows, columns = self.attention.nonzero(as_tuple=True)
            self.seen[rows.to(scores.device), self.ids[rows, columns].to(scores.device)] = True
        else:
            self.seen.scatter_(1, input_ids[:, -1:], True)
        penalty = self.sampling.repetition_penalty
        penalized = torch.where(scores > 0, scores / penalty, scores * penalty)
        return torch.where(self.seen, penalized, scores)


def nucleus(scores: Tensor, share: float) -> Tensor:
    """Scores (B, V) with -inf outside the smallest set of tokens that holds `share` of the
    probability (Holtzman et al. 2020); the most likely token always stays."""
    ordered, order = scores.sort(dim=-1, descending=True)
    before = ordered.softmax(dim=-1).cumsum(dim=-1).roll(1, dims=-1)
    before[:, 0] = 0
    return scores.masked_fill(
        torch.zeros_like(scores).bool().scatter(1, order, before >= share), -torch.inf
    )


def gumbel(seed: int, streams: Sequence[int], step: int, vocabulary: int) -> np.ndarray:
    """Standard Gumbel noise (B, V), float32: row b at this step depends on the seed and
    streams[b] alone."""
    distinct, rows = np.unique(np.asarray(streams, dtype=np.uint64), return_inverse=True)
    uniform = np.empty((len(distinct), vocabulary))
    for index, stream in enumerate(distinct):
        # The lowest counter word advances within a step, the next one holds the step.
        bits = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=[0, step, 0, 0])
        np.random.Generator(bits).random(out=uniform[index])
    np.maximum(uniform, np.finfo(np.float64).tiny, out=uniform)
    return (-np.log(-np.log(uniform))).astype(np.float32)[rows]
