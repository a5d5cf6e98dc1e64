"""How well rules find the ceiling, on sweeps whose every text has its exact coherence.

    python benchmarks/detector.py [--quick] [--directory reports]

Reads the tables of study_ceilings.py and, where they are, of study_odds.py and study_manifold.py.
The *true ceiling* of one side of a sweep is where the share of texts that hold (coherence of at
least a half), among the prompts whose unsteered text holds, falls below a half: made to fall by
isotonic regression, interpolated between coefficients. Its noise floor is how far it moves when
prompts are resampled.

Each rule is judged with its authors' threshold and with the best one of the *other* traits (and,
where several models are there, of the other models): never with one that saw the sweeps it is
judged on. Intervals are over traits, as sweeps of one trait are not independent, in whatever model.
What `find_ceiling` says beside the ceiling is in answers.py. `--quick` takes every sixth sweep and
cuts the prompts in two once; it saves no table.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timing  # puts the checkout on the path
from answers import HALVINGS, Known, breaking, coverage, effects, no_collapse
from detectors import PUBLISHED, RIVALS, RULES, sought
from errors import compare, each_side
from recommendations import recommended
from studies import CONTROLS
from timing import at_least, at_most
from truth import Truth, sides

from workbench.statistics.strata import of_clusters
from workbench.support import tables

SHIPPED = "share intact"
TOLERANCE = 0.2  # the default of `workbench.seek`

TARGETS = {
    "error_of_best_rival": at_most(0.5),
    "difference_low": at_least(0),
    "models": at_least(3),
    "apart_below_half": at_most(0.1),
    "captured": at_least(0.9),
    "covered": at_least(0.9),
    "no_collapse_short": at_least(0.95),
    "no_effect": at_least(0.95),
    "sought_share_of_texts": at_most(0.5),
    "sought_error_more_high": at_most(0.005),
}


def ahead(table: pd.DataFrame, known: Sequence[Truth]) -> Mapping[str, Any]:
    """The rule of `find_ceiling`, which is settled beforehand, against the best rival, which is
    chosen by the very errors, of those that were asked about every side: so the comparison leans
    the rival's way. Its interval is Student's over traits."""
    clusters = [each.trait for each in known]
    ours = table[table["rule"] == SHIPPED].iloc[0]
    heard = table["rule"].isin(list(RIVALS)) & (table["sides"] == len(known))
    rival = table[heard].sort_values("other traits").iloc[0]
    gap = of_clusters(rival["each"] - ours["each"], clusters)
    return {
        "ours": SHIPPED,
        "rival": rival["rule"],
        "error": ours["other traits"],
        "error_of_best_rival": ours["other traits"] / rival["other traits"],
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
    }


def cost(known: Sequence[Truth]) -> dict[str, Any]:
    """What `workbench.seek` writes and errs beside the whole grid, of the rule of `find_ceiling`.

    Its texts are those of the grid's points next to what it asks for: so it can do no better than
    the grid. The unsteered texts count once for both signs.
    """
    rise = PUBLISHED[SHIPPED]
    assert rise is not None
    rows = []
    for each in known:
        found, count = sought(each.curves, rise, TOLERANCE)
        whole = RULES[SHIPPED](each.curves, rise)
        said = np.clip([found, whole], 1e-3, each.end)
        rows.append((*np.abs(np.log(said / each.ceiling)), count + 0.5))
    search, grid, texts = np.array(rows).T
    more = of_clusters(search - grid, [each.trait for each in known])
    per_side = np.mean([len(each.curves.grid) - 0.5 for each in known])
    return {
        "sought_share_of_texts": texts.mean() / per_side,
        "sought_error": search.mean(),
        "grid_error": grid.mean(),
        "sought_error_more": more.value,
        "sought_error_more_low": more.low,
        "sought_error_more_high": more.high,
    }


def answers(every: Sequence[Truth], quick: bool) -> dict[str, Any]:
    """Intervals, non-answers, recommendations and break points, see answers.py."""
    sweeps: dict[int, list[Truth]] = {}
    for each in every:
        sweeps.setdefault(id(each.sweep), []).append(each)
    known = [
        Known(
            sides[0].model,
            sides[0].trait,
            sides[0].method,
            sides[0].sweep,
            {each.sign: each.ceiling for each in sides},
        )
        for sides in sweeps.values()
    ]
    made = [each for each in known if each.method not in CONTROLS]
    dealt = [each for each in known if each.method in CONTROLS]
    halvings = 1 if quick else HALVINGS
    return {
        **coverage(made, halvings),
        **no_collapse(made),
        **effects(made, dealt),
        **recommended(made, halvings),
        **breaking(made),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = timing.parser("How well rules find the ceiling.")
    parser.add_argument("--directory", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    studied = list(sides(args.directory, 6 if args.quick else 1))
    every = [each for each in studied if each.method not in CONTROLS]
    known = [each for each in every if np.isfinite(each.ceiling) and each.ceiling > 0]
    if not known:
        print("no study tables: run `python benchmarks/study_ceilings.py` first")
        return 1
    table = compare(known)
    shown = table.drop(columns=["each", "said"])
    timing.show("mean |log(predicted / true ceiling)|", list(shown), shown.values.tolist())
    figures: dict[str, Any] = {
        "sides": len(every),
        "without_ceiling": len(every) - len(known),
        "models": len({each.model for each in known}),
        "noise_floor": float(np.nanmean([each.floor for each in known])),
        **ahead(table, known),
        **cost(known),
        **answers(studied, args.quick),
    }
    if not args.quick:
        tables.save_table(shown, "detectors", directory=args.directory, provenance=figures)
        sides_table = each_side(table, known).round(4)
        tables.save_table(sides_table, "detector_sides", directory=args.directory, compact=True)
    return timing.finish("detector", figures, TARGETS, {"quick": args.quick})


if __name__ == "__main__":
    sys.exit(main())
