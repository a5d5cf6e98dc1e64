"""Text written by a steered model, with its log-probabilities.

Decoding stays greedy inside transformers' `generate`; a single logits processor (sampling.py) makes
it sample. This module knows how a text begins, ends and is scored, and nothing of how a token is
chosen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from workbench.forward import decoding, tracing
from workbench.forward.decoding import Watch
from workbench.forward.tracing import Remote
from workbench.generation import overflow, scoring
from workbench.generation.sampling import Chooser, Sampling, check_sampling, check_streams
from workbench.interventions.updates import Intervention
from workbench.text.completions import decode_completions
from workbench.text.positions import Positions, mask, select
from workbench.text.tokens import Batch, Prompt, pad_id, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True, eq=False)
class Generation:
    """B generated completions of up to N tokens.

    ids                 (B, N) long, the pad token after a text's end
    lengths             (B,) long, tokens of each text, its end token included
    texts               the completions without the token that ends them; special tokens within
                        are shown
    logprobs_steered    (B, N) log P(token) under the steered model that wrote it
    logprobs_unsteered  (B, N) the same under the unsteered model, or None if not scored
    entropy             (B, N) of the steered next-token distribution
    kl                  (B, N) KL(steered || unsteered) of the next-token distributions, or None
    batch               the prompts
    overflowed          (B,) bool, texts with a token whose logits said nothing, because the
                        steered stream had overflowed its number format (overflow.py)

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
    overflowed: Tensor = field(repr=False)


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
    watch: Watch | None = None,
    streamer: Any = None,
    stopping: Sequence[Callable[..., Any]] = (),
    remote: Remote = False,
    quiet: bool = False,
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
        kl: Also compare the next-token distributions, by one more forward under the interventions;
            holds two tables of logits (B, N, V) at a time.
        watch: What is steered while it looks on, beside the interventions (watching.py).
        streamer: Gets the new ids as they come (transformers' protocol).
        stopping: Stopping criteria of transformers: what was made so far is returned.
        remote: True runs on NDIF, "local" simulates that here.
        quiet: Do not warn of texts that overflowed.

    Texts under a coefficient so large that the stream overflows mean nothing: one warning names
    their rows and coefficients.

    Raises ValueError before any work for arguments out of range, a prompt that does not fit the
    context with its new tokens, and whatever `tokens.encode` and `tracing.plan` refuse.
    """
    check_sampling(new_tokens, temperature, top_p, repetition_penalty, min_new_tokens, seed)
    batch = to_batch(lm, prompts, new_tokens=new_tokens)
    rows = len(batch)
    chosen = tuple(range(rows)) if streams is None else check_streams(streams, rows)
    ends = end_ids(lm)
    sampling = Sampling(temperature, top_p, repetition_penalty, min_new_tokens, seed, chosen)
    chooser = Chooser(sampling, batch, ends)
    config = generation_config(lm, new_tokens, ends)
    ids, record = decoding.decode(
        lm,
        batch,
        interventions,
        config,
        chooser,
        watch=watch,
        streamer=streamer,
        stopping=stopping,
        remote=remote,
    )
    if watch is not None:
        interventions = [*interventions, *watch.done(record)]
    made = ids.shape[1]
    lengths = text_lengths(ids, ends)
    ended = torch.arange(made) >= lengths[:, None]
    ids = ids.masked_fill(ended, pad_id(lm))
    lost = overflow.overflowed(
        record["chosen"][:, :made],
        record["entropy"][:, :made],
        ended,
        lm.vocabulary,
        steered=bool(interventions),
    )
    if lost.any() and not quiet:
        warnings.warn(overflow.said(lost, interventions), stacklevel=2)
    own = [row[:n] for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]
    # A special token within a text was written by mistake: it is shown, or nobody would know.
    texts = decode_completions(
        lm.tokenizer,
        [row[:-1] if row and row[-1] in ends else row for row in own],
        skip_special_tokens=False,
    )

    def shaped(values: Tensor, fill: float) -> Tensor:
        """(B, n) -> (B, N), NaN (or padding) after each text's end."""
        values = values[:, :made].masked_fill(ended, fill)
        return torch.nn.functional.pad(values, (0, new_tokens - made), value=fill)

    unsteered, divergence = None, None
    if score or kl:
        written = batch.extend(ids, lengths, texts)
        unsteered, divergence = _score(lm, batch, interventions, written, kl, remote)
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
        overflowed=lost,
    )


def generation_config(lm: LM, new_tokens: int, ends: Sequence[int]) -> GenerationConfig:
    """Settings under which transformers decodes greedily: the logits processor chooses."""
    return GenerationConfig(
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
    lm: LM,
    batch: Batch,
    interventions: Sequence[Intervention],
    written: Batch,
    kl: bool,
    remote: Remote,
) -> tuple[Tensor, Tensor | None]:
    """Of the n tokens that `written` has beyond `batch`: their log-probabilities (B, n) under the
    unsteered model and, with `kl`, the divergence (B, n) of the steered one."""
    made = written.width - batch.width
    if not kl:
        return tracing.logprobs(lm, written, remote=remote)[:, -made:], None

    def extended(rule: Positions) -> Positions:
        """What a rule touched while the text was written: a mask has the prompts' columns only."""
        later = torch.full((len(batch), made), bool(rule.generated))
        return mask(torch.cat([select(lm, batch, rule), later], dim=1))

    same = [replace(each, positions=extended(each.positions)) for each in interventions]
    scores = scoring.score(lm, written, steered_by=same, remote=remote)
    # Prompts may end in completions of their own, which are scored as well.
    divergence = None if scores.kl is None else scores.kl[:, -made:]
    return scores.logprobs[:, -made:], divergence
