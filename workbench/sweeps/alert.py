"""The reference rule for the largest coefficient (ALERT, 2025): as its code has it, and as meant.

Both compare each coefficient's score with the one at 0 and stop one grid point before it has
fallen by `threshold`. Knows nothing of models: it reads a sweep's frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.sweeps.assembly import require_complete
from workbench.sweeps.frames import coefficient_axis


@dataclass(frozen=True, eq=False)
class Alert:
    """What the rule found on one side.

    index         place of the drop among `coefficients`, None where there is none
    upper_bound   the coefficient before the drop
    coefficients  from 0 outwards, in the frame's units
    normalised    score over score at 0
    """

    index: int | None
    upper_bound: float
    coefficients: np.ndarray
    normalised: np.ndarray


def alert_as_coded(frame: pd.DataFrame, *, threshold: float = 0.2) -> Alert:
    """The rule as the reference's demo runs it, on coefficients of 0 and more.

    Its score (column `alert`) scores each token with the logits at that same token, so a fluent
    text scores low and a loop high; both are negative, so "value / value at 0 < 0.8" finds the
    first text that repeats itself more. The same bound then serves both signs there. A drop at
    the first place counts as none, and without a drop the bound is 1.0, whatever the range. Of
    several prompts the mean score counts.
    """
    coefficients, scores = _curve(frame, "alert", 1)
    normalised = scores / scores[0]
    index = _first_drop(normalised, threshold)
    bound = 1.0 if not index else float(coefficients[index - 1])
    return Alert(index or None, bound, coefficients, normalised)


def alert_as_meant(frame: pd.DataFrame, *, sign: int = 1, threshold: float = 0.2) -> Alert:
    """The rule as its description means it, each sign on its own.

    The score is the probability per token under the unsteered model, exp of the mean
    log-probability of the new tokens, averaged over prompts. Without a drop the bound is the end
    of the range and the index None.
    """
    coefficients, scores = _curve(frame, "logprob_unsteered", sign, np.exp)
    normalised = scores / scores[0]
    index = _first_drop(normalised, threshold)
    bound = coefficients[-1] if index is None else coefficients[index - 1]
    return Alert(index, float(bound), coefficients, normalised)


def _first_drop(normalised: np.ndarray, threshold: float) -> int | None:
    """The first place where the score is below 1 - threshold."""
    fallen = np.flatnonzero(normalised < 1 - threshold)
    return int(fallen[0]) if len(fallen) else None


def _curve(
    frame: pd.DataFrame,
    column: str,
    sign: int,
    score: Callable[[pd.Series], pd.Series] = lambda values: values,
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients from 0 outwards on one side, and the mean score of a column over prompts."""
    if sign not in (1, -1):
        raise ValueError(f"sign {sign!r}: give 1 or -1")
    if column not in frame.columns:
        raise ValueError(f"the frame has no column {column!r}; it has {list(frame.columns)}")
    require_complete(frame, "the ALERT rule")
    axis, _ = coefficient_axis(frame)
    steered = frame[frame["vector"] == "vector"]
    means = score(steered[column]).groupby(steered[axis]).mean()
    side = means[sign * means.index.to_numpy() >= 0]
    x, y = side.index.to_numpy(dtype=float), side.to_numpy(dtype=float)
    order = np.argsort(np.abs(x))
    x, y = x[order], y[order]
    if len(x) == 0 or x[0] != 0:
        raise ValueError("the rule compares with coefficient 0, which is not in this sweep")
    return x, y
