"""What worse judges do to a ceiling (faults.py), as the table and the sentences of a report.

Every number and every word of judgement comes from the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.studies.faults import ENOUGH, FAULTS, TRAIT

HIGH = 0.9  # a kappa that few judges reach


def shown_faults(table: pd.DataFrame) -> pd.DataFrame:
    """`faults.measure_all` with intervals in words."""
    means = {name: fault.means for name, fault in FAULTS.items()}
    return pd.DataFrame(
        {
            "fault": row["fault"],
            "strength": f"{row['strength']:.2g}: {means[row['fault']]}"
            if row["fault"] in means
            else "–",
            "kappa": f"{row['kappa']:.3f} [{row['kappa_low']:.3f}, {row['kappa_high']:.3f}]",
            "error": _off(row, "error", "lost"),
            "no ceiling seen": f"{row['lost']:.0%}",
            "error, own bound": _off(row, "own_error", "own_lost"),
        }
        for row in table.to_dict("records")
    )


def faults_said(table: pd.DataFrame, same: pd.DataFrame, alone: float) -> str:
    """Whether agreement is enough to trust a ceiling.

    table  of `faults.measure_all`
    same   of `faults.at_kappa`
    alone  the error of the ceiling that is found without a judge
    """
    own = table[table["fault"] != "none"]
    said = (
        _at_enough(same, alone),
        " ".join(_extremes(own, alone)),
        _of_trait(own),
    )
    return "\n\n".join(filter(None, said))


def _at_enough(same: pd.DataFrame, alone: float) -> str:
    if same.empty:
        return f"None of these faults brings kappa down to {ENOUGH:g}."
    each = "; ".join(
        f"*{row['fault']}* {_off(row, 'error', 'lost')}, with its own bound "
        f"{_off(row, 'own_error', 'own_lost')}"
        for row in same.to_dict("records")
    )
    worse, own_worse = (int((same[f"{name}_low"] > alone).sum()) for name in ("error", "own_error"))
    return (
        f"**Does a kappa of {ENOUGH:g} find the ceiling as well as no judge at all? "
        f"{_answer(worse, len(same))}; if coherent is what scores above a bound of the judge's "
        f"own, {_answer(own_worse, len(same)).lower()}.** At that very agreement the ceiling is "
        f"off by: {each}. Found without a judge it is off by {alone:.3f}; clear of their "
        f"intervals, {worse} of these {len(same)} judges do worse at the bound of a half, "
        f"{own_worse} with their own."
    )


def _answer(worse: int, of: int) -> str:
    if worse == 0:
        return "Not clearly worse, for any of these faults"
    return "No, for none of these faults" if worse == of else "That depends on the fault"


def _extremes(own: pd.DataFrame, alone: float) -> list[str]:
    """The worst of the judges that agree well, and the best of those that do not."""
    said = []
    good, poor = own[own["kappa"] >= HIGH], own[own["kappa"] < ENOUGH]
    if len(good):
        row = good.loc[good["error"].idxmax()]
        said.append(
            f"Of the judges with a kappa of at least {HIGH:g}, the worst (*{row['fault']}*, "
            f"{row['kappa']:.2f}) is off by {_error(row, 'error')}, "
            f"{'more' if row['error_low'] > alone else 'not clearly more'} than without a judge."
        )
    if len(poor):
        row = poor.loc[poor["own_error"].idxmin()]
        said.append(
            f"Of those below {ENOUGH:g}, the best (*{row['fault']}*, {row['kappa']:.2f}) is off by "
            f"{_error(row, 'own_error')} with its own bound, "
            f"{'less' if row['own_error_high'] < alone else 'not clearly less'} than without one."
        )
    return said


def _of_trait(own: pd.DataFrame) -> str:
    """How far the two signs come apart, at the severest such fault that still agrees enough."""
    rows = own[(own["fault"] == TRAIT) & (own["kappa"] >= ENOUGH)]
    if rows.empty:
        return ""
    row = rows.loc[rows["strength"].idxmax()]
    return (
        f"A judge that marks texts down for showing the trait (*{TRAIT}*) still has a kappa of "
        f"{row['kappa']:.2f} when it puts the ceiling towards the trait at "
        f"{np.exp(row['toward']):.2f} of where it is, in the geometric mean, and that of the other "
        f"sign at {np.exp(row['away']):.2f}: no single number of agreement shows that."
    )


def _off(row: Mapping[str, Any] | pd.Series, name: str, lost: str) -> str:
    """The error, unless most ceilings are lost: then it says how far the sweeps reach, and no
    more."""
    return "most ceilings lost" if row[lost] > 0.5 else _error(row, name)


def _error(row: Mapping[str, Any] | pd.Series, name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
