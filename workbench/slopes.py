"""How steeply each prompt answers to the coefficient, and which answer the wrong way."""

from __future__ import annotations

import numpy as np
import pandas as pd


def slopes(
    frame: pd.DataFrame, column: str = "trait", *, within: float | None = None
) -> pd.DataFrame:
    """Per prompt, the least-squares slope of a measure over the coefficient near 0.

    frame   a sweep; only rows of the vector itself count
    column  "trait", or a judge's other column, such as log-odds of the trait
    within  coefficients up to this size count, in the frame's units (residual norms where they are
            known); by default the inner quarter of the swept range, two or more on a side

    One row per prompt: `prompt_index`, `slope` (the measure per unit of the coefficient) and
    `anti_steerable`, whether the slope is negative. `attrs` hold the `column`, `unit`, `within`,
    the `mean` slope and the shares `anti_steerable` and `flat` (slope exactly 0) of the prompts.
    A slope is NaN where a prompt has fewer than two coefficients.

    Per-sample steerability, Tan et al. 2024, https://arxiv.org/abs/2407.12404.
    Raises ValueError for a frame without that column, or without steered rows.
    """
    if column not in frame.columns:
        raise ValueError(f"the frame has no column {column!r}; it has {list(frame.columns)}")
    axis, unit = coefficient_axis(frame)
    table = frame[frame["vector"] == "vector"].pivot_table(
        index="prompt_index", columns=axis, values=column, aggfunc="mean"
    )
    x = table.columns.to_numpy(dtype=float)
    if len(x) < 2:
        raise ValueError(f"a slope needs at least two coefficients; the frame has {len(x)}")
    reach = _inner(x) if within is None else float(within)
    near = np.abs(x) <= reach * (1 + 1e-9)
    y = table.to_numpy(dtype=float)[:, near]
    slope = _least_squares(x[near], y)
    result = pd.DataFrame(
        {
            "prompt_index": table.index.to_numpy(),
            "slope": slope,
            "anti_steerable": slope < 0,
        }
    )
    known = slope[np.isfinite(slope)]
    result.attrs = {
        "column": column,
        "unit": unit,
        "within": reach,
        "mean": float(known.mean()) if len(known) else float("nan"),
        "anti_steerable": float((known < 0).mean()) if len(known) else float("nan"),
        "flat": float((known == 0).mean()) if len(known) else float("nan"),
    }
    return result


def coefficient_axis(frame: pd.DataFrame) -> tuple[str, str]:
    """The column that holds the coefficient, and its unit: "norm" where norms are known."""
    known = "coefficient_norm" in frame.columns and bool(frame["coefficient_norm"].notna().all())
    return ("coefficient_norm", "norm") if known else ("coefficient", "raw")


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
