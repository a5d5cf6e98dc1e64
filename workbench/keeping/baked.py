"""What baking gives: a plain model, what was done to it, how equal it is, and its way to disk.

A folder is written beside its place and moved there whole: a full disk leaves nothing behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from workbench.keeping.baked_card import card
from workbench.keeping.baked_changes import Change, records
from workbench.keeping.baked_check import Check
from workbench.loading.hub import push_folder
from workbench.loading.layers import evaluating, text_config
from workbench.support.quiet import without_bars
from workbench.support.store import write_folder
from workbench.support.versions import versions
from workbench.vectors.formats import save_gguf
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONTROL = "control-vector.gguf"
# What an upload may have left in a repository that the next one has not: shards or none, and a
# control vector.
OWN = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", CONTROL)


@dataclass(frozen=True, eq=False)
class Baked:
    """A model into which changes are baked.

    model        a plain transformers model, whose config lists all that was ever baked into it
    base         name of the model that it was made of, and `fingerprint` of its weights
    changes      what was done to that
    weights      names of the weights that differ
    rewritten    the architecture that it is written as, where that is another; else ""
    untied       whether output embeddings that were tied to the input's are weights of their own
    constants    layer -> what is added to the stream after it, (D,), times its coefficients, where
                 nothing else was done; else empty
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    base: str
    fingerprint: str
    changes: tuple[Change, ...]
    weights: tuple[str, ...]
    rewritten: str
    check: Check
    untied: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, Tensor] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """All that the card says, as JSON values; `baked` is `changes` and what was baked into the
        base before."""
        return {
            "base": self.base,
            "fingerprint": self.fingerprint,
            "changes": [asdict(each) for each in self.changes],
            "baked": records(self.model.config),
            "weights": list(self.weights),
            "rewritten": self.rewritten,
            "untied": self.untied,
            "check": asdict(self.check),
            "about": dict(self.about),
            "versions": versions(),
        }

    def save(self, folder: str | os.PathLike[str], *, max_shard_size: str = "5GB") -> Path:
        """Write what `AutoModelForCausalLM.from_pretrained` loads: safetensors, config, tokenizer,
        README.md, provenance.json and, of vectors alone, control-vector.gguf.

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
                save_gguf(control, place / CONTROL)
            (place / "README.md").write_text(card(facts, control is not None), encoding="utf-8")
            (place / "provenance.json").write_text(
                json.dumps(facts, indent=1, default=str), encoding="utf-8"
            )

        tensors = {each.data_ptr(): each for each in self.model.state_dict().values()}
        need = sum(each.numel() * each.element_size() for each in tensors.values())
        return write_folder(Path(folder), write, need)

    def _require_same(self, place: Path) -> None:
        """Raise ValueError unless the checkpoint at `place` is this model: the same weights bit by
        bit, and the same logits."""
        with without_bars():
            again = AutoModelForCausalLM.from_pretrained(place, dtype=self.model.dtype)
        here, there = self.model.state_dict(), again.state_dict()
        other = sorted(
            name
            for name in {*here, *there}
            if name not in here
            or name not in there
            or not torch.equal(here[name].cpu(), there[name].cpu())
        )
        ids = torch.arange(8)[None] % text_config(self.model).vocab_size
        with torch.no_grad(), evaluating(self.model), evaluating(again):
            one = self.model(input_ids=ids.to(self.model.device)).logits.float().cpu()
            two = again(input_ids=ids).logits.float()
        coarse = self.model.dtype not in (torch.float32, torch.float64)
        off = float((one - two).abs().max() / one.abs().max())
        if other or not off <= (0.05 if coarse else 1e-4):
            raise ValueError(
                f"{type(self.model).__name__} is not on disk what it is in memory "
                f"({f'weights that differ: {other[0]!r}, …; ' if other else ''}logits differ "
                f"by {off:.2g} of the largest); nothing is left of the checkpoint"
            )

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Save, and upload by the hub's own client; returns the address of the commit.

        The upload also deletes what an earlier upload left under our names (shards, a control
        vector). Raises as `save` and as the client does, and ValueError for a repository that is
        public already unless `private` is False.
        """
        return push_folder(lambda place: self.save(place), repo_id, private, token, OWN)

    def _control_vector(self) -> SteeringVector | None:
        """What is added to the streams, for llama.cpp, which has no place for layer 0: its loader
        refuses `direction.0`, and adds `direction.k` to the output of block k, counted from 0
        (common/common.cpp and src/llama-adapter.cpp there)."""
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
