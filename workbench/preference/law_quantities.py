"""What a fitted law says that the curve itself identifies: slope at 0, peak, half-life.

The parameters of the laws trade off (in the Gaussian limit only p / L is known), so intervals stand
here, on numbers read off the fitted curve within the range of m. Intervals speak for pairs: whole
pairs are resampled and the law is fitted to the mean of each resample (Efron 1979). A law is fitted
to the whole range and may miss its middle: `slope_at_0` is that of the curve itself.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.preference.law_shapes import Floats, Kind
from workbench.preference.laws import Fit, fit, fit_many
from workbench.statistics.intervals import Interval, bootstrap_mean, percentiles, resamples
from workbench.support.checks import check_whole

# Points on which a curve is read off, 0 and as many on either side of it.
_POINTS = 2001


def curves(frame: pd.DataFrame, column: str) -> tuple[Floats, Floats]:
    """A column of `odds.odds` as a table: the grid of m (M,), and one row per pair (N, M).

    Raises ValueError for a frame without the column, and where a pair lacks some m.
    """
    if column not in frame.columns:
        raise ValueError(f"the frame has no column {column!r}, but {list(frame.columns)}")
    wide = frame.pivot(index="pair", columns="m", values=column)
    if len(wide) * wide.shape[1] != len(frame):
        raise ValueError(f"{len(frame)} rows for {len(wide)} pairs at {wide.shape[1]} values of m")
    return wide.columns.to_numpy(dtype=float), wide.to_numpy(dtype=float)


def means(table: Floats, weights: Floats | None = None) -> Floats:
    """Mean over pairs (N, M) of what is defined, weighted (R, N): (R, M), or (M,) without weights.

    Raises ValueError where no pair is defined.
    """
    known = np.isfinite(table)
    if not known.any(axis=0).all():
        raise ValueError(
            f"no pair is defined at point {int((~known.any(axis=0)).argmax())} of the grid: leave "
            "that m out, or sum losses instead of taking means"
        )
    each = np.ones((1, len(table))) if weights is None else weights
    with np.errstate(invalid="ignore"):
        found = (each @ np.where(known, table, 0)) / (each @ known.astype(float))
    return found[0] if weights is None else found


def slope_at_0(frame: pd.DataFrame, column: str = "preference", *, seed: int = 0) -> Interval:
    """The slope of a curve at no steering, by no law: between the points of the grid on either side
    of 0, in nats per unit of m, mean over pairs with its 95 % bootstrap interval over pairs.

    Raises ValueError for a grid that lies on one side of 0, and as `curves`.
    """
    grid, table = curves(frame, column)
    below, above = np.flatnonzero(grid < 0), np.flatnonzero(grid > 0)
    if not len(below) or not len(above):
        raise ValueError(f"a grid from {grid[0]:g} to {grid[-1]:g}: give points on both sides of 0")
    left, right = below[-1], above[0]
    rise = (table[:, right] - table[:, left]) / (grid[right] - grid[left])
    return bootstrap_mean(rise, seed=seed)


def quantities(fitted: Fit, kind: Kind) -> dict[str, float]:
    """Of a fitted curve f within its range of m, in units of m and nats:

    preference  `slope`, that of the line from a tenth of the way to one end of the range to a tenth
                of the way to the other; `peak` and `trough`, the m of its largest and least value;
                `half_life_plus` and `half_life_minus`, the m on either side where f - f(0) has
                fallen to half of what its line over that side's tenth promised
    utility     `peak`, the m of its largest value; `height`, f there less f(0); `half_life_plus`
                and `half_life_minus`, the m on either side of the peak where half of the fall from
                there to the end of the range is done

    NaN where there is no such place within the range.
    """
    zero = _POINTS // 2
    sides = np.linspace(fitted.low, 0, zero + 1), np.linspace(0, fitted.high, zero + 1)
    m = np.concatenate([sides[0], sides[1][1:]])
    f = fitted(m)
    found: dict[str, float] = {}
    if kind == "preference":
        step = _POINTS // 20
        slope = (f[zero + step] - f[zero - step]) / (m[zero + step] - m[zero - step])
        found |= {
            "slope": float(slope),
            "peak": float(m[f.argmax()]),
            "trough": float(m[f.argmin()]),
        }
        for name, way in (("plus", 1), ("minus", -1)):
            side = slice(zero + way * step, None, way)
            promised = (f[zero + way * step] - f[zero]) / (m[zero + way * step] - m[zero]) * m[side]
            with np.errstate(divide="ignore", invalid="ignore"):
                kept = (f[side] - f[zero]) / promised
            found[f"half_life_{name}"] = _first(m[side], kept < 0.5)
        return found
    top = int(f.argmax())
    found |= {"peak": float(m[top]), "height": float(f[top] - f[zero])}
    for name, way in (("plus", 1), ("minus", -1)):
        side = slice(top, None, way)
        fall = f[top] - f[side]
        found[f"half_life_{name}"] = _first(m[side], (fall >= fall[-1] / 2) & (fall > 0))
    return found


def _first(m: Floats, there: np.ndarray) -> float:
    return float(m[there.argmax()]) if there.any() else float("nan")


def intervals(
    frame: pd.DataFrame,
    kind: Kind,
    law: str = "paper",
    *,
    size: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The quantities of a law fitted to the mean over pairs, with bootstrap intervals over pairs.

    One row per quantity: `quantity`, `value`, `low`, `high`, `found` (share of resamples that have
    it; the interval is of those), `alike` (share of resamples that have the very value) and
    `at_bound` (share of resamples whose fit ended at a bound).
    Raises ValueError for a single pair, and as `laws.fit`.
    """
    check_whole("size", size, 1)
    grid, table = curves(frame, kind)
    if len(table) < 2:
        raise ValueError("one pair is too few for an interval over pairs: give 2 or more")
    whole = fit(grid, means(table), kind, law)
    drawn = means(table, resamples(len(table), size, np.random.default_rng(seed)))
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    fits = fit_many(grid, drawn, kind, law, follow=1, near=[whole.numbers])
    values = pd.DataFrame([quantities(each, kind) for each in fits])
    bounded = float(np.mean([bool(each.at_bound) for each in fits]))
    rows = []
    for name, value in quantities(whole, kind).items():
        known = values[name].dropna().to_numpy()
        low, high = percentiles(known, level) if len(known) else (np.nan, np.nan)
        alike = float((values[name] == value).mean())
        rows.append((name, value, low, high, len(known) / len(fits), alike, bounded))
    columns = ["quantity", "value", "low", "high", "found", "alike", "at_bound"]
    return pd.DataFrame(rows, columns=columns)
