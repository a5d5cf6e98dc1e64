"""How equal a baked model is to the model under the same change while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.forward.streams import model_inputs
from workbench.generation.generate import generate
from workbench.interventions.updates import Intervention
from workbench.keeping.relatives import twin
from workbench.loading.layers import evaluating
from workbench.text.tokens import Batch, Prompt, encode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from workbench.loading.models import LM

TOKENS = 64
# Of the divergence that the change makes, how much may be left between the two: a fiftieth is an
# error of about a seventh in the logits' moves. Half precision rounds what is added.
SHARE = 0.02


@dataclass(frozen=True)
class Check:
    """How a baked model compares with the traced one, on texts that the latter wrote greedily.

    prompts        the texts that were continued
    tokens         that were compared; `written` of them were written, the rest are the prompts'
    difference     of the logits, the largest; `largest` is the largest logit itself
    kl             KL(traced || baked), mean over tokens, nats; `kl_largest` at the worst token
    moved          KL(traced || unsteered), mean: what there is to be right about
    same           tokens that the baked model writes greedily as they were written, up to the
                   first that is another: so far it is read on the text that it wrote itself
    parted         the first token, counted from 1, at which they part in any text; None if never
    kl_bfloat16    KL(traced || baked, loaded in bfloat16), mean, and `kl_bfloat16_largest`;
                   `kl_bfloat16_base` is the mean of the two models unsteered: what bfloat16 costs
                   anyway. All None where the models are in half precision already
    dtype          of the two models
    """

    prompts: tuple[str, ...]
    tokens: int
    difference: float
    largest: float
    kl: float
    kl_largest: float
    moved: float
    written: int
    same: int
    parted: int | None
    kl_bfloat16: float | None
    kl_bfloat16_largest: float | None
    kl_bfloat16_base: float | None
    dtype: str

    @property
    def equal(self) -> bool:
        """Logits to 1e-4, or as near as float32 comes where they are large; in half precision a
        divergence of at most 0.01 nats. And in any precision at most a fiftieth of the divergence
        that the change itself makes: with nothing written it would be all of it."""
        if self.dtype in ("bfloat16", "float16"):
            near = self.kl <= 0.01
        else:
            near = self.difference <= 1e-4 * max(1.0, self.largest / 10)
        return near and self.kl <= SHARE * self.moved


def written(lm: LM, prompts: Sequence[Prompt], interventions: Sequence[Intervention]) -> Batch:
    """Prompts with up to 64 tokens that the steered model writes greedily."""
    batch = encode(lm, prompts)
    room = TOKENS if lm.context is None else min(TOKENS, lm.context - batch.width)
    if room < 1:
        raise ValueError(f"prompts of {batch.width} tokens fill the context; give shorter ones")
    made = generate(lm, batch, interventions, new_tokens=room, score=False)
    return batch.extend(made.ids, made.lengths)


@torch.no_grad()
def compare(lm: LM, reference: Tensor, model: PreTrainedModel, batch: Batch) -> Check:
    """A baked model against the logits (B, T, V) of the traced one, which wrote `batch`; of `lm`
    the model itself is taken, which is unsteered. One copy of a model is made at a time."""
    here = batch.attention
    one = reference.cpu()[here].float()
    baked = logits_of(model, batch)
    agreed, lengths = _agreed(batch, baked)
    two = baked[here]
    plain = logits_of(lm.model, batch)[here]
    apart, coarse, coarse_base = kl(one, two), None, None
    if model.dtype in (torch.float32, torch.float64):
        coarse = kl(one, _in_bfloat16(model, batch)[here])
        coarse_base = kl(plain, _in_bfloat16(lm.model, batch)[here])
    parted = [count for count, length in zip(agreed, lengths, strict=True) if count < length]
    return Check(
        prompts=tuple(prompt.text for prompt in batch.prompts),
        tokens=int(here.sum()),
        difference=float((one - two).abs().max()),
        largest=float(one.abs().max()),
        kl=float(apart.mean()),
        kl_largest=float(apart.max()),
        moved=float(kl(one, plain).mean()),
        written=sum(lengths),
        same=sum(agreed),
        parted=min(parted) + 1 if parted else None,
        kl_bfloat16=None if coarse is None else float(coarse.mean()),
        kl_bfloat16_largest=None if coarse is None else float(coarse.max()),
        kl_bfloat16_base=None if coarse_base is None else float(coarse_base.mean()),
        dtype=str(model.dtype).removeprefix("torch."),
    )


def require_equal(check: Check, other: str) -> None:
    """Raise ValueError unless the baked model computes the same as `other` (a plural)."""
    if not check.equal:
        raise ValueError(
            f"the baked model does not compute what {other} do: logits differ by "
            f"{check.difference:.3g} (largest {check.largest:.3g}), KL {check.kl:.3g} nats a token "
            f"in {check.dtype}, where the change itself makes {check.moved:.3g}; it is not given "
            "out. Keep the model edited (from workbench.keeping.edit import edit), or, where the "
            "change is too weak for the precision, bake in float32"
        )


def logits_of(model: PreTrainedModel, batch: Batch) -> Tensor:
    """(B, T, V) float32 on the CPU, by transformers alone."""
    inputs = {name: each.to(model.device) for name, each in model_inputs(model, batch).items()}
    with torch.no_grad(), evaluating(model):
        return model(**inputs, use_cache=False).logits.float().cpu()


def kl(one: Tensor, two: Tensor) -> Tensor:
    """KL(one || two) at each token, (n,) float64, nats, of logits (n, V). Token by token, as a
    large vocabulary in float64 takes much memory."""

    def of(a: Tensor, b: Tensor) -> Tensor:
        p, q = a.double().log_softmax(dim=-1), b.double().log_softmax(dim=-1)
        return (p.exp() * (p - q)).sum().clamp_min(0)

    return torch.stack([of(a, b) for a, b in zip(one, two, strict=True)])


def _in_bfloat16(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits of the model as `from_pretrained(dtype=bfloat16)` makes it: the weights are cast, what
    it computes for itself (rotary frequencies) is not."""
    coarse = twin(model, dtype=torch.bfloat16)
    assert coarse is not None
    return logits_of(coarse, batch)


def _agreed(batch: Batch, logits: Tensor) -> tuple[list[int], list[int]]:
    """Of each text, how many tokens a model with these logits (B, T, V) would write as they were
    written before another comes, and how many were written."""
    start = int(batch.starts.min())
    real, ids = batch.completion[:, start:], batch.ids[:, start:]
    own = logits[:, start - 1 : -1].argmax(dim=-1)
    other = (own != ids) & real
    agreed = (real & (other.cumsum(dim=1) == 0)).sum(dim=1)
    return agreed.tolist(), real.sum(dim=1).tolist()
