"""What a training run of wren consists of: its sizes, its first weights, its optimizers.

Hidden matrices are trained by Muon, everything else by AdamW; the learning rate stays flat and then
falls linearly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from workbench.wren import kernels  # noqa: F401, registers the attention
from workbench.wren import tokenizer as tokenizers
from workbench.wren.muon import Muon

CONTEXT = 512


@dataclass(frozen=True)
class Recipe:
    """What a training run consists of; the tokens of a step include padding, a few per cent."""

    width: int = 192
    layers: int = 6
    heads: int = 3
    intermediate: int = 576
    vocabulary: int = 5120
    steps: int = 8000
    tokens_per_step: int = 2048
    rate: float = 4e-3
    matrix_rate: float = 2e-2
    cooldown: float = 0.7
    seed: int = 0


def make_config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """A plain Llama with tied embeddings."""
    return LlamaConfig(
        hidden_size=recipe.width,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        **common_settings(tokenizer),
    )


def common_settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What the configurations of all models of the language share."""
    ids = tokenizer.get_vocab()
    return {
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": True,
        "bos_token_id": ids[tokenizers.START],
        "eos_token_id": ids[tokenizers.END],
        "pad_token_id": ids[tokenizers.PAD],
        "attn_implementation": "wren-training",
    }


def make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Wren before its first step; its random numbers are PyTorch's own stream."""
    model = LlamaForCausalLM(make_config(recipe, tokenizer))
    start_copying(model)
    return model


@torch.no_grad()
def start_copying(model: PreTrainedModel) -> None:
    """Let every head's output undo its values: attention begins as a mean of what came before.

    With tied embeddings such heads make the words of a text likelier in what follows, so names and
    nouns are carried on from the first steps on; from random outputs that takes most of a run to be
    found (nouns named again, after 1,000 steps on English alone: 3.0 nats, against 1.4).
    """
    for layer in blocks(model):
        values = layer.self_attn.v_proj.weight
        nn.init.orthogonal_(values)
        layer.self_attn.o_proj.weight.copy_(values.T)


def blocks(model: PreTrainedModel) -> Any:
    """The decoder layers: the model's only list of modules."""
    return next(module for module in model.modules() if isinstance(module, nn.ModuleList))


def make_optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings and norms."""
    matrices = [p for p in blocks(model).parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate_at(step: int, recipe: Recipe) -> float:
    """Share of the full learning rate: short warm-up, flat, then linear to zero."""
    left = (recipe.steps - step) / (recipe.cooldown * recipe.steps)
    return min(1.0, (step + 1) / 50, max(left, 0.0))
