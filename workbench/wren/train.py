"""Train wren from nothing: grammar -> tokenizer -> model. ``python -m workbench.wren.train``.

Documents are written by the grammar while the model trains (no text is seen twice), each in a row
of its own beside others of like length, and predicted with cross-entropy. What is trained, and how
fast, is in recipe.py. A checkpoint every few minutes holds all that a resumed run needs to go on as
if it had not been stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.wren import tokenizer as tokenizers
from workbench.wren.grammar import write
from workbench.wren.kernels import linear_cross_entropy
from workbench.wren.recipe import CONTEXT, Recipe, make_model, make_optimizers, rate_at

HERE = Path(__file__).parent
DOCUMENTS_PER_SHARD = 1500
HELD_OUT_SEED = 10**9


def language_hash() -> str:
    """Fingerprint of the language's files: weights made from others are stale."""
    files = sorted((HERE / "language").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def documents(seed: int | str, count: int) -> list[str]:
    """``count`` texts of the grammar; a seed names them for good."""
    rng = random.Random(seed)
    return [write(rng).text for _ in range(count)]


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids of whole documents, which carry their own markers."""
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def bundle(rows: list[list[int]], tokens: int, pad: int) -> list[Tensor]:
    """Documents of like length side by side, right-padded: (rows, length) of about ``tokens``.

    Every document stands alone in its row, from position 0 on, as it does when it is used; with
    like lengths the padding is a few per cent. What is longer than the context is cut.
    """
    ordered = sorted((row[:CONTEXT] for row in rows), key=len)
    bundles: list[Tensor] = []
    while ordered:
        width = len(ordered[-1])
        count = max(1, tokens // width)
        chosen, ordered = ordered[-count:], ordered[:-count]
        bundles.append(torch.tensor([row + [pad] * (width - len(row)) for row in chosen]))
    return bundles


def shard(directory: str, seed: int, index: int, tokens: int) -> list[Tensor]:
    """The batches of one shard, in random order; made in a process of its own."""
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(directory)
    texts = documents(f"shard {index} of seed {seed}", DOCUMENTS_PER_SHARD)
    bundles = bundle(encode(tokenizer, texts), tokens, tokenizer.get_vocab()[tokenizers.PAD])
    order = torch.randperm(len(bundles), generator=torch.Generator().manual_seed(seed + index))
    return [bundles[i] for i in order.tolist()]


def load_tokenizer(directory: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model's directory, silent about documents over the context."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def batches(directory: Path, recipe: Recipe, index: int) -> Iterator[tuple[int, Tensor]]:
    """Endless (shard index, token batch) from shard ``index`` on; the next is written ahead."""
    with ProcessPoolExecutor(1) as pool:

        def order(at: int) -> Future[list[Tensor]]:
            return pool.submit(shard, str(directory), recipe.seed, at, recipe.tokens_per_step)

        ahead = order(index)
        while True:
            bundles, ahead = ahead.result(), order(index + 1)
            for rows in bundles:
                yield index, rows
            index += 1


def loss_of(model: LlamaForCausalLM, rows: Tensor, pad: int) -> Tensor:
    """Mean cross-entropy of the next token over all that is not padding, in nats."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=rows[:, :-1], use_cache=False).last_hidden_state
    real = rows[:, 1:] != pad
    return linear_cross_entropy(hidden[real], model.lm_head.weight, rows[:, 1:][real])


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, bundles: list[Tensor], pad: int) -> float:
    """Nats a token over all bundles."""
    counts = [int((rows[:, 1:] != pad).sum()) for rows in bundles]
    losses = [loss_of(model, rows, pad).item() for rows in bundles]
    return sum(loss * n for loss, n in zip(losses, counts, strict=True)) / sum(counts)


def _resumable(checkpoint: Path, recipe: Recipe, language: str) -> dict[str, Any] | None:
    """What a stopped run left behind. Raises ValueError where it was another run's."""
    if not checkpoint.exists():
        return None
    state = torch.load(checkpoint, weights_only=True)
    if (state["recipe"], state["language"]) != (vars(recipe), language):
        raise ValueError(
            f"{str(checkpoint)!r} belongs to another recipe or language ({state['recipe']}): "
            "delete it to train from nothing, or give its recipe to go on"
        )
    return state


def train(directory: Path, recipe: Recipe, *, minutes_between_checkpoints: float = 3.0) -> None:
    """Run ``recipe``, leave model and tokenizer in ``directory``; resumes from its checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / "checkpoint.pt"
    language = language_hash()
    state = _resumable(checkpoint, recipe, language)
    if state is None:
        texts = documents(HELD_OUT_SEED + 1, 12_000)
        built = tokenizers.build(texts, size=recipe.vocabulary, context=CONTEXT)
        built.save_pretrained(directory)
    tokenizer = load_tokenizer(directory)
    pad = tokenizer.get_vocab()[tokenizers.PAD]

    torch.manual_seed(recipe.seed)
    model = make_model(recipe, tokenizer).train()
    optimizers = make_optimizers(model, recipe)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    step, index, seconds = 0, 0, 0.0
    if state is not None:
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, index, seconds = state["step"], state["shard"], state["seconds"]
        print(f"resumed at step {step}")

    held_out = bundle(encode(tokenizer, documents(HELD_OUT_SEED, 150)), 8192, pad)
    total = sum(p.numel() for p in model.parameters())
    print(
        f"{total / 1e6:.2f} M parameters, {recipe.steps} steps of {recipe.tokens_per_step} tokens"
    )
    began, saved_at, running = time.time() - seconds, time.time(), float("nan")
    last_shard = index
    for shard_index, rows in batches(directory, recipe, index):
        new_shard, last_shard = shard_index != last_shard, shard_index
        if new_shard and time.time() - saved_at >= 60 * minutes_between_checkpoints:
            # before a shard's first batch, so that a resumed run repeats and misses nothing
            print(f"held-out loss {held_out_loss(model, held_out, pad):.4f}", flush=True)
            state = {
                "recipe": vars(recipe),
                "language": language,
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
                "shard": shard_index,
                "seconds": time.time() - began,
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            saved_at = time.time()
        for optimizer, rate in zip(optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * rate_at(step, recipe)
        loss = loss_of(model, rows, pad)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        running = loss.item() if running != running else 0.95 * running + 0.05 * loss.item()
        if step % 20 == 0 or step == recipe.steps:
            spent = time.time() - began
            left = spent / step * (recipe.steps - step)
            print(
                f"step {step}/{recipe.steps}  loss {running:.4f}  {spent / 60:.1f} min spent, "
                f"{left / 60:.1f} min left",
                flush=True,
            )
        if step >= recipe.steps:
            break
    print(f"held-out loss {held_out_loss(model.eval(), held_out, pad):.4f}")
    model.bfloat16().save_pretrained(directory)
    record = {
        "recipe": vars(recipe),
        "language": language,
        "torch": torch.__version__,
        "minutes": round((time.time() - began) / 60, 1),
    }
    (directory / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    checkpoint.unlink(missing_ok=True)


def main() -> None:
    """Command line: every field of the recipe is an option."""
    parser = argparse.ArgumentParser(description=train.__doc__)
    parser.add_argument("--directory", type=Path, default=HERE / "model")
    for name, value in vars(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    train(options.pop("directory"), Recipe(**options))


if __name__ == "__main__":
    main()
