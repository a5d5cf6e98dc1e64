"""What worse judges do to a ceiling (faults.py), as the table and the sentences of a report.

Every number and every word of judgement comes from the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbench.statistics.intervals import Interval
from workbench.studies.faults import ENOUGH, FAULTS, TRAIT
from workbench.support.wording import interval

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
            "… less find_ceiling's": _behind(row, ""),
            "error, own bound": _off(row, "own_error", "own_lost"),
            "… own bound, less find_ceiling's": _behind(row, "own_"),
        }
        for row in table.to_dict("records")
    )


def faults_said(table: pd.DataFrame, same: pd.DataFrame, alone: Interval) -> str:
    """Whether agreement is enough to trust a ceiling.

    table  of `faults.measure_all`
    same   of `faults.at_kappa`
    alone  the error of `find_ceiling`, which asks no judge, on the same sides
    """
    own = table[table["fault"] != "none"]
    said = (
        _at_enough(same, alone),
        " ".join(_extremes(own)),
        _of_trait(own),
    )
    return "\n\n".join(filter(None, said))


def _at_enough(same: pd.DataFrame, alone: Interval) -> str:
    if same.empty:
        return f"None of these faults brings kappa down to {ENOUGH:g}."
    each = "; ".join(
        f"*{row['fault']}* {_behind(row, '')}, with its own bound {_behind(row, 'own_')}"
        for row in same.to_dict("records")
    )
    return (
        f"**Does a kappa of {ENOUGH:g} find the ceiling as well as `find_ceiling`, which asks no "
        f"judge? {_answer(same, '')}; if coherent is what scores above a bound of the judge's own: "
        f"{_answer(same, 'own_')}.** `find_ceiling` is off by {interval(alone, '.3f')}; at that "
        f"very agreement the error of each judge less that of `find_ceiling` is: {each} (95 % "
        "intervals of differences paired side by side, over traits; below 0 the judge is nearer)."
    )


def _answer(rows: pd.DataFrame, name: str) -> str:
    """Of so many judges, how many are clearly further off, and nearer, than `find_ceiling`."""
    of = len(rows)
    worse = int((rows[f"{name}behind_low"] > 0).sum())
    better = int((rows[f"{name}behind_high"] < 0).sum())
    told = [f"{n} of {of} clearly {way}" for n, way in ((worse, "worse"), (better, "better")) if n]
    return " and ".join(told) or f"none of {of} clearly worse or better"


def _extremes(own: pd.DataFrame) -> list[str]:
    """The worst of the judges that agree well, and the best of those that do not."""
    said = []
    good, poor = own[own["kappa"] >= HIGH], own[own["kappa"] < ENOUGH]
    if len(good):
        row = good.loc[good["error"].idxmax()]
        said.append(
            f"Of the judges with a kappa of at least {HIGH:g}, the worst (*{row['fault']}*, "
            f"{row['kappa']:.2f}) is off by {_error(row, 'error')}; less the error of "
            f"`find_ceiling`: {_behind(row, '')}, {_clear(row, '')}."
        )
    if len(poor):
        row = poor.loc[poor["own_error"].idxmin()]
        said.append(
            f"Of those below {ENOUGH:g}, the best (*{row['fault']}*, {row['kappa']:.2f}) is off by "
            f"{_error(row, 'own_error')} with its own bound; less the error of "
            f"`find_ceiling`: {_behind(row, 'own_')}, {_clear(row, 'own_')}."
        )
    return said


def _behind(row: Mapping[str, Any] | pd.Series, name: str) -> str:
    """How much more than `find_ceiling` a judge is off by, with the interval of the difference."""
    if row[f"{name}lost"] > 0.5:
        return "most ceilings lost"
    value, low, high = (row[f"{name}behind{end}"] for end in ("", "_low", "_high"))
    return interval(Interval(value, low, high, int(np.isfinite(value))), "+.3f")


def _clear(row: pd.Series, name: str) -> str:
    clear = row[f"{name}behind_low"] > 0 or row[f"{name}behind_high"] < 0
    return f"{'' if clear else 'not '}clear of zero"


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
