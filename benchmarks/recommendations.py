"""What a recommended coefficient is worth: the gain in trait there, and how many texts hold.

On the sweeps of study_ceilings.py, with the exact coherence and trait of every text; figures as in
answers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from answers import HALVINGS, Known, answer, ratio, share, sides_of, table_of

from workbench.breakage import intact
from workbench.crossings import RECOMMENDED_SHARE, last_safe, settled
from workbench.intervals import Floats
from workbench.judges import HOLDS

# Gains in trait: what random and shuffled directions rarely reach on these sweeps.
WORTH = 0.3


def gains(side: pd.DataFrame, sign: int) -> tuple[Floats, Floats, Floats]:
    """Sizes (K,), the gain in trait (K,), and the share of texts that hold (K,).

    A gain is the mean over prompts whose unsteered text holds of how far the trait has moved from
    there in the sign's direction; a text that broke has moved nowhere: that is no steering.
    """
    sizes, coherence = table_of(side, "coherence")
    _, shown = table_of(side, "shown")
    holds = coherence >= HOLDS
    moved = np.nan_to_num(sign * (shown - shown[:, :1]))
    kept = holds[:, 0]
    if not kept.any():
        return sizes, np.zeros(len(sizes)), np.zeros(len(sizes))
    return sizes, np.where(holds, moved, 0.0)[kept].mean(axis=0), holds[kept].mean(axis=0)


def safe_place(side: pd.DataFrame) -> int | None:
    """Where `find_ceiling` would recommend, were there an effect; None where nothing is whole."""
    sizes, whole = table_of(intact(side), "intact")
    kept = whole[whole[:, 0] > 0]
    if not len(kept):
        return None
    bound = RECOMMENDED_SHARE
    return int(np.searchsorted(sizes, last_safe(sizes, settled(kept, bound), bound)))


def best_seen(side: pd.DataFrame, sign: int) -> int | None:
    """Where the mean gain in trait is greatest, texts that are not intact counting nothing: what a
    sweep shows without exact coherence. None where no unsteered text is intact."""
    _, whole = table_of(intact(side), "intact")
    _, shown = table_of(side, "shown")
    kept = whole[:, 0] > 0
    if not kept.any():
        return None
    moved = np.nan_to_num(sign * (shown - shown[:, :1]))
    return int(np.where(whole > 0, moved, 0.0)[kept].mean(axis=0).argmax())


def recommended(known: Sequence[Known], halvings: int = HALVINGS) -> dict[str, Any]:
    """What recommended coefficients are worth.

    captured        the gain at the recommended coefficient, 0 where there is none, by the greatest
                    on the sweep, of all sides where that is worth having; the greatest is the best
                    of many noisy numbers
    captured_said   the same of the sides that got one
    captured_safe   the same, were one given wherever nine tenths of the texts are whole somewhere,
                    effect or not
    captured_seen   the same at the coefficient where the gain in intact texts, which a sweep with a
                    judge of the trait shows, is greatest
    apart_…         chosen on half of the prompts, seen on the other, where the whole sweep shows an
                    effect: the share of texts that hold, that of sides where fewer than half (nine
                    tenths) do
    captured_apart  of the same sides, the gain on the other prompts by the greatest gain there,
                    which is the best of many noisy numbers: in hindsight, so that 1 is out of reach
    captured_apart_seen   and of the coefficient with the greatest gain on the first prompts
    captured_apart_exact  the same, were exact coherence known there
    """
    rows, said, below, short, hold, apart_rows = [], [], [], [], [], []
    seen_rows: dict[str, list[tuple[str, float, float]]] = {}
    for each, sign, _ in sides_of(known):
        whole = each.side(sign)
        side = answer(whole, sign)
        value = np.nan if side is None else side.recommended.value
        sizes, gain, _ = gains(whole, sign)
        given = bool(np.isfinite(value))
        said.append((each.cluster, float(given)))
        got = float(gain[np.abs(sizes - abs(value)).argmin()]) if given else 0.0
        if gain.max() >= WORTH:
            rows.append((each.cluster, got, float(gain.max()), given))
            for name, chosen in (("safe", safe_place(whole)), ("seen", best_seen(whole, sign))):
                worth = 0.0 if chosen is None else float(gain[chosen])
                seen_rows.setdefault(name, []).append((each.cluster, worth, float(gain.max())))
        if side is None or side.effect != "effect":
            continue
        apart = []
        for first, second in each.halves(sign, halvings):
            place, best = safe_place(first), best_seen(first, sign)
            if place is not None and best is not None:
                _, seen, holding = gains(second, sign)
                exact = int(gains(first, sign)[1].argmax())
                apart.append((holding[place], seen.max(), *seen[[place, best, exact]]))
        if apart:
            table = np.array(apart)
            hold.append((each.cluster, float(table[:, 0].mean())))
            below.append((each.cluster, float((table[:, 0] < HOLDS).mean())))
            short.append((each.cluster, float((table[:, 0] < RECOMMENDED_SHARE).mean())))
            apart_rows.append((each.cluster, *table[:, 1:].mean(axis=0)))
    ratios = [ratio(table, f"captured_{name}") for name, table in seen_rows.items()]
    for column, end in ((2, ""), (3, "_seen"), (4, "_exact")):
        table = [(row[0], row[column], row[1]) for row in apart_rows]
        ratios.append(ratio(table, f"captured_apart{end}"))
    return {
        **share(said, "recommended"),
        **ratio([row[:3] for row in rows], "captured"),
        **ratio([row[:3] for row in rows if row[3]], "captured_said"),
        **share(hold, "apart_hold"),
        **share(below, "apart_below_half"),
        **share(short, "apart_below_nine_tenths"),
        **{key: value for found in ratios for key, value in found.items()},
    }
