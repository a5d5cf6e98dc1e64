"""What composing properties takes, against the method as it reads.

    python benchmarks/composition.py [--quick] [--model wren] [--threads 2]

Two properties under the dynamic schedule. Ours: all prompts at once, every row with its cache. The
peer (uncached.py): one prompt after another, the whole text again at every pass, as the published
code does, by plain hooks and without a tracer. Tokens must be the same, coefficients within 1e-4
of each other. `--quick`: 4 of the 16 prompts for the peer, its time scaled up, and one round.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import timing
import torch
import uncached
from timing import Contestant, Target, at_least, at_most

TARGETS: dict[str, Target] = {
    "uncached_over_compose": at_least(20),
    "same_ids": at_least(1),
    "coefficients_apart": at_most(1e-4),
    "passes_over_ideal": at_most(1),
    "compose_over_generate": at_most(math.inf),
}
PROMPTS, TOKENS, EXAMPLES, TOP_P = 16, 30, 24, 0.6


def properties(lm: Any, examples: int = EXAMPLES, steps: int = TOKENS) -> dict[str, Any]:
    """Per-step deltas of two traits of wren, of texts that show them and that do not."""
    from workbench.composition.deltas import step_deltas
    from workbench.wren.contrast import twin_prompts

    found = {}
    for trait in ("italian", "formality"):
        twins = [
            [text.removeprefix("<s>") for text in pair] for pair in twin_prompts(trait, examples, 0)
        ]
        opposite, showing = zip(*twins, strict=True)  # open prompts first
        found[trait] = step_deltas(lm, showing, opposite, steps=steps)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    args = timing.parser("What composing properties takes.").parse_args(argv)
    torch.set_num_threads(args.threads)
    from workbench import load
    from workbench.composition.compose import compose
    from workbench.composition.schedules import Dynamic
    from workbench.generation.generate import generate
    from workbench.text.tokens import encode
    from workbench.wren import open_prompts

    lm = load(args.model)
    prompts = open_prompts("mood", PROMPTS, seed=1)
    both = properties(lm, EXAMPLES, TOKENS)
    values = {name: each.values for name, each in both.items()}
    ids = [each.ids for each in encode(lm, prompts).prompts]
    published = Dynamic(TOP_P, divided=True)  # as the peer has it
    some = ids[: 4 if args.quick else PROMPTS]

    def composed() -> Any:
        return compose(lm, prompts, both, dict.fromkeys(both, published), new_tokens=TOKENS)

    def one_by_one() -> Any:
        return [uncached.written(lm, row, values, TOP_P, TOKENS) for row in some]

    composed()  # the first call makes what it keeps
    times = timing.interleave(
        {
            "compose": Contestant(composed),
            "uncached": Contestant(one_by_one, PROMPTS / len(some)),
            "generate": Contestant(lambda: generate(lm, prompts, new_tokens=TOKENS, score=False)),
        },
        1 if args.quick else 5,
    )
    timing.show_times(f"seconds for {PROMPTS} prompts x {TOKENS} tokens", times, {})
    timing.show_ratios(
        times,
        [
            ("uncached_over_compose", "uncached", "compose"),
            ("compose_over_generate", "compose", "generate"),
        ],
    )
    made, apart, same = times["compose"].result, 0.0, True
    for row, (new, used) in enumerate(times["uncached"].result):
        length = int(made.lengths[row])
        same &= made.ids[row, :length].tolist() == new[:length]
        for name, own in used.items():
            gap = (made.coefficients[name][row, :length] - torch.tensor(own[:length])).abs().max()
            apart = max(apart, float(gap))
    figures = {
        "uncached_over_compose": timing.ratio(times, "uncached", "compose"),
        "compose_over_generate": timing.ratio(times, "compose", "generate"),
        "same_ids": same,
        "coefficients_apart": apart,
        # n + 1 rows and one at last, of every prompt and token.
        "passes_over_ideal": made.passes / (PROMPTS * made.ids.shape[1] * (len(both) + 2)),
    }
    settings = {"quick": args.quick, "model": args.model, "threads": args.threads}
    return timing.finish("composition", figures, TARGETS, settings)


if __name__ == "__main__":
    sys.exit(main())
