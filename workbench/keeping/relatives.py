"""The same function written with more biases: a model's relatives, in which a constant has room.

First the model's own architecture with one of its settings turned on that adds biases (`mlp_bias`
of a Llama, `attention_bias` of a Cohere, `bias` of a Falcon), all zero. Then families of the Llama
kind that have `mlp_bias`: Llama itself, SmolLM3 (whose attention may have windows) and Hunyuan 3
with dense MLPs (whose queries and keys are normed, as Qwen3's are). What belongs where is told by
the weights, which must be the family's by name and shape, and by a forward with positions up to the
end of the context. A relative shares the weights of the model; one that does not give its logits is
none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor, nn

from workbench.forward.streams import model_parameters
from workbench.loading.layers import evaluating, text_config
from workbench.support.quiet import without_bars

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# What configs of the Llama kind say in the same words.
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


@dataclass(frozen=True)
class _Family:
    """One that has `mlp_bias`: what its classes are called, whether attention may have windows, and
    what its config needs beside the shared settings."""

    name: str
    windows: bool
    settings: Callable[[PreTrainedConfig], dict[str, Any]]


def _windowed(given: PreTrainedConfig) -> dict[str, Any]:
    """A SmolLM3 all of whose layers rotate, with the windows of another."""
    layers, window = given.num_hidden_layers, _window(given)
    kinds = getattr(given, "layer_types", None) or ["sliding_attention"] * layers
    return {
        "no_rope_layers": [1] * layers,
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": list(kinds) if window else ["full_attention"] * layers,
    }


_FAMILIES = (
    _Family("Llama", False, lambda given: {}),
    _Family("SmolLM3", True, _windowed),
    _Family("HYV3", False, lambda given: {"mlp_layer_types": ["dense"] * given.num_hidden_layers}),
)


def twin(
    model: PreTrainedModel,
    config: PreTrainedConfig | None = None,
    kind: type[PreTrainedModel] | None = None,
    weights: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> PreTrainedModel | None:
    """A model of its own that shares the tensors of another, under another config perhaps; biases
    that the other lacks are zero. In another dtype it has copies, as a checkpoint that is loaded so
    has. None where other weights are missing, or some are left over."""
    kind = kind or type(model)
    config = copy.deepcopy(config or model.config)
    state = dict(model.state_dict() if weights is None else weights)
    empty, wrong = _compared(kind, config, state)
    if wrong:
        return None
    like = {"dtype": model.dtype, "device": model.device}
    state |= {n: torch.zeros(empty[n], **like) for n in set(empty) - set(state)}
    with without_bars():
        made = kind.from_pretrained(
            None,  # type: ignore[arg-type]
            config=config,
            state_dict=state,
            dtype=dtype or model.dtype,
            attn_implementation=model.config._attn_implementation,
        )
    made.generation_config = copy.deepcopy(model.generation_config)
    nn.Module.to(made, device=model.device)
    return made.eval()


def misplaced(model: PreTrainedModel) -> list[str]:
    """Names of the weights that its architecture has not, or that it lacks, or has in another
    shape: adapters, or biases that were put in by hand. Such a model has no twin."""
    return _compared(type(model), model.config, model.state_dict())[1]


def _compared(
    kind: type[PreTrainedModel], config: PreTrainedConfig, state: Mapping[str, Tensor]
) -> tuple[dict[str, torch.Size], list[str]]:
    """The shapes of an architecture's weights, and the names of those in `state` that do not fit;
    biases may be missing."""
    with torch.device("meta"):
        empty = {n: each.shape for n, each in kind(copy.deepcopy(config)).state_dict().items()}
    missing = {name for name in set(empty) - set(state) if not name.endswith("bias")}
    changed = {name for name in set(empty) & set(state) if state[name].shape != empty[name]}
    return empty, sorted({*missing, *changed, *set(state) - set(empty)})


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
        if made is not None and _same(own, made):
            yield made, f"{type(model).__name__} with {name}=True"
    given = text_config(model)
    if not hasattr(given, "rms_norm_eps"):
        yield None, "families of the Llama kind, which have other norms"
        return
    for family in _FAMILIES:
        yield _as(own, family)


def _switches(model: PreTrainedModel) -> list[str]:
    """Settings that are off and speak of biases."""
    settings = text_config(model).to_dict()
    return [name for name, value in settings.items() if "bias" in name and value is False]


def _as(model: PreTrainedModel, family: _Family) -> tuple[PreTrainedModel | None, str]:
    """The same function in another family; None and why, where it is not exact."""
    given, what = text_config(model), f"{family.name}ForCausalLM with mlp_bias=True"
    window = _window(given)
    if window and not family.windows:
        return None, f"{what}, which has no attention window of {window} tokens"
    kind = getattr(transformers, f"{family.name}ForCausalLM", None)
    form = getattr(transformers, f"{family.name}Config", None)
    if kind is None or form is None:
        return None, f"{what}, which this transformers does not have"
    weights = _unfused(model.state_dict(), given)
    settings = {name: getattr(given, name) for name in _SHARED if hasattr(given, name)}
    settings["head_dim"] = settings.get("head_dim") or _head_size(given)
    settings["attention_bias"] = any(name.endswith("q_proj.bias") for name in weights)
    try:
        config = form(**copy.deepcopy(settings), mlp_bias=True, **family.settings(given))
        made = twin(model, config, kind, weights)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Settings of the same name that mean another thing, such as rotations by kind of layer.
        return None, f"{what}, which takes other settings"
    if made is None:
        return None, f"{what}, which has other weights"
    if not _same(model, made):
        return None, f"{what}, whose logits are others"
    return made, what


def _window(config: PreTrainedConfig) -> int | None:
    """How many tokens attention sees at most in some layer, where that is less than the context."""
    kinds, window = getattr(config, "layer_types", None), getattr(config, "sliding_window", None)
    slides = kinds is None or any("sliding" in kind for kind in kinds)
    context = getattr(config, "max_position_embeddings", 0)
    return window if slides and window is not None and window < context else None


def _head_size(config: PreTrainedConfig) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _unfused(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """Weights in which each projection stands alone, as in a Llama (Phi-3 keeps them in one)."""
    heads, inner = config.num_attention_heads, config.intermediate_size
    size = _head_size(config)
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


def _same(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Whether the logits of 2 x 24 tokens agree in float32, the positions of half of them far
    apart. Attention windows are made 8 tokens wide for it, as short texts do not show wider
    ones."""
    narrow = bool(_window(text_config(model)))
    one, two = _sample(model, narrow), _sample(other, narrow)
    return bool((one - two).abs().max() <= 1e-5 * one.abs().max())


@torch.no_grad()
def _sample(model: PreTrainedModel, narrow: bool) -> Tensor:
    """Logits (2, 24, V) of a twin in float32, with attention windows of 8 tokens if `narrow`; a
    model in half precision is copied for it, and the copy is gone after."""
    config = copy.deepcopy(model.config)
    inner = config.get_text_config(decoder=True)
    if narrow and getattr(inner, "sliding_window", None):
        inner.sliding_window = 8
    made = twin(model, config, dtype=torch.promote_types(model.dtype, torch.float32))
    assert made is not None
    noise = torch.Generator().manual_seed(0)
    ids = torch.randint(inner.vocab_size, (2, 24), generator=noise).to(made.device)
    end = (getattr(inner, "max_position_embeddings", None) or 24) - 1
    far = torch.linspace(0, end, 24).long().tolist() if end >= 23 else range(24)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "position_ids" in model_parameters(made):
        inputs["position_ids"] = torch.tensor([list(range(24)), list(far)], device=made.device)
    with evaluating(made):
        return made(**inputs, use_cache=False).logits.float()
