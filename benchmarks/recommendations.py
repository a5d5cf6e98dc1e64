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
from workbench.crossings import CEILING_SHARE, RECOMMENDED_SHARE, last_safe, settled
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
    kept = holds[:, 0]
    return sizes, _gain(holds, shown, sign), holds[kept].mean(axis=0) if kept.any() else 0.0 * sizes


def _gain(holds: np.ndarray, shown: Floats, sign: int) -> Floats:
    """Mean movement (K,) of the prompts whose unsteered text holds, from tables (P, K)."""
    kept = holds[:, 0]
    if not kept.any():
        return np.zeros(holds.shape[1])
    moved = np.nan_to_num(sign * (shown - shown[:, :1]))
    return np.where(holds, moved, 0.0)[kept].mean(axis=0)


def safe_place(side: pd.DataFrame) -> int | None:
    """Where `find_ceiling` would recommend, were there an effect; None where nothing is."""
    sizes, whole = table_of(intact(side), "intact")
    kept = whole[whole[:, 0] > 0]
    if not len(kept):
        return None
    bound = RECOMMENDED_SHARE
    place = int(np.searchsorted(sizes, last_safe(sizes, settled(kept, bound), bound)))
    return place or None


def best_seen(side: pd.DataFrame, sign: int) -> int | None:
    """Where the gain is greatest that a sweep shows, intact texts in place of those that hold: of a
    running mean of three coefficients, as single ones are noisy."""
    _, whole = table_of(intact(side), "intact")
    _, shown = table_of(side, "shown")
    padded = np.pad(_gain(whole > 0, shown, sign), 1, mode="edge")
    return int(np.convolve(padded, [1 / 3] * 3, "valid").argmax()) or None


def recommended(known: Sequence[Known], halvings: int = HALVINGS) -> dict[str, Any]:
    """What recommended coefficients are worth.

    captured        the gain at the recommended coefficient, 0 where there is none, by the greatest
                    on the sweep, of all sides where that is worth having; the greatest is the best
                    of many noisy numbers
    captured_said   the same of the sides that got one
    captured_safe   the same, were one given wherever nine tenths of the texts are whole somewhere,
                    effect or not
    captured_seen   the same at the coefficient where the gain in intact texts, which a sweep with a
                    judge of the trait shows, is greatest (`best_seen`)
    apart_…         chosen on half of the prompts, seen on the other, where the whole sweep shows an
                    effect: the share of texts that hold, that of sides where fewer than half (nine
                    tenths) do
    captured_apart  of those sides that are worth having, the gain on the other prompts by the
                    greatest gain there, the best of many noisy numbers: 1 is out of reach
    captured_apart_seen   and of the coefficient that `best_seen` finds on the first prompts
    captured_apart_exact  the same, were exact coherence known there
    captured_apart_own    what `best_seen` captures on the very prompts that choose, of these sides
    captured_more   captured_apart less captured_apart_seen, with an interval of its own
    """
    rows, said, apart = [], [], []
    for each, sign, _ in sides_of(known):
        whole = each.side(sign)
        side = answer(whole, sign)
        value = np.nan if side is None else side.recommended.value
        sizes, gain, _ = gains(whole, sign)
        given = bool(np.isfinite(value))
        said.append((each.cluster, float(given)))
        worth = bool(gain.max() >= WORTH)
        if worth:
            places = {"safe": safe_place(whole), "seen": best_seen(whole, sign)}
            row = {key: 0.0 if at is None else gain[at] for key, at in places.items()}
            row["given"] = gain[np.abs(sizes - abs(value)).argmin()] if given else 0.0
            rows.append({"cluster": each.cluster, "best": gain.max(), "said": given, **row})
        if side is not None and side.effect == "effect":
            halves = [_apart(*half, sign) for half in each.halves(sign, halvings)]
            halves = [half for half in halves if half]
            if halves:
                means = pd.DataFrame(halves).mean().to_dict()
                apart.append({"cluster": each.cluster, "worth": worth, **means})
    table, others = pd.DataFrame(rows), pd.DataFrame(apart)
    valued = others[others["worth"]]
    more = valued.assign(more=valued["safe"] - valued["seen"])
    return {
        **share(said, "recommended"),
        **_part(table, "given", "captured"),
        **_part(table[table["said"]], "given", "captured_said"),
        **_part(table, "safe", "captured_safe"),
        **_part(table, "seen", "captured_seen"),
        **share(_rows(others, "holding"), "apart_hold"),
        **share(_rows(others, "below"), "apart_below_half"),
        **share(_rows(others, "short"), "apart_below_nine_tenths"),
        **_part(valued, "safe", "captured_apart"),
        **_part(valued, "seen", "captured_apart_seen"),
        **_part(valued, "exact", "captured_apart_exact"),
        **_part(valued, "own", "captured_apart_own", "own_best"),
        **_part(more, "more", "captured_more"),
    }


def _apart(first: pd.DataFrame, second: pd.DataFrame, sign: int) -> dict[str, float]:
    """What places chosen on some prompts are worth on others; empty where nothing is chosen."""
    place, best = safe_place(first), best_seen(first, sign)
    if place is None:
        return {}
    (_, own, _), (_, gain, holding) = gains(first, sign), gains(second, sign)
    return {
        "holding": holding[place],
        "below": float(holding[place] < CEILING_SHARE),
        "short": float(holding[place] < RECOMMENDED_SHARE),
        "best": gain.max(),
        "safe": gain[place],
        "seen": 0.0 if best is None else gain[best],
        "exact": gain[own.argmax()],
        "own": 0.0 if best is None else own[best],
        "own_best": own.max(),
    }


def _rows(table: pd.DataFrame, column: str) -> list[tuple[str, float]]:
    return list(zip(table["cluster"], table[column], strict=True))


def _part(table: pd.DataFrame, part: str, name: str, whole: str = "best") -> dict[str, Any]:
    return ratio(table[["cluster", part, whole]].to_numpy().tolist(), name)
