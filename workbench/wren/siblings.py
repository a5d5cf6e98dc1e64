"""Three small models of wren's language that differ from wren in kind, not only in size.

What was found on one model is checked on others. ``python -m workbench.wren.siblings [NAME ...]``
trains them; `sibling(name)` says where they are, and trains what is missing. All share wren's
tokenizer and its grammar, so that their texts are judged exactly as wren's are. None has more than
a million parameters.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from workbench.support.store import cache_directory
from workbench.wren import tokenizer as tokenizers
from workbench.wren.recipe import (
    CONTEXT,
    Recipe,
    blocks,
    common_settings,
    make_model,
    start_copying,
)
from workbench.wren.train import HERE, language_hash, train

SMALL = Recipe(width=96, layers=4, heads=3, intermediate=256, steps=3000, seed=1)


def make_gpt2(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """LayerNorm, biases, learned positions, one matrix for queries, keys and values: a GPT-2."""
    model = GPT2LMHeadModel(
        GPT2Config(
            n_positions=CONTEXT,
            n_embd=recipe.width,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            n_inner=recipe.intermediate,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **common_settings(tokenizer),
        )
    )
    with torch.no_grad():  # as `start_copying` does, in GPT-2's transposed matrices
        for block in blocks(model):
            values = block.attn.c_attn.weight[:, 2 * recipe.width :]
            torch.nn.init.orthogonal_(values)
            block.attn.c_proj.weight.copy_(values.T)
    return model


def make_gemma(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Gemma3ForCausalLM:
    """Norms before and after each sublayer, and of queries and keys: a Gemma 3."""
    head = recipe.width // recipe.heads
    model = Gemma3ForCausalLM(
        Gemma3TextConfig(
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
            **common_settings(tokenizer),
        )
    )
    start_copying(model)
    return model


#: How each is made before its first step, and its recipe.
SIBLINGS: Mapping[
    str, tuple[Callable[[Recipe, PreTrainedTokenizerFast], PreTrainedModel], Recipe]
] = MappingProxyType(
    {
        "gpt2": (make_gpt2, replace(SMALL, intermediate=384, steps=6000, seed=2)),
        "gemma": (make_gemma, replace(SMALL, width=108, layers=3, intermediate=288, seed=3)),
        "llama": (make_model, SMALL),
    }
)

#: What must be kept of a trained sibling; the last of them says how it was trained.
SAVED = ("config.json", "generation_config.json", "model.safetensors", "training.json")


def sibling(name: str, directory: Path | None = None, trained: Path | None = None) -> Path:
    """The folder of a trained sibling; one that is missing is trained first, in some minutes.

    ``directory`` is where the folders of all are, by default in the cache, by the language's
    fingerprint. ``trained`` may hold folders of weights without tokenizers (`SAVED`), which are
    taken in place of training where they are of this recipe and language. Raises ValueError for a
    name that is no sibling's.
    """
    if name not in SIBLINGS:
        raise ValueError(f"sibling {name!r} is not one of {', '.join(SIBLINGS)}")
    if directory is None:
        directory = cache_directory() / "wren-siblings" / language_hash()[:16]
    folder = directory / name
    make, recipe = SIBLINGS[name]
    if not (folder / "training.json").is_file() and trained and _fits(trained / name, recipe):
        tokenizers.load(HERE / "model").save_pretrained(folder)
        for file in SAVED:
            shutil.copyfile(trained / name / file, folder / file)
    if not (folder / "training.json").is_file():
        train(folder, recipe, make=make, tokenizer_of=HERE / "model")
    return folder


def _fits(folder: Path, recipe: Recipe) -> bool:
    """Whether a folder holds weights of this recipe and of the present language."""
    if not all((folder / file).is_file() for file in SAVED):
        return False
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return record["recipe"] == vars(recipe) and record["language"] == language_hash()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train small models of wren's language.")
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(SIBLINGS)}; default all")
    for name in parser.parse_args().names or SIBLINGS:
        print(sibling(name))


if __name__ == "__main__":
    main()
