"""What a condition point reaches on texts that did not choose it, and how firm the choice is.

Shares carry Wilson's interval, F1 and areas the bootstrap's over texts, drawn within each class.
Knows nothing of models: it is given similarities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from workbench.conditions.point import ConditionPoint, check_labels, judged
from workbench.conditions.search import find_condition_point
from workbench.extraction.layer_scores import share_interval
from workbench.statistics.intervals import Floats, Interval, percentiles, resamples

_RESAMPLES = 1000


def held_out(
    point: ConditionPoint, similarities: ArrayLike, labels: ArrayLike, layers: Sequence[int]
) -> pd.DataFrame:
    """What the point reaches on these texts: one row per measure ("f1", "precision", "recall",
    "false_alarms", "auc"), with `value`, the ends of its 95 % interval and `count`, of how many
    texts it is a share.

    similarities (N, L) at `layers`; labels (N,) bool. Raises ValueError as `judged`.
    """
    values = np.asarray(similarities, dtype=float)
    found = judged(point, values, labels, layers)
    wanted, met = check_labels(labels, len(values)), point.met(values, layers)
    shares = {
        "precision": (found.precision, int(met.sum())),
        "recall": (found.recall, int(wanted.sum())),
        "false_alarms": (found.false_alarms, int((~wanted).sum())),
    }
    rows: list[tuple[str, float, float, float, int]] = []
    for name, (share, count) in shares.items():
        ends = share_interval(share, count) if count else (np.nan, np.nan)
        rows.append((name, share, *ends, count))
    for name, each in (
        ("f1", f1(met, wanted)),
        ("auc", auc(point.score(values, layers), wanted)),
    ):
        rows.append((name, each.value, each.low, each.high, each.count))
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "count"])


def f1(met: NDArray[np.bool_], wanted: NDArray[np.bool_], *, seed: int = 0) -> Interval:
    """F1 of verdicts (N,), with its 95 % interval over texts."""
    rng = np.random.default_rng(seed)
    inside = resamples(int(wanted.sum()), _RESAMPLES, rng) @ met[wanted].astype(float)
    outside = resamples(int((~wanted).sum()), _RESAMPLES, rng) @ met[~wanted].astype(float)
    drawn = 2 * inside / (inside + outside + wanted.sum())
    value = 2 * (met & wanted).sum() / (met.sum() + wanted.sum())
    low, high = percentiles(drawn, 0.95)
    return Interval(float(value), float(low), float(high), len(met))


def auc(
    scores: ArrayLike,
    wanted: NDArray[np.bool_],
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    seed: int = 0,
) -> Interval:
    """The chance that a text of the condition scores above another, ties half, with its 95 %
    interval over texts; NaN where a class has none.

    groups  (N,) what each text belongs to, such as its request: whole groups are drawn, within
            each class
    """
    values = np.asarray(scores, dtype=float)
    if wanted.all() or not wanted.any():
        return Interval(np.nan, np.nan, np.nan, len(values))
    rng = np.random.default_rng(seed)
    names = None if groups is None else np.asarray(groups)
    inside, outside = (
        _redrawn(values[side], None if names is None else names[side], rng)
        for side in (wanted, ~wanted)
    )
    drawn = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        some, mine = np.sort(outside()), inside()
        below, upto = (np.searchsorted(some, mine, side=side) for side in ("left", "right"))
        drawn[index] = (below + upto).mean() / (2 * len(some))
    low, high = percentiles(drawn, 0.95)
    return Interval(float(roc_auc_score(wanted, values)), float(low), float(high), len(values))


def _redrawn(
    values: Floats, groups: NDArray[Any] | None, rng: np.random.Generator
) -> Callable[[], Floats]:
    """What gives values drawn anew, one by one or in whole groups."""
    if groups is None:
        return lambda: rng.choice(values, len(values))
    parts = [values[groups == name] for name in np.unique(groups)]
    return lambda: np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))])


def curves(scores: ArrayLike, labels: ArrayLike) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ROC (`false_alarms`, `recall`, `threshold`) and precision-recall curve (`recall`,
    `precision`, `threshold`) of scores (N,) that rise with how much the condition is met."""
    values = np.asarray(scores, dtype=float)
    wanted = check_labels(labels, len(values))
    false, recall, edges = roc_curve(wanted, values)
    roc = pd.DataFrame({"false_alarms": false, "recall": recall, "threshold": edges})
    precision, recall, edges = precision_recall_curve(wanted, values)
    edges = np.append(edges, np.nan)
    return roc, pd.DataFrame({"recall": recall, "precision": precision, "threshold": edges})


def stability(
    similarities: ArrayLike,
    labels: ArrayLike,
    layers: Sequence[int],
    *,
    most_layers: int = 1,
    size: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """What a search finds on resamples of the texts, drawn within each class: one row per
    resample with `layers`, `fires`, `threshold`, `f1` (of the texts drawn) and `left_out`, F1 of
    those that were not.

    Raises ValueError as `find_condition_point`.
    """
    values = np.asarray(similarities, dtype=float)
    wanted = check_labels(labels, len(values))
    rng = np.random.default_rng(seed)
    sides = [np.flatnonzero(wanted), np.flatnonzero(~wanted)]
    rows = []
    for _ in range(size):
        drawn = np.concatenate([rng.choice(side, len(side)) for side in sides])
        found = find_condition_point(
            values[drawn], wanted[drawn], layers, most_layers=most_layers
        ).best
        out = np.setdiff1d(np.arange(len(values)), drawn)
        both = len(set(wanted[out].tolist())) == 2
        score = judged(found, values[out], wanted[out], layers).f1 if both else np.nan
        rows.append((found.layers, found.fires, found.threshold, found.f1, score))
    return pd.DataFrame(rows, columns=["layers", "fires", "threshold", "f1", "left_out"])


def firmness(resampled: pd.DataFrame) -> dict[str, float | str]:
    """Of `stability`: the layers and direction that come out most often and how often, the middle
    95 % of their thresholds, and F1 on texts left out beside that on texts drawn, means."""
    named = [
        f"{', '.join(map(str, each))} {fires}"
        for each, fires in zip(resampled["layers"], resampled["fires"], strict=True)
    ]
    counts = pd.Series(named).value_counts()
    mine = resampled[np.array(named) == counts.index[0]]
    low, high = percentiles(mine["threshold"], 0.95)
    return {
        "layers": str(counts.index[0]),
        "share": float(counts.iloc[0] / len(resampled)),
        "threshold_low": float(low),
        "threshold_high": float(high),
        "f1": float(resampled["f1"].mean()),
        "left_out": float(resampled["left_out"].mean()),
    }


def all_scores(similarities: Floats, layers: Sequence[int], labels: ArrayLike) -> pd.DataFrame:
    """How well each layer alone tells the classes, at any threshold: `layer`, and `auc` with the
    ends of its 95 % interval; below one half it fires below."""
    wanted = check_labels(labels, len(similarities))
    rows = []
    for index, layer in enumerate(layers):
        found = auc(similarities[:, index], wanted)
        rows.append((layer, found.value, found.low, found.high))
    return pd.DataFrame(rows, columns=["layer", "auc", "low", "high"])
