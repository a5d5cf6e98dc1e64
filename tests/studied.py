"""A made-up study of vectors, where it is known what makes them break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from workbench.studies import manifold_findings
from workbench.support import tables

GRID = np.array([-1.2, -0.8, -0.4, -0.2, 0, 0.2, 0.4, 0.8, 1.2])


def study(directory: Path, *, tells: bool, alone: bool = False) -> None:
    """Two models, six traits, two vectors each. A vector's strength decides its KL and ceiling; how
    far it leads off decides the ceiling too, or nothing. With `alone` it alone decides."""
    rng = np.random.default_rng(0)
    for model in ("a", "b"):
        tabled: dict[str, list[pd.DataFrame]] = {}
        for trait in range(6):
            for method in ("one", "two"):
                strength, off = np.exp(0.4 * rng.standard_normal(2))
                ceiling = 0.5 / (1.0 if alone else strength) / (off if tells else 1.0)
                case = {"trait": f"t{trait}", "layer": 0, "method": method, "seed": 0}
                sizes = np.abs(GRID)
                seen = pd.DataFrame({"coefficient_norm": GRID})
                for kind in manifold_findings.KINDS:
                    seen[kind] = 0.8 * np.exp(off * sizes)
                seen["kl"] = (strength * sizes) ** 2
                parts = {
                    "manifold": pd.concat(
                        [seen.assign(place=place) for place in ("steered", "last")]
                    ),
                    "directions": pd.DataFrame({"cos_top": [rng.uniform()]}),
                    "rivals": pd.DataFrame(
                        {
                            "coefficient_norm": GRID,
                            "kl_95": 8 * (strength * sizes) ** 2,
                            "corpus_loss": 0.5 + 2 * sizes / ceiling,
                        }
                    ),
                    "odds": pd.DataFrame(
                        {"coefficient_norm": GRID, "utility": -20 - 15 * sizes / ceiling}
                    ),
                    "ceilings": pd.DataFrame(
                        {
                            "prompt_index": np.repeat(range(6), len(GRID)),
                            "coefficient_norm": np.tile(GRID, 6),
                            "coherence": np.concatenate(
                                [sizes < ceiling * (1 + 0.05 * i) for i in range(6)]
                            ).astype(float),
                        }
                    ),
                }
                for name, table in parts.items():
                    tabled.setdefault(name, []).append(table.assign(**case))
        for name, every in tabled.items():
            whole = pd.concat(every, ignore_index=True)
            tables.save_table(whole, f"study_{name}_{model}", directory=directory, compact=True)
