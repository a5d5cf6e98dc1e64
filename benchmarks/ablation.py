"""What a sweep over all heads of all layers takes in one batch, against a loop of single traces.

    python benchmarks/ablation.py [--quick] [--model wren] [--threads 2]

Each head of each layer is ablated to zero under each prompt; noted are the KL of the next token and
the change of its logit. Ours: a row for each pair of a head and a prompt. The loop: one trace for
each pair, as a notebook writes it. Beside it, a loop of one trace for each head over all prompts at
once. Numbers must be the same to 1e-4. `--quick`: one round.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import timing
import torch
from timing import Contestant, Target, at_least, at_most

TARGETS: dict[str, Target] = {
    "loop_over_sweep": at_least(10),
    "heads_loop_over_sweep": at_most(math.inf),
    "apart": at_most(1e-4),
    "sweep_mib": at_most(math.inf),
    "loop_mib": at_most(math.inf),
}
PROMPTS = 16


def looped(lm: Any, batches: Sequence[Any]) -> torch.Tensor:
    """(C, B, 2) KL and change of the best token's logit: a trace for each head and batch."""
    from workbench import tracing
    from workbench.ablation import ablate, heads

    def last(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, -1]

    rows = []
    with torch.no_grad():
        wholes = [tracing.forward(lm, batch, (), last, keep=1) for batch in batches]
        for head in heads(lm):
            edits, found = ablate(lm, [head]), []
            for batch, whole in zip(batches, wholes, strict=True):
                ablated = tracing.forward(lm, batch, edits, last, keep=1)
                before, after = whole.log_softmax(-1), ablated.log_softmax(-1)
                kl = (before.exp() * (before - after)).sum(-1)
                best = whole.argmax(-1, keepdim=True)
                change = (ablated - whole).gather(-1, best)[:, 0]
                found.append(torch.stack([kl, change], dim=-1))
            rows.append(torch.cat(found))
    return torch.stack(rows)


def main(argv: Sequence[str] | None = None) -> int:
    args = timing.parser("What ablating all heads of all layers takes.").parse_args(argv)
    torch.set_num_threads(args.threads)
    from workbench import load
    from workbench.ablation import heads
    from workbench.ablation_effects import next_token_effects
    from workbench.tokens import encode
    from workbench.wren import open_prompts

    lm = load(args.model)
    batch = encode(lm, open_prompts("mood", PROMPTS, seed=1))
    alone = [batch.select([row]).trimmed() for row in range(len(batch))]
    components = heads(lm)

    def sweep() -> torch.Tensor:
        frame = next_token_effects(lm, batch, components)
        values = torch.tensor(frame[["kl", "logit"]].to_numpy())
        return values.view(len(components), len(batch), 2)

    sweep()  # the first call finds the heads
    memory = {
        "sweep_mib": timing.peak_growth(sweep),
        "loop_mib": timing.peak_growth(lambda: looped(lm, alone[:1])),
    }
    times = timing.interleave(
        {
            "sweep": Contestant(sweep),
            "loop": Contestant(lambda: looped(lm, alone)),
            "heads_loop": Contestant(lambda: looped(lm, [batch])),
        },
        1 if args.quick else 5,
    )
    tokens = int(batch.attention.sum())
    title = f"seconds for {len(components)} heads x {PROMPTS} prompts, {tokens} tokens in all"
    timing.show_times(title, times, {})
    timing.show_ratios(
        times,
        [
            ("loop_over_sweep", "loop", "sweep"),
            ("heads_loop_over_sweep", "heads_loop", "sweep"),
        ],
    )
    found = times["sweep"].result
    figures: dict[str, Any] = {
        "loop_over_sweep": timing.ratio(times, "loop", "sweep"),
        "heads_loop_over_sweep": timing.ratio(times, "heads_loop", "sweep"),
        "apart": max(
            float((times[name].result - found).abs().max()) for name in ("loop", "heads_loop")
        ),
        **memory,
        "heads": len(components),
        "tokens": tokens,
    }
    settings = {"quick": args.quick, "model": args.model, "threads": args.threads}
    return timing.finish("ablation", figures, TARGETS, settings)


if __name__ == "__main__":
    sys.exit(main())
