"""Whether distances from ordinary text hold what they promise, layer by layer.

    python benchmarks/alarms.py [MODEL] [--documents 400] [--fresh 300] [--seed 0]

Of ordinary documents one half fits the manifolds and the other calibrates them; fresh ones, which
neither saw, should lie beyond the 95 % bound in 5 % of their tokens. wren's documents are written
by its grammar, those of any other model by itself, from the word "One". `--quick` takes a quarter
of the documents. Exit status 1 where a layer's rate is outside 4 to 6 %.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import timing  # puts the checkout on the path
import torch
from timing import Target, at_least

import workbench as wb
from workbench.geometry import manifold, manifold_checks, ordinary
from workbench.loading.models import LM

TARGETS: dict[str, Target] = {"met": at_least(1.0)}
BOUNDS = (0.04, 0.06)


def documents(lm: LM, count: int, part: str, seed: int) -> list[str]:
    """Ordinary ones, others for every part."""
    if lm.name == "wren":
        return ordinary.from_grammar(count, f"{part} {seed}")
    return ordinary.from_model(lm, ["One"] * count, seed=2 * seed + (part == "fresh"))


def measure(lm: LM, fitting: int, fresh: int, seed: int) -> dict[str, Any]:
    """The rate of every layer and kind, with its interval over documents."""
    made = manifold.fit(lm, documents(lm, fitting, "fitting", seed), seed=seed, progress=False)
    table = manifold_checks.false_alarms(
        lm, made, documents(lm, fresh, "fresh", seed), progress=False
    )
    columns = ["layer", "kind", "tokens", "tokens_low", "tokens_high", "documents_count"]
    timing.show(
        f"beyond the 95 % bound, {lm.name}", columns, table[columns].round(4).values.tolist()
    )
    inside = table["tokens"].between(*BOUNDS)
    return {
        "met": float(inside.mean()),
        "least": float(table["tokens"].min()),
        "most": float(table["tokens"].max()),
        "cases": len(table),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = timing.parser("Whether manifolds' distances keep to their false-alarm rate.")
    parser.add_argument("model", nargs="?", default="wren")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--fresh", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    part = 4 if args.quick else 1
    found = measure(wb.load(args.model), args.documents // part, args.fresh // part, args.seed)
    settings = {"model": args.model, "quick": args.quick, "seed": args.seed}
    return timing.finish("alarms", found, TARGETS, settings)


if __name__ == "__main__":
    sys.exit(main())
