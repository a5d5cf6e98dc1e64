"""The same function written with more biases: a model's relatives, in which a constant has room.

First the model's own architecture with one of its settings turned on that adds biases (`mlp_bias`
of a Llama, `attention_bias` of a Cohere, `bias` of a Falcon), all zero; then, for the many that are
a Llama but for their settings, a Llama with `mlp_bias`. Which these are is told by their weights,
which must be a Llama's by name and shape, and by a forward with positions up to the end of the
context. A relative shares the weights of the model; one that does not give its logits is none.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from workbench.layers import evaluating, text_config
from workbench.streams import model_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# What a Llama's config says in the words of the others'.
_SHARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "rope_parameters",
)


def twin(
    model: PreTrainedModel,
    config: PreTrainedConfig | None = None,
    kind: type[PreTrainedModel] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> PreTrainedModel | None:
    """A model of its own that shares the tensors of another, under another config perhaps; biases
    that the other lacks are zero. None where other weights are missing, or some are left over."""
    kind = kind or type(model)
    config = copy.deepcopy(config or model.config)
    state = dict(model.state_dict() if weights is None else weights)
    with torch.device("meta"):
        empty = kind(copy.deepcopy(config)).state_dict()
    missing = set(empty) - set(state)
    changed = any(state[name].shape != empty[name].shape for name in set(empty) & set(state))
    if set(state) - set(empty) or changed or not all(name.endswith("bias") for name in missing):
        return None
    like = {"dtype": model.dtype, "device": model.device}
    state |= {name: torch.zeros(empty[name].shape, **like) for name in missing}
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        made = kind.from_pretrained(
            None,  # type: ignore[arg-type]
            config=config,
            state_dict=state,
            dtype=model.dtype,
            attn_implementation=model.config._attn_implementation,
        )
    finally:
        if shown:
            logging.enable_progress_bar()
    made.generation_config = copy.deepcopy(model.generation_config)
    nn.Module.to(made, device=model.device)
    return made.eval()


def relatives(model: PreTrainedModel) -> Iterator[tuple[PreTrainedModel | None, str]]:
    """The model itself (called ""), then its relatives, each with how it is written, in words; None
    for one that does not compute the same, with the reason."""
    own = twin(model)
    assert own is not None
    yield own, ""
    for name in _switches(model):
        config = copy.deepcopy(model.config)
        setattr(config.get_text_config(decoder=True), name, True)
        made = twin(model, config)
        if made is not None and _same(model, made):
            yield made, f"{type(model).__name__} with {name}=True"
    yield _as_llama(model)


def _switches(model: PreTrainedModel) -> list[str]:
    """Settings that are off and speak of biases."""
    settings = text_config(model).to_dict()
    return [name for name, value in settings.items() if "bias" in name and value is False]


def _as_llama(model: PreTrainedModel) -> tuple[PreTrainedModel | None, str]:
    """The same function as a Llama with biases in its MLPs; None and why, where it is not exact.

    Not exact is also a sliding window within the context, which short texts do not show.
    """
    what, given = "LlamaForCausalLM with mlp_bias=True", text_config(model)
    if not hasattr(given, "rms_norm_eps"):
        return None, f"{what}, which has other norms"
    kinds = getattr(given, "layer_types", None)
    window = getattr(given, "sliding_window", None)
    slides = kinds is None or any("sliding" in kind for kind in kinds)
    context = getattr(given, "max_position_embeddings", 0)
    if slides and window is not None and window < context:
        return None, f"{what}, which has no attention window of {window} tokens"
    weights = _unfused(model.state_dict(), given)
    settings = {name: getattr(given, name) for name in _SHARED if hasattr(given, name)}
    config = LlamaConfig(
        **copy.deepcopy(settings),
        attention_bias=any(name.endswith("q_proj.bias") for name in weights),
        mlp_bias=True,
    )
    made = twin(model, config, LlamaForCausalLM, weights)
    if made is None:
        return None, f"{what}, which has other weights"
    if not _same(model, made):
        return None, f"{what}, whose logits are others"
    return made, what


def _unfused(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """Weights in which each projection stands alone, as in a Llama (Phi-3 keeps them in one)."""
    heads, inner = config.num_attention_heads, config.intermediate_size
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    fused = {
        "qkv_proj": {"q_proj": heads * size, "k_proj": groups * size, "v_proj": groups * size},
        "gate_up_proj": {"gate_proj": inner, "up_proj": inner},
    }
    found: dict[str, Tensor] = {}
    for name, weight in state.items():
        whole = next((each for each in fused if f".{each}." in name), None)
        if whole is None or weight.shape[0] != sum(fused[whole].values()):
            found[name] = weight
            continue
        parts = weight.split(list(fused[whole].values()))
        for part, rows in zip(fused[whole], parts, strict=True):
            found[name.replace(whole, part)] = rows.contiguous()
    return found


@torch.no_grad()
def _same(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Whether the logits of 2 x 24 tokens agree, the positions of half of them far apart."""
    config, noise = text_config(model), torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (2, 24), generator=noise).to(model.device)
    end = (getattr(config, "max_position_embeddings", None) or 24) - 1
    far = torch.linspace(0, end, 24).long().tolist() if end >= 23 else range(24)
    positions = torch.tensor([list(range(24)), list(far)], device=model.device)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "position_ids" in model_parameters(model):
        inputs["position_ids"] = positions
    with evaluating(model):
        one = model(**inputs, use_cache=False).logits.float()
    two = other(**inputs, use_cache=False).logits.float()
    coarse = model.dtype not in (torch.float32, torch.float64)
    return bool((one - two).abs().max() <= (2e-2 if coarse else 1e-5) * one.abs().max())
