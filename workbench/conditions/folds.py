"""Does a condition carry over? Directions are made without some of the texts and judged on them.

Many layers tell the texts that made a direction apart without a fault; which of them tells texts of
another topic, or asked in another way, is seen only where these are left out whole. So texts are
dealt to folds by what shall be left out at once. Knows nothing of models: it is given streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from workbench.conditions.point import check_labels
from workbench.extraction.methods import METHODS
from workbench.statistics.intervals import Floats
from workbench.statistics.similarity import similarity

REPEATS = 8


def directions(streams: Floats, labels: ArrayLike, method: str = "logistic") -> list[Tensor]:
    """Of every layer of streams (N, L, D) the direction (D,) from the other class to the
    condition's. Methods take pairs, so both classes are `repeated` to one size.

    method   one of `methods.METHODS`
    Raises ValueError as `check_labels`, for an unknown method, and as the method itself.
    """
    inside = check_labels(labels, len(streams))
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    one, other = (torch.from_numpy(streams[side]) for side in repeated(inside))
    return [METHODS[method](one[:, i], other[:, i]).double() for i in range(streams.shape[1])]


def repeated(labels: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Numbers of the texts of either class, repeated to one size up to `REPEATS` times the larger:
    every text of a class as often as another, or nearly so."""
    sizes = int(labels.sum()), int((~labels).sum())
    count = min(math.lcm(*sizes), REPEATS * max(sizes))
    return [np.resize(np.flatnonzero(side), count) for side in (labels, ~labels)]


def cosines(streams: Floats, along: Sequence[Tensor]) -> Floats:
    """(N, L) of streams (N, L, D) with a direction of each layer."""
    each = [similarity("cosine", torch.from_numpy(streams[:, i]), d) for i, d in enumerate(along)]
    return torch.stack(each, dim=1).numpy()


def out_of_fold(
    streams: Floats, labels: ArrayLike, folds: Sequence[object], method: str = "logistic"
) -> Floats:
    """(N, L) cosines of every text with directions that its own fold had no part in.

    streams   (N, L, D), of every text at L layers
    labels    (N,), whether a text is of the condition
    folds     (N,), what is left out at once, such as a topic of either class

    Raises ValueError for folds of another number, fewer than two, and where the rest of one holds
    one class alone.
    """
    inside, groups = check_labels(labels, len(streams)), _groups(folds, len(streams))
    found = np.empty(streams.shape[:2])
    for name in dict.fromkeys(groups):
        away = np.array([each == name for each in groups])
        if inside[~away].all() or not inside[~away].any():
            raise ValueError(f"without the fold {name!r} one class is left: deal it to several")
        found[away] = cosines(streams[away], directions(streams[~away], inside[~away], method))
    return found


def apart(similarities: Floats, labels: ArrayLike, folds: Sequence[object]) -> Floats:
    """(L,) how many of its standard deviations the classes lie apart (d') at each layer, the mean
    over folds, for cosines of two folds are of two directions.

    similarities   (N, L), as `out_of_fold` gives them

    Raises ValueError for a fold with fewer than two texts of a class.
    """
    inside, groups = check_labels(labels, len(similarities)), _groups(folds, len(similarities))
    found = []
    for name in dict.fromkeys(groups):
        here = np.array([each == name for each in groups])
        one, other = similarities[here & inside], similarities[here & ~inside]
        if min(len(one), len(other)) < 2:
            raise ValueError(f"the fold {name!r} needs two texts of each class at least")
        spread = np.sqrt((one.var(axis=0, ddof=1) + other.var(axis=0, ddof=1)) / 2)
        gap = one.mean(axis=0) - other.mean(axis=0)
        # Where no text of a class differs from another, any gap is without end, and none is none.
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(np.where(gap == 0, 0.0, gap / spread))
    return np.mean(found, axis=0)


def dealt(groups: Sequence[object], labels: ArrayLike) -> NDArray[np.intp]:
    """(N,) folds for groups each of which is of one class alone: one group of the class with fewer
    groups, and its share of those of the other.

    Raises ValueError for a class of fewer than two groups, and a group of both classes.
    """
    inside = check_labels(labels, len(groups))
    sides = [
        list(
            dict.fromkeys(group for group, mine in zip(groups, inside, strict=True) if mine == side)
        )
        for side in (True, False)
    ]
    both = set(sides[0]) & set(sides[1])
    if both:
        raise ValueError(f"the group {min(map(str, both))!r} has texts of both classes")
    few, many = sorted(sides, key=len)
    if len(few) < 2:
        raise ValueError("a class has a single group: nothing is left when it is left out")
    places = {group: index for index, group in enumerate(few)}
    places |= {group: index % len(few) for index, group in enumerate(many)}
    return np.array([places[group] for group in groups])


def _groups(folds: Sequence[object], count: int) -> list[object]:
    found = list(folds)
    if len(found) != count:
        raise ValueError(f"{len(found)} folds for {count} texts")
    empty = [place for place, each in enumerate(found) if each is None or each != each]  # NaN
    if empty:
        raise ValueError(f"text {empty[0]} is of the fold {found[empty[0]]!r}: name one")
    if len(set(found)) < 2:
        raise ValueError("all texts are of one fold; give two at least")
    return found
