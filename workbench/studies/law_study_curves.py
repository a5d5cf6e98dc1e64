"""What the curves of the study of laws look like, and what they hide (benchmarks/study_laws.py).

Reads saved tables; knows nothing of models, nor of how laws are fitted.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.preference import coupling
from workbench.preference.law_shapes import KINDS
from workbench.studies.law_tables import CASE, FORMS


def hidden(frame: pd.DataFrame, *, at: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """What becomes of the answers from m = 0 to the last coefficient within so many true ceilings,
    split as in `coupling.survives`: one row per form, medians over traits, layers and sides.

    frame  study_laws_curves: one row per (case, pair, m)
    """
    rows = []
    near = frame[frame["ceilings"].abs() <= at + 1e-6]
    for case, part in near.groupby(CASE, sort=False):
        found = coupling.survives(with_losses(part), seed=seed)
        rows.append(found.assign(**dict(zip(CASE, case, strict=True))))
    changes = pd.concat(rows, ignore_index=True)
    table = changes.pivot_table(
        index="form", columns="part", values="value", aggfunc="median", sort=False
    )[list(dict.fromkeys(changes["part"]))]
    utility = changes[changes["part"] == "utility"]
    falls = utility.assign(falls=utility["high"] < 0).groupby("form", sort=False)["falls"].mean()
    table["utility falls (share)"] = falls
    wide = changes.pivot_table(index=[*CASE, "side"], columns="part", values="value")
    back = wide["half of |preference|"] / wide["likelihood of both"].abs()
    table["given back (share)"] = back.groupby("form").median()
    table.index = pd.Index([FORMS[str(form)] for form in table.index], name="form")
    return table.reset_index().rename_axis(columns=None)


def with_losses(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `loss_positive` and `loss_negative` out of preference and likelihood."""
    of_positive, of_negative = frame["tokens_positive"], frame["tokens_negative"]
    both = -2 * frame["likelihood"] - frame["preference"] / of_negative
    positive = both / (1 / of_positive + 1 / of_negative)
    return frame.assign(loss_positive=positive, loss_negative=positive + frame["preference"])


def relative_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """The mean curve of every case as the change from m = 0, in shares of its largest.

    frame  study_laws_curves: one row per (case, pair, m)

    One row per (case, kind, m): `ceilings` (m by the true ceiling of its side), `mean`, and `low`
    and `high`, 1.96 standard errors over pairs to either side, all in shares of the largest change.
    """
    rows = []
    for case, part in frame.groupby(CASE, sort=False):
        for kind in KINDS:
            wide = part.pivot(index="pair", columns="ceilings", values=kind)
            change = wide.sub(wide[0.0], axis=0)
            mean = change.mean()
            error = change.std(ddof=1) / np.sqrt(change.count())
            scale = float(mean.abs().max())
            rows.append(
                pd.DataFrame(
                    {
                        **dict(zip(CASE, case, strict=True)),
                        "kind": kind,
                        "ceilings": mean.index.to_numpy(dtype=float),
                        "m": part.groupby("ceilings")["m"].first().to_numpy(dtype=float),
                        "mean": mean.to_numpy() / scale,
                        "low": (mean - 1.96 * error).to_numpy() / scale,
                        "high": (mean + 1.96 * error).to_numpy() / scale,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


def shapes(relative: pd.DataFrame) -> pd.DataFrame:
    """One row per case, kind and side of `relative_curves`:

    half      the change at half of a coefficient just below the true ceiling, by that there
    turned    by how much the change at the end of the range is less than its furthest on that side,
              in shares of that; 0 where it is furthest there
    rightly   whether it is on the side that it should be: preference rises with m, utility falls
    top       where the curve is highest, in true ceilings, of both sides together
    """
    rows = []
    for key, part in relative.groupby([*CASE, "kind"], sort=False):
        curve = part.sort_values("ceilings")
        top = float(curve.loc[curve["mean"].idxmax(), "ceilings"])
        for sign in (1, -1):
            side = curve[sign * curve["ceilings"] >= 0].sort_values("ceilings", key=np.abs)
            values = side["mean"].to_numpy()
            near = np.flatnonzero(side["ceilings"].abs() <= 1 + 1e-6)[-1] // 2 * 2
            way = sign if key[-1] == "preference" else -1
            along = way * values
            furthest = float(along.max())
            rows.append(
                {
                    **dict(zip([*CASE, "kind"], key, strict=True)),
                    "side": sign,
                    "half": float(values[near // 2] / values[near]),
                    "turned": float(1 - along[-1] / furthest) if furthest > 0 else np.nan,
                    "rightly": bool(along[near] > 0),
                    "top": top,
                }
            )
    return pd.DataFrame(rows)
