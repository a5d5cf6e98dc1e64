"""How fast a step of training is: SPLIT on 4 pairs at the middle layer, a vector and a LoRA.

    python benchmarks/train.py [--quick] [--model wren] [--threads 2]

Against one plain forward and backward of the same tokens, by hand: the same batch through a plain
transformers model whose weights take no gradient, a hook that adds a vector to the same layer, the
logits of the completions alone, and the gradient of that vector. Beside it stands ordinary
training: logits everywhere and gradients of all weights. Peak memory is measured in one process.
`--quick` has fewer rounds; it says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import peers
import timing
import torch
from timing import Contestant, Target, at_most

TARGETS: dict[str, Target] = {
    "vector_over_plain": at_most(1.2),
    "lora_over_plain": at_most(1.2),
    "vector_over_full": at_most(float("inf")),
    "peak_mib_vector": at_most(float("inf")),
    "peak_mib_lora": at_most(float("inf")),
    "peak_mib_plain": at_most(float("inf")),
    "peak_mib_full": at_most(float("inf")),
}
PAIRS = 4
# Steps of one run: a single one is short against the clock of a busy machine.
STEPS = 5


def contestants(lm: Any, plain: Any) -> dict[str, Contestant]:
    from workbench.contrast import pairs
    from workbench.loading.layers import find_layers, frozen
    from workbench.text.positions import everything
    from workbench.training.examples import make_examples
    from workbench.training.fitting import State, fit
    from workbench.training.minibatch import Settings, Task
    from workbench.training.objectives import SPLIT
    from workbench.training.trainable import FORMS

    given, layer = pairs.load("wren-mood")[:PAIRS], lm.layers // 2

    def ours(form: str) -> Callable[[], Any]:
        shape = FORMS[form]
        settings = Settings(
            objective=SPLIT(),
            form=shape,
            layers=(layer,),
            rank=4,
            factors=shape.factors,
            sub=None,
            positions=everything,
            epochs=STEPS,
            batch=PAIRS,
            learning_rate=shape.learning_rate,
            warmup=0.0,
            weight_decay=0.0,
            clip=1.0,
            dropout=0.1,
            patience=None,
            compat=False,
            seed=0,
        )
        examples = make_examples(lm, given, sub=False, reference=False)
        task = Task(lm, settings, given, range(PAIRS), examples, None)

        def run() -> None:
            with frozen(lm.model):
                fit(
                    State(settings.begin(lm)),
                    settings.schedule(PAIRS),
                    task.losses,
                    None,
                    task.name,
                    lambda: False,
                    None,
                    False,
                    None,
                )

        return run

    examples = make_examples(lm, given, sub=False, reference=False)
    batch, _ = examples.batch(range(PAIRS), True)
    first = int(batch.starts.min())
    inputs = {
        "input_ids": batch.ids,
        "attention_mask": batch.attention.long(),
        "position_ids": batch.positions,
    }
    block = plain.get_submodule(find_layers(plain))[layer]

    def loss(logits: torch.Tensor, start: int) -> torch.Tensor:
        """Cross-entropy of the completions; the logits begin before column `start`."""
        labels = batch.ids.masked_fill(~batch.completion, -100)[:, start:]
        return torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels.flatten(), ignore_index=-100
        )

    def by_hand() -> None:
        plain.requires_grad_(False)
        vector = torch.zeros(lm.width, requires_grad=True)

        def add(_module: Any, _inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (output[0] + vector, *output[1:])
            return output + vector

        handle = block.register_forward_hook(add)
        try:
            for _ in range(STEPS):
                keep = batch.width - first + 1
                logits = plain(**inputs, use_cache=False, logits_to_keep=keep).logits
                loss(logits, first).backward()
        finally:
            handle.remove()

    def full() -> None:
        plain.requires_grad_(True)
        for _ in range(STEPS):
            loss(plain(**inputs, use_cache=False).logits, 1).backward()
            plain.zero_grad()

    return {
        "vector": Contestant(ours("vector"), 1 / STEPS),
        "lora": Contestant(ours("lora"), 1 / STEPS),
        "plain": Contestant(by_hand, 1 / STEPS),
        "full": Contestant(full, 1 / STEPS),
    }


NOTES = {
    "vector": "a whole SPLIT step: batch, traced forward, backward, dropout, clipping, AdamW",
    "lora": "the same for a LoRA of rank 4 on the MLP's down-projection",
    "plain": "one forward under a hook and one backward to its vector, base frozen",
    "full": "one forward and backward to all weights, logits everywhere",
}


def arguments() -> Any:
    return timing.parser("How fast a step of training is.")


def main(argv: Sequence[str] | None = None) -> int:
    from transformers import AutoModelForCausalLM

    from workbench.loading import checkpoints, models

    args = arguments().parse_args(argv)
    torch.set_num_threads(args.threads)
    peers.quietly()
    rounds = 3 if args.quick else 15
    lm = models.load(args.model)
    source, _ = checkpoints.locate(args.model, "")
    plain = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    made = contestants(lm, plain)
    print(f"\n## {args.model}: {PAIRS} pairs, {rounds} rounds of {STEPS} steps", flush=True)
    for contestant in made.values():  # warm, and the same for all
        contestant.run()
    memory = {name: timing.peak_growth(contestant.run) for name, contestant in made.items()}
    timing.show("peak memory above the loaded models, MiB", list(memory), [list(memory.values())])
    times = timing.interleave(made, rounds)
    timing.show_times("seconds of a step", times, NOTES)
    rows = [
        ("vector_over_plain", "vector", "plain"),
        ("lora_over_plain", "lora", "plain"),
        ("vector_over_full", "vector", "full"),
    ]
    timing.show_ratios(times, rows)
    figures: dict[str, Any] = {key: timing.ratio(times, a, b) for key, a, b in rows}
    figures |= {f"peak_mib_{name}": value for name, value in memory.items()}
    figures |= {
        "vector_over_plain_processor": timing.ratio(times, "vector", "plain", cpu=True),
        "measured": f"{PAIRS} pairs, {rounds} rounds of {STEPS} steps",
    }
    settings = {"quick": args.quick, "threads": args.threads, "model": args.model}
    return timing.finish("train", figures, TARGETS, settings)


if __name__ == "__main__":
    sys.exit(main())
