"""Train wren from nothing: grammar -> tokenizer -> model. ``python -m workbench.wren.train``.

What it learns from is in batches.py, what it consists of and how fast it learns in recipe.py. A
checkpoint every few minutes holds all that a resumed run needs to go on as if it had not been
stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from workbench.wren import tokenizer as tokenizers
from workbench.wren.batches import Batch, as_batch, bundle, documents, one_hot, stream
from workbench.wren.kernels import ARITHMETIC, linear_cross_entropy
from workbench.wren.recipe import CONTEXT, Recipe, make_model, make_optimizers, rate_at

HERE = Path(__file__).parent
HELD_OUT_SEED = 10**9


def language_hash() -> str:
    """Fingerprint of the language, of its files and of some documents: weights made from another
    are stale."""
    files = [file.read_bytes() for file in sorted((HERE / "language").iterdir())]
    written = [text.encode() for text in texts_of("fingerprint", 500)]
    return hashlib.sha256(b"\0".join((*files, *written))).hexdigest()


def texts_of(seed: int | str, count: int) -> list[str]:
    """The texts of documents of the grammar."""
    return [document.text for document in documents(seed, count)]


def loss_of(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Cross-entropy of the next token with its soft targets: a scalar, nats a token, the mean over
    all tokens of the batch but the first of each document."""
    with torch.autocast("cpu", ARITHMETIC, enabled=ARITHMETIC is torch.bfloat16):
        hidden = model.base_model(input_ids=batch.rows, use_cache=False).last_hidden_state
    real = hidden.flatten(0, 1)[batch.places]
    head: Any = model.get_output_embeddings()
    return linear_cross_entropy(real, head.weight, *batch[2:])


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, batches: list[Batch]) -> float:
    """Nats a token over all batches."""
    counts = [len(batch.places) for batch in batches]
    losses = [loss_of(model, batch).item() for batch in batches]
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


def train(
    directory: Path,
    recipe: Recipe,
    *,
    make: Callable[[Recipe, PreTrainedTokenizerFast], PreTrainedModel] = make_model,
    tokenizer_of: Path | None = None,
    minutes_between_checkpoints: float = 3.0,
) -> None:
    """Run ``recipe``, leave model and tokenizer in ``directory``; resumes from its checkpoint.

    ``make`` makes the model before its first step, wren by default. ``tokenizer_of`` is the
    directory of a model whose tokenizer it shares; by default the language gets a new one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / "checkpoint.pt"
    language = language_hash()
    state = _resumable(checkpoint, recipe, language)
    if state is None:
        if tokenizer_of is None:
            texts = texts_of(HELD_OUT_SEED + 1, 12_000)
            tokenizer = tokenizers.build(texts, size=recipe.vocabulary, context=CONTEXT)
        else:
            tokenizer = tokenizers.load(tokenizer_of)
        tokenizer.save_pretrained(directory)
    tokenizer = tokenizers.load(directory)
    pad = tokenizer.get_vocab()[tokenizers.PAD]

    torch.manual_seed(recipe.seed)
    model = make(recipe, tokenizer).train()
    optimizers = make_optimizers(model, recipe)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    step, index, seconds = 0, 0, 0.0
    if state is not None:
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, index, seconds = state["step"], state["shard"], state["seconds"]
        print(f"resumed at step {step}")

    unseen = tokenizer(texts_of(HELD_OUT_SEED, 150), add_special_tokens=False)["input_ids"]
    held_out = list(map(as_batch, bundle(list(map(one_hot, unseen)), 8192, pad)))
    total = sum(p.numel() for p in model.parameters())
    print(
        f"{total / 1e6:.2f} M parameters, {recipe.steps} steps of {recipe.tokens_per_step} tokens"
    )
    began, saved_at, running = time.time() - seconds, time.time(), float("nan")
    last_shard = index
    for shard_index, batch in stream(directory, recipe, index):
        new_shard, last_shard = shard_index != last_shard, shard_index
        if new_shard and time.time() - saved_at >= 60 * minutes_between_checkpoints:
            # before a shard's first batch, so that a resumed run repeats and misses nothing
            print(f"held-out loss {held_out_loss(model, held_out):.4f}", flush=True)
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
        loss = loss_of(model, batch)
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
    print(f"held-out loss {held_out_loss(model.eval(), held_out):.4f}")
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
