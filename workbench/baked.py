"""What baking gives: a plain model, what was done to it, how equal it is, and its way to disk.

A folder is written beside its place and moved there whole: a full disk leaves nothing behind.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from workbench.baked_card import card
from workbench.formats import save_gguf
from workbench.generate import generate
from workbench.hub import push_folder
from workbench.layers import evaluating, text_config
from workbench.quiet import without_bars
from workbench.store import write_folder
from workbench.streams import model_inputs
from workbench.tokens import Batch, Prompt, encode
from workbench.updates import Intervention
from workbench.vectors import SteeringVector
from workbench.versions import versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from workbench.models import LM

# Of a config, what says which changes are in the weights already.
CONFIG_KEY = "baked"
TOKENS = 64


@dataclass(frozen=True)
class Change:
    """One thing that is baked in; `sha256` tells it from others, whatever its coefficient."""

    kind: str
    layer: int | None
    site: str
    coefficient: float
    sha256: str
    made_on: str


@dataclass(frozen=True)
class Check:
    """How a baked model compares with the traced one, on `tokens` tokens of texts that the latter
    wrote greedily and their prompts.

    difference     of the logits, the largest; `largest` is the largest logit itself
    kl             KL(traced || baked), mean over tokens, nats
    written        tokens that were written; `same` of them the baked model would write too
    kl_bfloat16    KL(traced || baked in bfloat16), mean; `kl_bfloat16_base` is the same of the two
                   models unsteered: what bfloat16 costs anyway
    dtype          of the two models
    """

    tokens: int
    difference: float
    largest: float
    kl: float
    written: int
    same: int
    kl_bfloat16: float
    kl_bfloat16_base: float
    dtype: str

    @property
    def equal(self) -> bool:
        """Logits to 1e-4, or as near as float32 comes where they are large; in half precision a
        divergence of at most 0.01 nats."""
        if self.dtype in ("bfloat16", "float16"):
            return self.kl <= 0.01
        return self.difference <= 1e-4 * max(1.0, self.largest / 10)


@dataclass(frozen=True, eq=False)
class Baked:
    """A model into which changes are baked.

    model        a plain transformers model
    base         name of the model that it was made of, and `fingerprint` of its weights
    weights      names of the weights that differ
    rewritten    the architecture that it is written as, where that is another; else ""
    constants    layer -> what is added to the stream after it, (D,)
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base: str
    fingerprint: str
    changes: tuple[Change, ...]
    weights: tuple[str, ...]
    rewritten: str
    check: Check
    about: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        before = list(getattr(self.model.config, CONFIG_KEY, None) or ())
        new = [{**asdict(each), "base": self.base} for each in self.changes]
        setattr(self.model.config, CONFIG_KEY, [*before, *new])

    def facts(self) -> dict[str, Any]:
        """All that the card says, as JSON values."""
        return {
            "base": self.base,
            "fingerprint": self.fingerprint,
            "changes": [asdict(each) for each in self.changes],
            "weights": list(self.weights),
            "rewritten": self.rewritten,
            "check": asdict(self.check),
            "about": dict(self.about),
            "versions": versions(),
        }

    def save(self, folder: str | os.PathLike[str], *, max_shard_size: str = "5GB") -> Path:
        """Write what `AutoModelForCausalLM.from_pretrained` loads: safetensors, config, tokenizer,
        README.md, provenance.json and, of a vector, control-vector.gguf.

        It is loaded once and must compute the same. Raises FileExistsError for a folder that holds
        something, OSError (a full disk, say), and ValueError where the architecture does not keep
        on disk what it computes; what was there stays and nothing half-written is left.
        """

        def write(place: Path) -> None:
            with without_bars():
                self.model.save_pretrained(place, max_shard_size=max_shard_size)
            self.tokenizer.save_pretrained(place)
            self._require_same(place)
            facts = self.facts()
            control = self._control_vector()
            if control is not None:
                save_gguf(control, place / "control-vector.gguf")
            (place / "README.md").write_text(card(facts, control is not None), encoding="utf-8")
            (place / "provenance.json").write_text(
                json.dumps(facts, indent=1, default=str), encoding="utf-8"
            )

        tensors = {each.data_ptr(): each for each in self.model.state_dict().values()}
        need = sum(each.numel() * each.element_size() for each in tensors.values())
        return write_folder(Path(folder), write, need)

    def _require_same(self, place: Path) -> None:
        """Raise ValueError unless the checkpoint at `place` is this model."""
        with without_bars():
            again = AutoModelForCausalLM.from_pretrained(place, dtype=self.model.dtype)
        ids = torch.arange(8)[None] % text_config(self.model).vocab_size
        with torch.no_grad(), evaluating(self.model), evaluating(again):
            one = self.model(input_ids=ids.to(self.model.device)).logits.float().cpu()
            two = again(input_ids=ids).logits.float()
        coarse = self.model.dtype not in (torch.float32, torch.float64)
        off = float((one - two).abs().max() / one.abs().max())
        if not off <= (0.05 if coarse else 1e-4):
            raise ValueError(
                f"{type(self.model).__name__} is not on disk what it is in memory (logits differ "
                f"by {off:.2g} of the largest); nothing is left of the checkpoint"
            )

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Save, and upload by the hub's own client; returns the address of the commit.

        Raises as `save` and as the client does.
        """
        return push_folder(lambda place: self.save(place), repo_id, private, token)

    def _control_vector(self) -> SteeringVector | None:
        """What is added to the streams, for llama.cpp, which has no place for layer 0."""
        if not self.constants or 0 in self.constants:
            return None
        return SteeringVector(
            directions=self.constants,
            residual_norm={},
            model=self.base,
            fingerprint=self.fingerprint,
            method="baked",
            layer=min(self.constants),
            provenance={"model_type": self.model.config.model_type},
        )


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
    """A baked model against the logits (B, T, V) of the traced one; `lm` is unsteered."""
    here = batch.attention
    one = reference.cpu()[here].float()
    two = logits_of(model, batch)[here]
    next_is_written = torch.roll(batch.completion, -1, dims=1)
    next_is_written[:, -1] = False
    agree = (one.argmax(dim=-1) == two.argmax(dim=-1))[next_is_written[here]]
    plain = logits_of(lm.model, batch)[here]
    return Check(
        tokens=int(here.sum()),
        difference=float((one - two).abs().max()),
        largest=float(one.abs().max()),
        kl=_kl(one, two),
        written=len(agree),
        same=int(agree.sum()),
        kl_bfloat16=_kl(one, _in_bfloat16(model, batch)[here]),
        kl_bfloat16_base=_kl(plain, _in_bfloat16(lm.model, batch)[here]),
        dtype=str(model.dtype).removeprefix("torch."),
    )


def logits_of(model: PreTrainedModel, batch: Batch) -> Tensor:
    """(B, T, V) float32 on the CPU, by transformers alone."""
    inputs = {name: each.to(model.device) for name, each in model_inputs(model, batch).items()}
    with torch.no_grad(), evaluating(model):
        return model(**inputs, use_cache=False).logits.float().cpu()


def _in_bfloat16(model: PreTrainedModel, batch: Batch) -> Tensor:
    if model.dtype == torch.bfloat16:
        return logits_of(model, batch)
    coarse = copy.deepcopy(model)
    nn.Module.to(coarse, dtype=torch.bfloat16)
    return logits_of(coarse, batch)


def _kl(one: Tensor, two: Tensor) -> float:
    """Mean KL(one || two) over tokens, nats, of logits (n, V)."""
    p, q = one.log_softmax(dim=-1), two.log_softmax(dim=-1)
    return float((p.exp() * (p - q)).sum(dim=-1).clamp_min(0).mean())
