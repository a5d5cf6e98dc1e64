"""A condition's point: layers, a threshold and a direction, and what they reach on texts.

    fires above:  max over layers of the similarity > threshold
    fires below:  min over layers of the similarity < threshold

Knows nothing of models, nor of how a point is found: it is given similarities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.statistics.intervals import Floats

Fires = Literal["above", "below"]
FIRES: tuple[Fires, ...] = ("above", "below")


@dataclass(frozen=True)
class ConditionPoint:
    """Layers, threshold and direction, with what they reach on the texts that chose them.

    f1, precision, recall, false_alarms (the share of the other class that fires), ties (how many
    points reach the same F1, this one among them), points (how many were compared)
    """

    layers: tuple[int, ...]
    threshold: float
    fires: Fires
    f1: float
    precision: float
    recall: float
    false_alarms: float
    ties: int
    points: int

    def score(self, similarities: ArrayLike, layers: Sequence[int]) -> Floats:
        """(N,) what is compared with the threshold, rising with how much the condition is met:
        of similarities (N, L) at `layers`. Raises ValueError for a layer that is not among them."""
        lacking = [layer for layer in self.layers if layer not in layers]
        if lacking:
            raise ValueError(f"no similarities at the layers {lacking}; there are {list(layers)}")
        own = np.asarray(similarities, dtype=float)[:, [list(layers).index(i) for i in self.layers]]
        return own.max(axis=1) if self.fires == "above" else -own.min(axis=1)

    def met(self, similarities: ArrayLike, layers: Sequence[int]) -> NDArray[np.bool_]:
        """(N,) whether the condition is met, of similarities (N, L) at `layers`."""
        edge = self.threshold if self.fires == "above" else -self.threshold
        return self.score(similarities, layers) > edge

    def calibrated(
        self, others: ArrayLike, layers: Sequence[int], *, false_alarms: float
    ) -> ConditionPoint:
        """The point with the threshold beyond which texts of the other class lie at that rate.

        others  similarities (n, L) of texts of the other class that chose nothing: on new ones of
                their like the chance of a false alarm is at most the rate (split conformal
                prediction: the ⌈(1 - rate)(n + 1)⌉-th smallest of n scores; Vovk et al. 2005)

        What it reached on the texts that chose it is not known any more (NaN). Raises ValueError
        for a rate outside (0, 1), and for too few texts to keep to it.
        """
        rate = float(false_alarms)
        if not 0 < rate < 1:
            raise ValueError(f"false_alarms is {false_alarms!r}; give a share between 0 and 1")
        scores = np.sort(self.score(check_similarities(others, layers), layers))
        # An exact place such as 0.98 * 50 must not slip to its neighbour by rounding.
        place = math.ceil((1 - rate) * (len(scores) + 1) - 1e-9)
        if place > len(scores):
            raise ValueError(
                f"{len(scores)} texts cannot show a false-alarm rate of {rate:g}; give at least "
                f"{math.ceil(1 / rate - 1e-9) - 1}"
            )
        edge = float(scores[place - 1])
        unknown = {"f1": math.nan, "precision": math.nan, "recall": math.nan}
        return replace(
            self, threshold=edge if self.fires == "above" else -edge, false_alarms=rate, **unknown
        )


def judged(
    point: ConditionPoint, similarities: ArrayLike, labels: ArrayLike, layers: Sequence[int]
) -> ConditionPoint:
    """The point with what it reaches on these texts."""
    values = check_similarities(similarities, layers)
    wanted = check_labels(labels, len(values))
    met = point.met(values, layers)
    right, fired, false = int((met & wanted).sum()), int(met.sum()), int((met & ~wanted).sum())
    return replace(
        point,
        f1=2 * right / (fired + int(wanted.sum())),
        precision=right / fired if fired else math.nan,
        recall=right / int(wanted.sum()),
        false_alarms=false / int((~wanted).sum()),
    )


def check_labels(labels: ArrayLike, count: int) -> NDArray[np.bool_]:
    """(N,) bool with both classes. Raises ValueError otherwise."""
    found = np.asarray(labels)
    if found.shape != (count,):
        raise ValueError(f"labels have the shape {found.shape}; give one per text, ({count},)")
    other = [each for each in found.tolist() if each not in (0, 1)]
    if other:
        raise ValueError(f"the label {other[0]!r} is neither True nor False")
    found = found.astype(bool)
    if found.all() or not found.any():
        raise ValueError(
            f"all {count} texts are labelled {bool(found.all())}: a condition needs texts of both "
            "classes"
        )
    return found


def check_similarities(similarities: ArrayLike, layers: Sequence[int]) -> Floats:
    """(N, L) float64. Raises ValueError for another shape, layers named twice, and values that
    are not finite."""
    values = np.asarray(similarities, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(layers) or not len(values):
        raise ValueError(
            f"similarities have the shape {values.shape}; give (N, {len(layers)}), one column for "
            f"each of the layers {list(layers)}"
        )
    if len(set(layers)) < len(layers):
        raise ValueError(f"a layer stands twice in {list(layers)}")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"the similarity of text {row} at layer {layers[column]} is {values[row, column]}"
        )
    return values
