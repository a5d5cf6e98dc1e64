"""Whether distance from ordinary text tells, across vectors, which of them break earlier.

    python benchmarks/across.py [--quick] [--directory reports]

Reads the tables of study_manifold.py and study_parts.py (`make study`) and of the studies of
ceilings; runs no model. Of vectors at the same norm, and at the same KL: the rank correlation of
distance with the true ceiling, with the size at which the loss of unrelated text has risen by a nat
and utility fallen by ten, within layers of a model; beside KL or norm and |cos| to the principal
components of ordinary text; and given these. Intervals resample traits and models. Then whether one
monotone law of distance serves traits that it was not fitted to, per layer and method; and what the
parts of vectors along the manifold and off it do. `--quick` takes the true ceiling alone and saves
nothing. Saves `manifold_sides`, `manifold_across`, `manifold_points`, `manifold_laws` and
`manifold_parts`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import timing  # puts the checkout on the path
from timing import Target, at_least

from workbench.studies import distance_laws, manifold_findings, mediation
from workbench.studies.manifold_findings import OUTCOMES
from workbench.support import tables

# Reported, whatever comes out.
TARGETS: dict[str, Target] = {"sides": at_least(1)}


def laws_of(points: pd.DataFrame) -> pd.DataFrame:
    """R² on traits left out: over all layers and methods, and per layer and method."""
    judged = distance_laws.judged(points)
    every = distance_laws.held_out(judged, by=()).assign(depth="all", method="all")
    return pd.concat([every, distance_laws.held_out(judged)], ignore_index=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = timing.parser("Whether distance tells across vectors which break earlier.")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    # As saved, so that whoever correlates the saved table finds the same.
    frame = manifold_findings.sides(args.directory).round(5)
    if frame.empty:
        print("no study tables: run `python benchmarks/study_manifold.py` first")
        return 1
    outcomes = ["ceiling"] if args.quick else list(OUTCOMES)
    found = manifold_findings.correlations(frame, outcomes=outcomes)
    figures: dict[str, Any] = {"sides": len(frame), "models": frame["model"].nunique()}
    for outcome in outcomes:
        shown = manifold_findings.shown(found, outcome)
        timing.show(OUTCOMES[outcome], list(shown), shown.values.tolist())
        print(manifold_findings.verdict(found, outcome=outcome), flush=True)
    for row in found[found["outcome"] == "ceiling"].to_dict("records"):
        name = f"{row['matched']}_{str(row['predictor']).replace(' ', '_')}"
        for kind in ("alone", "beside"):
            figures[f"{name}_{kind}"] = row[kind]
    points, laws = pd.DataFrame(), pd.DataFrame()
    if not args.quick:
        points = distance_laws.points(args.directory)
        laws = laws_of(points)
        for outcome in distance_laws.OUTCOMES:
            shown = distance_laws.shown(laws, outcome)
            timing.show(f"one law of {outcome}", list(shown), shown.values.tolist())
        print(distance_laws.verdict(laws), flush=True)
    parts = mediation.studied(args.directory)
    if len(parts):
        compared = mediation.compared(mediation.matched(mediation.curves(parts)))
        shown = mediation.shown(compared)
        timing.show("parts of vectors", list(shown), shown.values.tolist())
        print(mediation.verdict(compared), flush=True)
        if not args.quick:
            tables.save_table(compared, "manifold_parts", directory=args.directory)
    if not args.quick:
        about = {"models": manifold_findings.studied(args.directory)}
        made = {
            "sides": frame,
            "across": found.round(4),
            "points": points.round(4),
            "laws": laws.round(4),
        }
        for name, table in made.items():
            tables.save_table(table, f"manifold_{name}", directory=args.directory, provenance=about)
    return timing.finish("across", figures, TARGETS, {"quick": args.quick})


if __name__ == "__main__":
    sys.exit(main())
