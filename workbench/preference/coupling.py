"""How much of "utility falls" is more than arithmetic.

Of two answers that are both unlikely, utility = -(L_p + L_n) / 2 + |preference| / 2 + c, with c
between 0 and log 2 (0 where one is much likelier, log 2 where both are alike). So its change from
m = 0 splits into a fall of the likelihood of both, and a share that the preference gives by itself.
Knows nothing of models.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.preference.law_quantities import curves
from workbench.statistics.intervals import bootstrap_mean


def survives(frame: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The change from m = 0 to either end of the range, over the pairs of `odds.odds` with sums.

    One row per (side, part): `side` ("plus", "minus"), `m` (the end), `part`, `value`, `low` and
    `high` (mean over pairs, 95 % bootstrap over pairs, in nats), `pairs` (those whose utility is
    defined at 0 and at the end: the others are left out of every part). The parts add up to the
    first:
    "utility", "likelihood of both" (-(L_p + L_n) / 2), "half of |preference|", "rest"; below stand
    "per token" (the change of `likelihood`, nats per token) and, where it was measured, "unrelated
    text" (minus the loss there, nats per token, without an interval over pairs).

    Raises ValueError for a frame whose losses are means, or without m = 0.
    """
    if frame.attrs.get("length", "sum") != "sum":
        raise ValueError("losses are means per token here: measure odds with length='sum'")
    parts = _parts(frame)
    grid = curves(frame, "preference")[0]
    if not (grid == 0).any():
        raise ValueError(f"m from {grid[0]:g} to {grid[-1]:g} lacks 0, from which changes count")
    zero = int(np.flatnonzero(grid == 0)[0])
    rows = []
    for side, end in (("plus", len(grid) - 1), ("minus", 0)):
        if end == zero:
            continue
        defined = np.isfinite(parts["utility"][:, [zero, end]]).all(axis=1)
        for name, table in parts.items():
            change = table[:, end] - table[:, zero]
            if name == "unrelated text":
                rows.append((side, grid[end], name, float(change[0]), np.nan, np.nan, 0))
                continue
            found = bootstrap_mean(change[defined], seed=seed)
            values = (found.value, found.low, found.high, found.count)
            rows.append((side, grid[end], name, *values))
    return pd.DataFrame(rows, columns=["side", "m", "part", "value", "low", "high", "pairs"])


def _parts(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Name -> (N, M)."""
    used = curves(frame, "utility")[1]
    both = -(curves(frame, "loss_positive")[1] + curves(frame, "loss_negative")[1]) / 2
    half = np.abs(curves(frame, "preference")[1]) / 2
    parts = {
        "utility": used,
        "likelihood of both": both,
        "half of |preference|": half,
        "rest": used - both - half,
        "per token": curves(frame, "likelihood")[1],
    }
    if "unrelated" in frame.columns:
        parts["unrelated text"] = -curves(frame, "unrelated")[1]
    return parts
