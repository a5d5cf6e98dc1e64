"""Rules that choose a ceiling without knowing the coherence, checked against exact coherence.

Every rule faces two questions: how far from the truth where texts do fall apart, and how often it
calls an end where there is none. A constant guess, tuned on the other traits, is the least that a
rule must beat. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from workbench.alert import alert_as_coded, alert_as_meant
from workbench.breakage import intact
from workbench.crossings import CEILING_SHARE, crossing, settled
from workbench.marks import UNITS, Ceiling
from workbench.slopes import coefficient_axis

EXACT = "coherence halved (exact)"
CONSTANT = "constant (other traits)"
RULES = ("this package", "ALERT as meant", "ALERT as coded", CONSTANT)


def rules_table(
    frames: Mapping[str, pd.DataFrame], ceilings: Mapping[str, Ceiling]
) -> pd.DataFrame:
    """The ceiling of this package, of the reference rule as meant and as coded, and of the facts.

    One row per trait and sign, NaN where a rule finds no end in the range. Where coherence is
    known two columns follow: where its mean over prompts halves (`exact_ceiling`), and the
    constant guess, the median size of that column over the other traits. `attrs["units"]` names
    the units of the coefficients: "residual norms", "raw units", or both.
    """
    rows = []
    for trait, ceiling in ceilings.items():
        frame = frames[trait]
        coded = alert_as_coded(frame)
        for sign, side in ceiling.sides.items():
            meant = alert_as_meant(frame, sign=sign)
            row = {
                "trait": trait,
                "sign": "+" if sign > 0 else "−",
                "this package": side.ceiling.value,
                "ALERT as meant": math.nan if meant.index is None else meant.upper_bound,
                "ALERT as coded": math.nan if coded.index is None else sign * coded.upper_bound,
            }
            if "coherence" in frame.columns:
                row[EXACT] = exact_ceiling(frame, sign)
            rows.append(row)
    rules = pd.DataFrame(rows)
    if EXACT in rules.columns:
        rules[CONSTANT] = _constants(rules)
    units = dict.fromkeys(f"{UNITS[ceiling.unit]}s" for ceiling in ceilings.values())
    rules.attrs["units"] = " and ".join(units)
    return rules


def _constants(rules: pd.DataFrame) -> pd.Series:
    """With each row's sign, the median exact size over rows of other traits; NaN if none."""
    sizes = rules[EXACT].abs()
    others = [sizes[rules["trait"] != trait].dropna() for trait in rules["trait"]]
    sign = np.where(rules["sign"] == "+", 1.0, -1.0)
    medians = [part.median() if len(part) else math.nan for part in others]
    return pd.Series(sign * np.array(medians, dtype=float), index=rules.index)


def exact_ceiling(frame: pd.DataFrame, sign: int, share: float = CEILING_SHARE) -> float:
    """Where mean coherence first falls below a share of its value at 0; NaN if it never does.

    The mean is over prompts, made to fall along the coefficient; the first break that lasts
    counts, as in `find_ceiling`. Raises ValueError where the coherence of unsteered texts is 0.
    """
    axis, _ = coefficient_axis(frame)
    side = frame[(frame["vector"] == "vector") & (sign * frame[axis] >= 0)]
    table = side.assign(size=side[axis].abs()).pivot_table(
        index="prompt_index", columns="size", values="coherence"
    )
    fitted = settled(table.to_numpy(dtype=float), share)
    crossed = crossing(table.columns.to_numpy(dtype=float), fitted, share)
    return sign * crossed if math.isfinite(crossed) else math.nan


def rules_verdict(rules: pd.DataFrame) -> str:
    """How far each rule of `rules_table` lies from the exact column, and its false alarms."""
    if EXACT not in rules.columns:
        return "No judge knows the coherence of these texts, so the rules cannot be checked here."
    ends = rules[EXACT].notna()
    parts = [_fares(rule, rules[rule], rules[EXACT], ends) for rule in RULES]
    return (
        f"Exact coherence halves on {int(ends.sum())} of {len(rules)} curves. Distance from there, "
        f"in {rules.attrs['units']}, and false alarms (an end where it does not halve): "
        + "; ".join(parts)
        + "."
    )


def _fares(rule: str, chosen: pd.Series, exact: pd.Series, ends: pd.Series) -> str:
    if rule == CONSTANT and chosen.isna().all():
        return f"{rule}: no other trait to take it from"
    distance = (chosen - exact).abs().dropna()
    said = f"{rule}: {distance.mean():.2f} on average" if len(distance) else f"{rule}: no distance"
    silent = int((chosen.isna() & ends).sum())
    if silent:
        said += f", silent on {silent} of {int(ends.sum())}"
    if (~ends).any():
        said += f", {int((chosen.notna() & ~ends).sum())} of {int((~ends).sum())} false alarms"
    return said


def flags_table(frame: pd.DataFrame, *, coherent: float = 0.5) -> pd.DataFrame:
    """How many of the vector's texts are called intact or broken, against their exact coherence.

    frame     a sweep; unsteered texts count too, texts of unknown coherence do not
    coherent  the least coherence of a text that counts as coherent

    Rows "intact" and "broken" (gibberish, loops or empty, see `breakage.intact`), columns
    "coherent" and "incoherent". Raises ValueError for a frame without coherence.
    """
    if "coherence" not in frame.columns:
        raise ValueError(f"the frame has no column 'coherence'; it has {list(frame.columns)}")
    judged = intact(frame)
    known = judged[(judged["vector"] == "vector") & judged["coherence"].notna()]
    kept, good = known["intact"], known["coherence"] >= coherent
    return pd.DataFrame(
        {
            name: [int((whole & right).sum()) for whole in (kept, ~kept)]
            for name, right in (("coherent", good), ("incoherent", ~good))
        },
        index=["intact", "broken"],
    )
