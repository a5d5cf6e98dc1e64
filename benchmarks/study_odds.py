"""Preference and utility of every case of the studies, and how far the laws say steering is valid.

    python benchmarks/study_odds.py [MODEL ...] [--seeds 0 1] [--directory reports]

Two tables a model. `study_odds_MODEL` has a row per case and coefficient: `preference` and
`utility`, log-odds in nats, means over the pairs that have them. `study_halves_MODEL` has a row per
case and sign: `preference` and `utility`, the half-lives in residual norms of the laws of "Why
Steering Works" (arXiv 2602.02343) fitted to these two curves, as `law_quantities.quantities` has
them (NaN where there is none on that side within the range). The fitted D(m) itself is
no rule: where it rises from 0 to both sides, as it often does for utility, nothing of it halves.
The pairs are the first of those whose prompts study_ceilings.py sweeps, the vectors its differences
of means.
"""

from __future__ import annotations

import pandas as pd
from studies import COEFFICIENTS, Case, Study, direction  # puts the checkout on the path

from workbench.loading.models import LM
from workbench.preference.law_quantities import curves, means, quantities
from workbench.preference.law_shapes import KINDS
from workbench.preference.laws import fit
from workbench.preference.odds import odds

PAIRS = 8
CODE = (
    "contrast.pairs", "extraction.extract", "extraction.methods", "forward.reading",
    "forward.steering", "forward.streams", "forward.tracing", "generation.scoring",
    "interventions.updates", "preference.law_quantities", "preference.law_shapes",
    "preference.laws", "preference.logodds", "preference.multiples", "preference.odds",
    "statistics.distributions", "text.positions", "vectors.steering_vector",
)  # fmt: skip


def measure(lm: LM, case: Case) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The curves of a case, a row per coefficient, and its half-lives."""
    frame = odds(lm, direction(lm, case), case.pairs.select[:PAIRS], COEFFICIENTS, quiet=True)
    found = {kind: means(curves(frame, kind)[1]) for kind in KINDS}
    halves = {
        kind: quantities(fit(COEFFICIENTS, curve, kind), kind) for kind, curve in found.items()
    }
    sides = pd.DataFrame(
        {
            "sign": [1, -1],
            **{
                kind: [halves[kind]["half_life_plus"], -halves[kind]["half_life_minus"]]
                for kind in KINDS
            },
        }
    )
    # One on the other side of 0, as a law of utility has whose peak lies there, is none.
    sides[list(KINDS)] = sides[list(KINDS)].where(sides[list(KINDS)] > 0)
    return pd.DataFrame({"coefficient_norm": COEFFICIENTS, **found}), sides


STUDY = Study(
    tables=("odds", "halves"),
    measure=measure,
    settings={"pairs": PAIRS},
    modules=CODE,
    methods=("mean_difference",),
)

if __name__ == "__main__":
    STUDY.main("Preference and utility of every case.")
