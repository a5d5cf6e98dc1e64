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

from workbench.judges import HOLDS
from workbench.statistics.crossings import CEILING_SHARE, RECOMMENDED_SHARE, last_safe, settled
from workbench.statistics.intervals import Floats
from workbench.sweeps.breakage import intact
from workbench.sweeps.ceiling import Side

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
    """Where the gain is greatest that a sweep shows, intact texts in place of those that hold."""
    _, whole = table_of(intact(side), "intact")
    _, shown = table_of(side, "shown")
    return greatest(_gain(whole > 0, shown, sign))


def greatest(gain: Floats) -> int | None:
    """The place of the greatest gain (K,) but 0: of a running mean of three coefficients, as single
    ones are noisy, and the middle of those that tie with it, as few prompts do."""
    mean = np.convolve(np.pad(gain, 1, mode="edge"), [1 / 3] * 3, "valid")
    ties = np.flatnonzero(mean >= mean.max() - 1e-9)
    return int(ties[len(ties) // 2]) or None


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
    apart_…         recommended by half of the prompts, looked at on the other: the share of texts
                    that hold, that of sides where fewer than half (nine tenths) do
    captured_apart  of all sides worth having, the gain on the other prompts at what half of them
                    recommend, 0 where they recommend nothing, by the greatest gain there: that is
                    the best of many noisy numbers, so that 1 is out of reach
    captured_apart_safe, _seen, _exact   the same of `safe_place`, of `best_seen`, and of the
                    greatest gain with exact coherence known, all on the prompts that choose
    captured_apart_own   what `best_seen` captures on the very prompts that choose
    captured_more   captured_apart_safe less captured_apart_seen, with an interval of its own
    """
    rows, said, apart, held = [], [], [], []
    for each, sign, _ in sides_of(known):
        whole = each.side(sign)
        sizes, gain, _ = gains(whole, sign)
        place = _given(answer(whole, sign), sizes)
        said.append((each.cluster, float(place is not None)))
        halves = pd.DataFrame([_apart(*half, sign) for half in each.halves(sign, halvings)])
        given = halves.dropna(subset=["holding"])
        if len(given):
            held.append({"cluster": each.cluster, **given.mean().to_dict()})
        if gain.max() < WORTH:
            continue
        apart.append({"cluster": each.cluster, **halves.mean().to_dict()})
        places = {"safe": safe_place(whole), "seen": best_seen(whole, sign), "given": place}
        row = {key: 0.0 if at is None else gain[at] for key, at in places.items()}
        row |= {"best": gain.max(), "said": place is not None}
        rows.append({"cluster": each.cluster, **row})
    table, others, kept = pd.DataFrame(rows), pd.DataFrame(apart), pd.DataFrame(held)
    more = others.assign(more=others["safe"] - others["seen"])
    return {
        **share(said, "recommended"),
        **_part(table, "given", "captured"),
        **_part(table[table["said"]], "given", "captured_said"),
        **_part(table, "safe", "captured_safe"),
        **_part(table, "seen", "captured_seen"),
        **share(_rows(kept, "holding"), "apart_hold"),
        **share(_rows(kept, "below"), "apart_below_half"),
        **share(_rows(kept, "short"), "apart_below_nine_tenths"),
        **_part(others, "given", "captured_apart"),
        **_part(others, "safe", "captured_apart_safe"),
        **_part(others, "seen", "captured_apart_seen"),
        **_part(others, "exact", "captured_apart_exact"),
        **_part(others, "own", "captured_apart_own", "own_best"),
        **_part(more, "more", "captured_more"),
    }


def _given(side: Side | None, sizes: Floats) -> int | None:
    """The place of what `find_ceiling` recommends."""
    value = np.nan if side is None else side.recommended.value
    return int(np.abs(sizes - abs(value)).argmin()) if np.isfinite(value) else None


def _apart(first: pd.DataFrame, second: pd.DataFrame, sign: int) -> dict[str, float]:
    """What places chosen on some prompts are worth on others."""
    (sizes, own, _), (_, gain, holding) = gains(first, sign), gains(second, sign)
    place = _given(answer(first, sign), sizes)
    seen = best_seen(first, sign)
    places = {"given": place, "safe": safe_place(first), "seen": seen, "exact": greatest(own)}
    kept = np.nan if place is None else float(holding[place])
    return {
        **{key: 0.0 if at is None else float(gain[at]) for key, at in places.items()},
        "best": gain.max(),
        "own": 0.0 if seen is None else own[seen],
        "own_best": own.max(),
        "holding": kept,
        "below": np.nan if place is None else float(kept < CEILING_SHARE),
        "short": np.nan if place is None else float(kept < RECOMMENDED_SHARE),
    }


def _rows(table: pd.DataFrame, column: str) -> list[tuple[str, float]]:
    return list(zip(table["cluster"], table[column], strict=True)) if len(table) else []


def _part(table: pd.DataFrame, part: str, name: str, whole: str = "best") -> dict[str, Any]:
    return ratio(table[["cluster", part, whole]].to_numpy().tolist(), name)
