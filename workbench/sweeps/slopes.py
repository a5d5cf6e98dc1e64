"""How steeply each prompt answers to the coefficient, and which answer the wrong way.

Per-sample steerability, Tan et al. 2024, https://arxiv.org/abs/2407.12404.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from workbench.statistics.intervals import bootstrap_mean, wilson
from workbench.sweeps.assembly import is_complete, whole_prompts
from workbench.sweeps.frames import coefficient_axis


def slopes(
    frame: pd.DataFrame,
    column: str = "trait",
    *,
    vector: str = "vector",
    within: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Per prompt, the least-squares slope of a measure over the coefficient near 0.

    frame   a sweep; of one that was stopped only the prompts with a text at every coefficient
            count, with a warning
    column  "trait", or a judge's other column, such as log-odds of the trait
    vector  whose rows count: "vector", or the name of a control, which moves no trait on purpose
    within  coefficients up to this size count, in the frame's units (residual norms where they are
            known); by default the inner quarter of the swept range, two or more on a side
    level   of the intervals

    One row per prompt: `prompt_index`, `slope` (the measure per unit of the coefficient), its
    interval `low` and `high`, and `anti_steerable`, whether the slope is negative. The interval is
    Student's, from the residuals of the line: it says how far the texts lie off a line, so it
    is NaN below three coefficients and has no width where they lie on one. A slope is NaN where a
    prompt has fewer than two coefficients with a value.

    `attrs` hold `column`, `unit`, `vector`, `within`, `level` and, over the `prompts` that have a
    slope: the `mean` slope with `mean_low` and `mean_high` (bootstrap over prompts), the share
    `flat` of slopes that are exactly 0 and, of the others, the share `anti_steerable` that is
    negative, both with `…_low` and `…_high` (Wilson's, prompts as independent trials).

    Raises ValueError for a frame without that column, without such rows, or with fewer than two
    coefficients.
    """
    if column not in frame.columns:
        raise ValueError(f"the frame has no column {column!r}; it has {list(frame.columns)}")
    if not is_complete(frame):
        whole = whole_prompts(frame)
        warnings.warn(
            f"the sweep was stopped: slopes are of the {len(whole)} of {len(frame)} texts whose "
            "prompts have every coefficient",
            stacklevel=2,
        )
        frame = whole
    rows = frame[frame["vector"] == vector]
    if rows.empty:
        raise ValueError(
            f"the frame has no (whole) prompts of {vector!r}; its vectors are "
            f"{sorted(set(frame['vector']))}"
        )
    axis, unit = coefficient_axis(rows)
    table = rows.pivot_table(
        index="prompt_index", columns=axis, values=column, aggfunc="mean", dropna=False
    )
    x = table.columns.to_numpy(dtype=float)
    if len(x) < 2:
        raise ValueError(f"a slope needs at least two coefficients; the frame has {len(x)}")
    reach = _inner(x) if within is None else float(within)
    near = np.abs(x) <= reach * (1 + 1e-9)
    y = table.to_numpy(dtype=float)[:, near]
    slope = _least_squares(x[near], y)
    half = _half_width(x[near], y, slope, level)
    result = pd.DataFrame(
        {
            "prompt_index": table.index.to_numpy(),
            "slope": slope,
            "low": slope - half,
            "high": slope + half,
            "anti_steerable": slope < 0,
        }
    )
    known = slope[np.isfinite(slope)]
    mean = bootstrap_mean(known, level=level)
    flat = wilson(int((known == 0).sum()), len(known), level=level)
    anti = wilson(int((known < 0).sum()), int((known != 0).sum()), level=level)
    result.attrs = {
        "column": column,
        "unit": unit,
        "vector": vector,
        "within": reach,
        "level": level,
        "prompts": len(known),
        "mean": mean.value,
        "mean_low": mean.low,
        "mean_high": mean.high,
        "anti_steerable": anti.value,
        "anti_steerable_low": anti.low,
        "anti_steerable_high": anti.high,
        "flat": flat.value,
        "flat_low": flat.low,
        "flat_high": flat.high,
    }
    return result


def slope_summary(
    frame: pd.DataFrame, column: str = "trait", *, within: float | None = None, level: float = 0.95
) -> pd.DataFrame:
    """What `slopes` says over all prompts, of the vector and of each control beside it.

    One row per vector, its own first, with the attrs of `slopes` as columns. A random control
    shows which mean slope and which share of negative slopes a direction has that means nothing.
    Raises ValueError as `slopes`.
    """
    kinds = [kind for kind in dict.fromkeys(frame["vector"]) if kind not in ("vector", "prompted")]
    found = [
        slopes(frame, column, vector=kind, within=within, level=level).attrs
        for kind in ("vector", *kinds)
    ]
    return pd.DataFrame(found)


def slope_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """`slope_summary` as records of JSON values; none where no judge measured a trait at two
    coefficients."""
    whole = whole_prompts(frame)
    own = whole[whole["vector"] == "vector"]
    if "trait" not in own or own.loc[own["trait"].notna(), "coefficient"].nunique() < 2:
        return []
    table = slope_summary(whole).astype(object)
    return table.where(table.notna(), None).to_dict("records")


def _inner(x: np.ndarray) -> float:
    """A quarter of the range, or more where fewer than two coefficients on a side lie in it."""
    sides = [np.sort(np.abs(x[sign * x > 0])) for sign in (1, -1)]
    second = [side[min(1, len(side) - 1)] for side in sides if len(side)]
    return float(max(np.abs(x).max() / 4, *second))


def _least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope of each row of y (P, K) over x (K,), NaN entries left out: (P,)."""
    known = np.isfinite(y)
    count = known.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(known, x - (known * x).sum(1, keepdims=True) / count, 0)
        # The centred x sum to 0, so y need not be centred; rounding is kept out of flat rows.
        start = np.where(known, y, np.inf).min(axis=1, keepdims=True)
        rise = (centred * np.where(known, y - start, 0)).sum(axis=1)
        return rise / (centred**2).sum(axis=1)


def _half_width(x: np.ndarray, y: np.ndarray, slope: np.ndarray, level: float) -> np.ndarray:
    """Half of Student's interval of each row's slope (P,), from the residuals of its line."""
    known = np.isfinite(y)
    count = known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.maximum(count, 1)[:, None]
        dx = np.where(known, x - (known * x).sum(1, keepdims=True) / each, 0)
        dy = np.where(known, y - np.where(known, y, 0).sum(1, keepdims=True) / each, 0)
        off = np.where(known, dy - slope[:, None] * dx, 0)
        variance = (off**2).sum(1) / ((count - 2) * (dx**2).sum(1))
        quantile = student.ppf((1 + level) / 2, count - 2)
        return np.where(count > 2, quantile * np.sqrt(variance), np.nan)
