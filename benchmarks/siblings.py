"""Three small models of wren's language that differ from wren in kind: detectors are judged on
models that they were not made on. ``python benchmarks/siblings.py [NAME ...]`` trains them.

All share wren's tokenizer and its grammar, so their texts are judged exactly like wren's. None has
more than a million parameters; a detector must not need a better model than that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from workbench.wren import tokenizer as tokenizers
from workbench.wren.recipe import CONTEXT, Recipe, make_model, start_copying
from workbench.wren.train import HERE, train

DIRECTORY = Path(__file__).parent / "siblings"
SMALL = Recipe(width=96, layers=4, heads=3, intermediate=256, steps=2400, copying=True, seed=1)


def make_gpt2(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """LayerNorm, biases, learned positions: a GPT-2."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_embd=recipe.width,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            n_inner=recipe.intermediate,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **_common(tokenizer),
        )
    )
    with torch.no_grad():  # as `start_copying`, in GPT-2's transposed matrices
        for block in model.transformer.h:
            values = block.attn.c_attn.weight[:, 2 * recipe.width :]
            torch.nn.init.orthogonal_(values)
            block.attn.c_proj.weight.copy_(values.T)
    return model


def make_gemma(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Gemma3ForCausalLM:
    """Norms before and after each sublayer, and of queries and keys: a Gemma 3."""
    head = recipe.width // recipe.heads
    model = Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=CONTEXT,
            hidden_size=recipe.width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            head_dim=head,
            query_pre_attn_scalar=head,
            intermediate_size=recipe.intermediate,
            sliding_window=CONTEXT,
            layer_types=["full_attention"] * recipe.layers,
            **_common(tokenizer),
        )
    )
    start_copying(model)
    return model


def _common(tokenizer: PreTrainedTokenizerFast) -> dict[str, object]:
    ids = tokenizer.get_vocab()
    return {
        "tie_word_embeddings": True,
        "bos_token_id": ids[tokenizers.START],
        "eos_token_id": ids[tokenizers.END],
        "pad_token_id": ids[tokenizers.PAD],
        "attn_implementation": "wren-training",
    }


SIBLINGS: Mapping[
    str, tuple[Callable[[Recipe, PreTrainedTokenizerFast], PreTrainedModel], Recipe]
] = {
    "gpt2": (make_gpt2, replace(SMALL, intermediate=384, seed=2)),
    "gemma": (make_gemma, replace(SMALL, width=108, layers=3, intermediate=288, seed=3)),
    "llama": (make_model, SMALL),
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train small models of wren's language.")
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(SIBLINGS)}; default all")
    for name in parser.parse_args().names or SIBLINGS:
        if name not in SIBLINGS:
            raise SystemExit(f"{name!r} is not one of {', '.join(SIBLINGS)}")
        make, recipe = SIBLINGS[name]
        train(DIRECTORY / name, recipe, make=make, tokenizer_of=HERE / "model")


if __name__ == "__main__":
    main()
