"""What keeping to the manifold saves in coherence, at equal trait.

    python benchmarks/equal_trait.py [--quick] [--directory reports]

Six traits of wren at its middle layer: plain steering by the difference of means beside its part
along the tangent, the natural step, and steering that is pulled back to within the 95 % bound, with
streams at unit length and in their own. Each writes a text after 48 prompts that made no vector at
every one of 13 coefficients; exact judge. `--quick` takes two traits and eight prompts and saves
nothing. Saves `manifold_equal`, a row per trait, way and share (workbench/studies/equal_trait.py).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import timing  # puts the checkout on the path
import torch
from studies import TRAITS
from timing import Target

import workbench as wb
from workbench.geometry import manifold, on_manifold, ordinary
from workbench.loading.models import LM
from workbench.studies import equal_trait
from workbench.support import tables
from workbench.vectors.steerable import Steerable

# Reported, whatever comes out.
TARGETS: dict[str, Target] = {}
GRID = [0, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9]
PROMPTS, NEW_TOKENS = 48, 40


def ways_of(lm: LM, vector: wb.SteeringVector) -> Mapping[str, Steerable]:
    texts = ordinary.from_grammar(400, "equal trait")
    scaled, raw = (
        manifold.fit(lm, texts, [vector.layer], kinds=["principal"], unit=unit, progress=False)
        for unit in (True, False)
    )
    return {
        equal_trait.PLAIN: vector,
        "along the tangent": on_manifold.parts(vector, scaled)[0],
        "natural": on_manifold.natural(vector, scaled),
        "pulled back": on_manifold.PulledBack(vector, scaled),
        "pulled back, own length": on_manifold.PulledBack(vector, raw),
    }


def measure(lm: LM, trait: str, prompts: int) -> pd.DataFrame:
    splits = wb.pairs.load(f"wren-{trait}").split(seed=0)
    vector = wb.extract(
        lm,
        splits.extract,
        positions=wb.positions.generated,
        layer=lm.layers // 2,
        held_out=0,
        quiet=True,
    )
    return equal_trait.at_equal_trait(
        lm,
        ways_of(lm, vector),
        [*splits.report.prompts, *splits.select.prompts][:prompts],
        GRID,
        judge=wb.judges.exact,
        trait=splits.extract.trait,
        new_tokens=NEW_TOKENS,
    ).assign(trait=trait, prompts=prompts)


def main(argv: Sequence[str] | None = None) -> int:
    parser = timing.parser("What keeping to the manifold saves, at equal trait.")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    lm = wb.load("wren")
    traits, prompts = (TRAITS[:2], 8) if args.quick else (TRAITS, PROMPTS)
    parts = []
    for trait in traits:
        parts.append(measure(lm, trait, prompts))
        print(trait, flush=True)
    table = pd.concat(parts, ignore_index=True)
    found = equal_trait.over_traits(table)
    shown = equal_trait.shown(found)
    timing.show("beside plain steering", list(shown), shown.values.tolist())
    print(equal_trait.verdict(found))
    if not args.quick:
        tables.save_table(
            table.round(4), "manifold_equal", directory=args.directory, provenance={"grid": GRID}
        )
    figures: dict[str, Any] = {
        f"{row['way']} at {row['share']:.0%}": row["more"] for row in found.to_dict("records")
    }
    return timing.finish("equal_trait", figures, TARGETS, {"quick": args.quick})


if __name__ == "__main__":
    sys.exit(main())
