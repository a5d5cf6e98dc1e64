"""Load a language model, find its decoder layers by structure, and check them.

The layer list is the one ModuleList as long as the config says the model is deep, whose
blocks a real forward runs once each, in order, each returning the residual stream. No list
of model names is kept: an architecture that passes the check works, one that does not is
refused with the reason. Knows nothing of steering.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from nnsight import TransformersModel
from torch import Tensor, nn

from workbench.loading import checkpoints
from workbench.loading.devices import check_device
from workbench.loading.fingerprints import fingerprint
from workbench.loading.layers import find_layers, text_config
from workbench.loading.projections import (
    find_attention_outputs,
    find_down_projections,
    find_writers,
)

if TYPE_CHECKING:
    from nnsight import Envoy
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from workbench.interventions.updates import Intervention, Origin

# Arguments that nnsight needs, beside the name, to find the same model on a remote server.
_REMOTE = ("revision", "trust_remote_code")


@dataclass(frozen=True, eq=False)
class LM:
    """A causal language model with its layers found.

    `traced` is nnsight's view of the model, `layer_path` the dotted name of its layer list,
    such as "model.layers". Layer l means the residual stream after block l, counted from 0.
    """

    traced: TransformersModel
    name: str
    layer_path: str

    @property
    def model(self) -> "PreTrainedModel":
        return self.traced._module  # type: ignore[return-value]

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        return self.traced.tokenizer  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where token ids go in; the only device, unless a device map spreads the layers."""
        return self.model.get_input_embeddings().weight.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def width(self) -> int:
        """D, the size of the residual stream."""
        return text_config(self.model).hidden_size

    @property
    def vocabulary(self) -> int:
        """V, the number of logits; the tokenizer may use fewer."""
        return text_config(self.model).vocab_size

    @property
    def context(self) -> int | None:
        """The most positions a text may have, or None where the architecture sets no limit."""
        config = text_config(self.model)
        names = ("max_position_embeddings", "max_seq_len", "n_positions")
        return next((getattr(config, name) for name in names if hasattr(config, name)), None)

    @property
    def layers(self) -> int:
        """L, how many blocks there are."""
        return text_config(self.model).num_hidden_layers

    @property
    def heads(self) -> int:
        """H, how many query heads the attention of a block has."""
        return text_config(self.model).num_attention_heads

    @property
    def blocks(self) -> "Envoy":
        """The traced layer list: `lm.blocks[l].output` inside a trace."""
        return self.traced.get(self.layer_path)

    def down_projection(self, layer: int) -> "Envoy":
        """The traced linear map that ends the MLP of block `layer`: (…, I) -> (…, D).

        Raises ValueError where the block has no single one, as mixtures of experts.
        """
        return self.blocks[layer].get(self.projection_name(layer))

    def attention_output(self, layer: int) -> "Envoy":
        """The traced output projection of the attention of block `layer`: (…, H d) -> (…, D).

        Raises ValueError where its structure does not tell it.
        """
        return self.blocks[layer].get(self.attention_name(layer))

    def attention_name(self, layer: int) -> str:
        """Its dotted name within the block, such as "self_attn.o_proj"; errors as there."""
        return self._attention_output(layer)[0]

    def heads_width(self, layer: int) -> int:
        """H d, the size of what that projection reads; errors as there."""
        return self._attention_output(layer)[1]

    def _attention_output(self, layer: int) -> tuple[str, int]:
        found = self._attention_outputs[layer]
        if found is None:
            raise ValueError(
                f"block {layer} of {self.name!r} ({type(self.model).__name__}) has no attention "
                "whose output projection its structure tells; use the residual stream "
                "(site='residual')"
            )
        return found

    def projection_name(self, layer: int) -> str:
        """Its dotted name within the block, such as "mlp.down_proj"; errors as there."""
        return self._projection(layer)[0]

    def inner_width(self, layer: int) -> int:
        """I, the size of what the down-projection of block `layer` reads; errors as there."""
        return self._projection(layer)[1]

    def _projection(self, layer: int) -> tuple[str, int]:
        found = self._down_projections[layer]
        if found is None:
            raise ValueError(
                f"block {layer} of {self.name!r} ({type(self.model).__name__}) has no single MLP "
                "down-projection that its structure tells (a mixture of experts has one for each "
                "expert): LoRA and local weight have no place there; steer the residual stream "
                "with a vector (form='vector')"
            )
        return found

    def attention_write(self, layer: int) -> "Envoy":
        """What adds the attention of block `layer` to the stream: the norm that follows its output
        projection, or that itself; errors as there."""
        name = self.attention_name(layer)
        return self.blocks[layer].get(self._writers[layer].get(name, name))

    def mlp_write(self, layer: int) -> "Envoy":
        """The same of the MLP and its down-projection."""
        name = self.projection_name(layer)
        return self.blocks[layer].get(self._writers[layer].get(name, name))

    @cached_property
    def _writers(self) -> tuple[dict[str, str], ...]:
        """One small forward, the first time that one is asked for."""
        both = zip(self._attention_outputs, self._down_projections, strict=True)
        names = [[each[0] for each in pair if each is not None] for pair in both]
        return find_writers(self.model, self.layer_path, names)

    @cached_property
    def _attention_outputs(self) -> tuple[tuple[str, int] | None, ...]:
        """One small forward, the first time that one is asked for."""
        return find_attention_outputs(self.model, self.layer_path)

    @cached_property
    def _down_projections(self) -> tuple[tuple[str, int] | None, ...]:
        """One small forward, the first time that one is asked for."""
        return find_down_projections(self.model, self.layer_path)

    @cached_property
    def in_memory(self) -> bool:
        """Whether all weights are on this machine, outside its disk: not so for a model that is
        offloaded, or that runs elsewhere and is only described here."""
        return not any(
            isinstance(w, Tensor) and w.is_meta for w in self.model.state_dict().values()
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the architecture and the weights, computed once, at first use.

        Covers what `fingerprint` says. The same for the same weights however they were loaded;
        another dtype is other weights, another name is not. Weights changed in place afterwards
        are not noticed: load the changed model anew.

        Raises:
            ValueError: weights that are not in memory (meta or offloaded to disk).
        """
        return fingerprint(self.model)

    @property
    def edits(self) -> "tuple[Intervention, ...]":
        """What every forward of it is steered by: nothing, but for an `edit.Edited`."""
        return ()

    def check_origin(self, origin: "Origin") -> None:
        """Raise ValueError unless what was made on `origin` belongs to this model."""
        origin.check(self.name, self.fingerprint)

    def __repr__(self) -> str:
        return (
            f"LM({self.name!r}, layers={self.layers}, width={self.width}, "
            f"vocabulary={self.vocabulary}, context={self.context}, "
            f"dtype={str(self.dtype).removeprefix('torch.')}, device={str(self.device)!r})"
        )


def load(
    name_or_model: "str | Path | PreTrainedModel" = "wren",
    *,
    tokenizer: "str | Path | PreTrainedTokenizerBase | None" = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    **transformers_kwargs: Any,
) -> LM:
    """Load a causal language model and verify its layers with one small forward.

    `name_or_model` is "wren" (bundled), a directory, a hub id, or a model already in memory.
    Files on this machine are used without asking the network; `force_download=True` or
    `revision=` ask for others. `tokenizer` defaults to the model's own.

    `device` defaults to the CPU, or to what a `device_map` says; a model in memory stays
    where it is. `dtype` defaults to float32 on the CPU, where half precision is coarse and
    slow, and to the checkpoint's own elsewhere or when quantised. Given for a model in
    memory, both change that model, as its `.to` does. Every other argument
    (`device_map`, `quantization_config`, `attn_implementation`, `revision`, ...) goes to
    transformers. `trust_remote_code` is off unless asked for.

    Raises:
        FileNotFoundError: no such model on this machine and no network to look for it (within
            5 s), or a directory that holds no model.
        ValueError: an encoder-decoder, a model that is not causal, a checkpoint that lacks
            weights, an unknown dtype, a device that is not here, what is neither name nor model,
            layers that cannot be told, no tokenizer or one
            that cannot pad.
    """
    checkpoints.check_dtype(dtype)
    check_device(device)
    if isinstance(name_or_model, nn.Module):
        if transformers_kwargs:
            given = ", ".join(sorted(transformers_kwargs))
            raise ValueError(f"{given}: only for a name or a path; this model is in memory")
        _check_in_memory(name_or_model)
        model, name = name_or_model, _name_in_memory(name_or_model)
        words = _tokenizer_in_memory(model, tokenizer)
        placement = {"device": device, "dtype": None if dtype == "auto" else dtype}
        model.to(**{key: value for key, value in placement.items() if value is not None})
    else:
        source, name = checkpoints.locate(name_or_model, transformers_kwargs.get("subfolder", ""))
        model, words = checkpoints.read(source, tokenizer, device, dtype, transformers_kwargs)
    layer_path = find_layers(model)
    pinned = {} if getattr(model, "hf_device_map", None) else {"device": model.device}
    kept = {key: transformers_kwargs[key] for key in _REMOTE if key in transformers_kwargs}
    traced = TransformersModel(
        model, task="text-generation", tokenizer=_padding(words), **pinned, **kept
    )
    return LM(traced=traced, name=name, layer_path=layer_path)


def _check_in_memory(model: nn.Module) -> None:
    if not isinstance(model, transformers.PreTrainedModel):
        raise ValueError(
            f"{type(model).__name__} is no transformers model: pass a PreTrainedModel, a "
            "name or a path"
        )
    checkpoints.check_decoder(model.config, type(model).__name__)
    if not model.can_generate():
        raise ValueError(
            f"{type(model).__name__} has no language-model head: load it with "
            "AutoModelForCausalLM, or pass its name"
        )


def _name_in_memory(model: nn.Module) -> str:
    known = str(getattr(model, "name_or_path", "") or "")
    if not known:
        return type(model).__name__
    return Path(known).resolve().name if Path(known).is_dir() else known


def _tokenizer_in_memory(
    model: "PreTrainedModel", tokenizer: "str | Path | PreTrainedTokenizerBase | None"
) -> "PreTrainedTokenizerBase":
    if tokenizer is None and not model.name_or_path:
        raise ValueError(f"{type(model).__name__} in memory has no tokenizer: pass tokenizer=")
    if isinstance(tokenizer, str | Path | None):
        return checkpoints.read_tokenizer(str(tokenizer or model.name_or_path))
    return tokenizer


def _padding(tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    """A copy that pads on the left, with the end-of-text token if it has none to pad with."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has neither a padding nor an end-of-text token: "
                "set tokenizer.pad_token and pass it as tokenizer="
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
