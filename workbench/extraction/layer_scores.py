"""Scores of layers: d′ of held-out pairs with its interval, and which layer is best.

Pure arrays and tables, one row a layer. Knows nothing of models or of how a score was measured.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from workbench.statistics.intervals import Floats, Interval, bootstrap, wilson


def d_prime_interval(high: Floats, low: Floats, *, level: float = 0.95, seed: int = 0) -> Interval:
    """d′ of pairs with its bootstrap interval (BCa), whole pairs resampled.

    high, low  (N,) projections of the positive and the negative sides, pair by pair

    d′ = (mean+ - mean-) / sqrt((var+ + var-) / 2), NaN for fewer than two pairs or without spread.
    """
    if len(high) < 2 or len(low) < 2:
        return Interval(math.nan, math.nan, math.nan, len(high))
    # Shifting both sides changes no d′ and keeps the sums of squares exact.
    up, down = high - high.mean(), low - high.mean()
    table = np.stack([up, down, up**2, down**2, np.ones(len(up))], axis=1)
    return bootstrap(table, _d_prime, level=level, seed=seed, corrected=True)


def _d_prime(sums: Floats) -> Floats:
    """d′ from sums over pairs (R, 5) of up, down, up², down², 1: (R,)."""
    up, down, up2, down2, count = sums.T
    spread = (up2 - up**2 / count + down2 - down**2 / count) / (2 * (count - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12, (up - down) / count / np.sqrt(spread), np.nan)


def share_interval(share: float, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share in which ties count half: its ends hold with each of the ties
    counted against and for."""
    successes = share * trials
    low = wilson(math.floor(successes + 1e-9), trials, level=level).low
    return low, wilson(math.ceil(successes - 1e-9), trials, level=level).high


def best_layer(table: pd.DataFrame, score: str) -> pd.Series:
    """The row of the layer with the highest score (a column), the lower layer of equals.

    The best of many noisy scores is, on average, better than that layer is: report results on
    other data. Raises ValueError for a table in which no layer has a score.
    """
    known = table.dropna(subset=score).sort_values("layer", kind="stable")
    if known.empty:
        raise ValueError(f"no layer has a value of {score!r}: nothing to choose from")
    return known.iloc[int(known[score].to_numpy().argmax())]


def best_layers(separation: pd.DataFrame, by: str) -> pd.DataFrame:
    """Of each `by` (a column) the layer with the highest d′, with 95 % intervals.

    separation  rows of `SteeringVector.separation`, with the column `by`
    """
    rows = []
    for name, group in separation.groupby(by, sort=False):
        if group["d_prime"].notna().any():
            top = best_layer(group, "d_prime")
            rows.append(
                {
                    by: name,
                    "best layer": int(top["layer"]),
                    "d′": float(top["d_prime"]),
                    "d′, 95 % interval": _ends(top, "d_prime", ".2f"),
                    "pairs told apart": f"{top['pair_accuracy']:.0%}",
                    "pairs, 95 % interval": _ends(top, "pair_accuracy", ".0%"),
                }
            )
    return pd.DataFrame(rows)


def d_prime_said(best: pd.DataFrame, by: str, name: str) -> str:
    """The d′ of one row of `best_layers` with its interval, such as "4.83 [3.87 to 5.68]"; "not
    known" without that row."""
    rows = best[best[by] == name]
    if rows.empty:
        return "not known"
    row = rows.iloc[0]
    return f"{row['d′']:.2f} [{row['d′, 95 % interval']}]"


def _ends(row: pd.Series, score: str, spec: str) -> str:
    low, high = (format(float(row[f"{score}_{end}"]), spec) for end in ("low", "high"))
    return f"{low} to {high}".replace("-", "−")
