"""Which part of a vector carries preference, and which costs utility: along the manifold, or off.

    python benchmarks/study_parts.py [MODEL ...] [--seeds 0] [--directory reports]

The differences of means of the studies (studies.py), of one seed unless told. Of each: the whole
vector, its part along the tangent of the manifold of ordinary text (the principal components with
90 % of its variance) and the rest, each steered by at the same lengths; beside them the same two
parts of a random direction. One table a model:

study_parts_MODEL  a row per case, `part` ("whole", "inside", "outside", "random inside",
                   "random outside") and coefficient: `preference` and `utility`, log-odds in nats,
                   and `both`, the mean log-probability of the two answers, means over pairs; `kl`,
                   KL(steered || unsteered) of the next token of fixed texts; `share`, of the
                   vector's squared length what lies in the part (of the random ones', what would on
                   average); `chance`, what would of a random one's

What comes of it is told by workbench/studies/mediation.py.
"""

from __future__ import annotations

import pandas as pd
from studies import COEFFICIENTS, Case, Study, direction  # puts the checkout on the path
from study_manifold import CODE as MANIFOLD
from study_manifold import SETTINGS, manifolds_of, streams, texts_of

from workbench.geometry.on_manifold import parts
from workbench.loading.models import LM
from workbench.preference.law_quantities import curves, means
from workbench.preference.law_shapes import KINDS
from workbench.preference.odds import odds
from workbench.vectors.controls import random_like

PAIRS, TEXTS = 4, 2
# Five sizes of either sign, from .12 to .88 of a norm.
GRID = COEFFICIENTS[[3, 5, 7, 9, 13, 16, 19, 23, 25, 27, 29]]
CODE = (
    *MANIFOLD, "generation.scoring", "geometry.on_manifold", "preference.law_quantities",
    "preference.law_shapes", "preference.logodds", "preference.odds",
)  # fmt: skip


def measure(lm: LM, case: Case) -> tuple[pd.DataFrame]:
    """A case's curves, a row per part and coefficient."""
    vector, manifolds = direction(lm, case), manifolds_of(lm)
    here = manifolds.at(case.layer)
    inside = float(here.share_inside(vector.directions[case.layer].double()))
    chance = here.chance
    along, off = parts(vector, manifolds)
    random_along, random_off = parts(random_like(vector, case.seed), manifolds)
    rows = []
    for name, made, share, expected in (
        ("whole", vector, 1.0, 1.0),
        ("inside", along, inside, chance),
        ("outside", off, 1 - inside, 1 - chance),
        ("random inside", random_along, chance, chance),
        ("random outside", random_off, 1 - chance, 1 - chance),
    ):
        frame = odds(lm, made, case.pairs.select[:PAIRS], GRID, quiet=True)
        kl = pd.concat(
            pd.DataFrame({"coefficient": seen.coefficients, "kl": seen.kl})
            for seen in streams(lm, made, texts_of(case)[:TEXTS], GRID, [case.layer])
        )
        kl = kl.groupby("coefficient")["kl"].mean().sort_index().to_numpy()
        frame["both"] = -(frame["loss_positive"] + frame["loss_negative"]) / 2
        found = {name: means(curves(frame, name)[1]) for name in (*KINDS, "both")}
        table = pd.DataFrame({"part": name, "coefficient_norm": GRID, **found, "kl": kl})
        rows.append(table.assign(share=share, chance=expected))
    return (pd.concat(rows, ignore_index=True),)


STUDY = Study(
    tables=("parts",),
    measure=measure,
    settings={
        **SETTINGS,
        "texts": TEXTS,
        "pairs": PAIRS,
        "parts_grid": GRID.round(6).tolist(),
    },
    modules=tuple(sorted(CODE)),
    methods=("mean_difference",),
    seeds=(0,),
)

if __name__ == "__main__":
    STUDY.main("What of a vector carries preference.")
