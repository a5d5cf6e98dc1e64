"""What a sweep over all heads of all layers takes in one batch, against a loop of single traces.

    python benchmarks/ablation.py [--quick] [--model wren] [--threads 2]

Each head of each layer is ablated to zero under each prompt; noted are the KL of the next token and
the change of its logit. Ours: a row for each pair of a head and a prompt. The loop: one trace for
each pair, as a notebook writes it. Beside it, two loops of one forward for each head over all
prompts at once: by a trace, and by a plain PyTorch hook, which is the least that a researcher would
write by hand. Numbers must be the same to 1e-4. Of each ratio the median over the rounds, the least
and the greatest. `--quick`: one round.
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
    "hooks_loop_over_sweep": at_most(math.inf),
    "apart": at_most(1e-4),
    "sweep_mib": at_most(math.inf),
    "loop_mib": at_most(math.inf),
}
PROMPTS = 16


def compared(whole: torch.Tensor, ablated: torch.Tensor) -> torch.Tensor:
    """(B, 2) of logits (B, V): KL, and the change of the best token's logit less the mean one."""
    before, after = whole.log_softmax(-1), ablated.log_softmax(-1)
    kl = (before.exp() * (before - after)).sum(-1)
    change = ablated - whole
    own = change.gather(-1, whole.argmax(-1, keepdim=True))[:, 0]
    return torch.stack([kl, own - change.mean(-1)], dim=-1)


def hooked(lm: Any, batch: Any) -> torch.Tensor:
    """(C, B, 2) as `looped`, without this package or nnsight: a forward for each head, in which a
    hook empties its part of what the attention's output projection reads."""
    inputs = {
        "input_ids": batch.ids,
        "attention_mask": batch.attention.long(),
        "position_ids": batch.positions,
    }

    def last() -> torch.Tensor:
        return lm.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]

    rows = []
    with torch.no_grad():
        whole = last()
        for layer in range(lm.layers):
            name = f"{lm.layer_path}.{layer}.{lm.attention_name(layer)}"
            size = lm.heads_width(layer) // lm.heads
            for head in range(lm.heads):
                own = slice(head * size, (head + 1) * size)

                def empty(_: Any, given: Any, own: slice = own) -> tuple[torch.Tensor]:
                    values = given[0].clone()
                    values[..., own] = 0
                    return (values,)

                hook = lm.model.get_submodule(name).register_forward_pre_hook(empty)
                rows.append(compared(whole, last()))
                hook.remove()
    return torch.stack(rows)


def looped(lm: Any, batches: Sequence[Any]) -> torch.Tensor:
    """(C, B, 2) KL and centred change of the best token's logit: a trace for each head and
    batch."""
    from workbench.anatomy.ablation import ablate, heads
    from workbench.forward import tracing

    def last(logits: torch.Tensor) -> torch.Tensor:
        return logits[:, -1]

    rows = []
    with torch.no_grad():
        wholes = [tracing.forward(lm, batch, (), last, keep=1) for batch in batches]
        for head in heads(lm):
            edits, found = ablate(lm, [head]), []
            for batch, whole in zip(batches, wholes, strict=True):
                found.append(compared(whole, tracing.forward(lm, batch, edits, last, keep=1)))
            rows.append(torch.cat(found))
    return torch.stack(rows)


def over(times: Any, loop: str) -> dict[str, float | None]:
    """A loop's time by the sweep's: the median over the rounds, the least and the greatest."""
    rounds = zip(times[loop].wall, times["sweep"].wall, strict=True)
    ratios = [a / b for a, b in rounds]
    key = f"{loop}_over_sweep"
    found = {f"{key}_least": min(ratios), f"{key}_most": max(ratios)}
    return {key: timing.ratio(times, loop, "sweep"), **found}


def main(argv: Sequence[str] | None = None) -> int:
    args = timing.parser("What ablating all heads of all layers takes.").parse_args(argv)
    torch.set_num_threads(args.threads)
    from workbench import load
    from workbench.anatomy.ablation import heads
    from workbench.anatomy.ablation_effects import next_token_effects
    from workbench.text.tokens import encode
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
            "hooks_loop": Contestant(lambda: hooked(lm, batch)),
        },
        1 if args.quick else 5,
    )
    tokens = int(batch.attention.sum())
    title = f"seconds for {len(components)} heads x {PROMPTS} prompts, {tokens} tokens in all"
    timing.show_times(title, times, {})
    loops = ("loop", "heads_loop", "hooks_loop")
    timing.show_ratios(times, [(f"{name}_over_sweep", name, "sweep") for name in loops])
    found = times["sweep"].result
    figures: dict[str, Any] = {
        "apart": max(float((times[name].result - found).abs().max()) for name in loops),
        **memory,
        **{key: value for name in loops for key, value in over(times, name).items()},
        "heads": len(components),
        "tokens": tokens,
    }
    settings = {"quick": args.quick, "model": args.model, "threads": args.threads}
    return timing.finish("ablation", figures, TARGETS, settings)


if __name__ == "__main__":
    sys.exit(main())
