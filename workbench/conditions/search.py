"""Where a condition is read and beyond what it is met: layers, a threshold, a direction.

    fires above:  max over layers of the similarity > threshold
    fires below:  min over layers of the similarity < threshold

Several layers are "any of them fires". Every set of layers, every threshold half way between two
neighbouring values and both directions are compared at once: the best F1 (2 TP / (2 TP + FP + FN))
wins; of equals the smaller set, the earlier layers, above before below, the threshold beyond which
most lies. Programming Refusal with Conditional Activation Steering, Lee et al. 2024,
https://arxiv.org/abs/2409.05907.
Knows nothing of models: it is given similarities. What its library would choose is told by
search_reference.py.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from workbench.conditions.point import (
    FIRES,
    ConditionPoint,
    Fires,
    check_labels,
    check_similarities,
    judged,
)
from workbench.statistics.intervals import Floats
from workbench.support.checks import check_whole

# Layer sets that are compared, and numbers (sets times texts) that are held at once.
MOST_SETS, AT_ONCE = 200_000, 1 << 22
# F1 that differ by no more are equal.
_EQUAL = 1e-12


@dataclass(frozen=True, eq=False)
class ConditionSearch:
    """A search that was made: the best point; `table`, one row per set of layers and direction
    with its best `threshold` and `f1`; `settings`."""

    best: ConditionPoint
    table: pd.DataFrame
    settings: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """The whole search as JSON."""
        path = Path(path)
        rows = self.table.assign(layers=[list(each) for each in self.table["layers"]])
        content = {
            "best": asdict(self.best),
            "settings": self.settings,
            "table": rows.to_dict("records"),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path


def load_search(path: str | os.PathLike[str]) -> ConditionSearch:
    """A search that `ConditionSearch.save` wrote.

    Raises FileNotFoundError; ValueError for a file that is none.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        best, table = content["best"], pd.DataFrame(content["table"])
        table["layers"] = [tuple(each) for each in table["layers"]]
        point = ConditionPoint(**{**best, "layers": tuple(best["layers"])})
        return ConditionSearch(point, table, dict(content["settings"]))
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is no saved search for a condition: {error!r}") from None


def find_condition_point(
    similarities: ArrayLike,
    labels: ArrayLike,
    layers: Sequence[int] | None = None,
    *,
    most_layers: int = 1,
    fires: Fires | None = None,
) -> ConditionSearch:
    """The layers, threshold and direction that tell two classes best apart by F1.

    similarities  (N, L), of every text at every layer
    labels        (N,) bool, whether the condition shall be met
    layers        what the columns are (default: 0 … L - 1)
    most_layers   the most layers of a set
    fires         "above" or "below" alone; None: both

    Raises ValueError for similarities that are not finite, a class without texts, similarities
    that are all the same, layers named twice, an unknown `fires`, or more sets of layers than
    200,000.
    """
    if fires is not None and fires not in FIRES:
        raise ValueError(f"fires {fires!r} is unknown; choose one of {', '.join(FIRES)}, or None")
    values = np.asarray(similarities, dtype=float)
    # Whole numbers of Python's own, which JSON knows.
    layers = tuple(map(int, range(values.shape[-1]) if layers is None else layers))
    values, wanted = check_similarities(values, layers), check_labels(labels, len(values))
    if np.ptp(values) == 0:
        raise ValueError(
            f"all similarities are {values.flat[0]:g}, so no threshold tells the classes apart; "
            "look at the positions that are read and at the condition vector"
        )
    check_whole("most_layers", most_layers, 1, len(layers))
    check_sets(len(layers), most_layers)
    directions = FIRES if fires is None else (fires,)
    rows: list[tuple[Any, ...]] = []
    ties, points, top = 0, 0, -1.0
    for sets in layer_sets(len(layers), most_layers, len(values)):
        for direction in directions:
            found = _best(_scores(values, sets, direction), wanted)
            points += found.points
            if found.f1.max() > top + _EQUAL:
                top, ties = float(found.f1.max()), 0
            ties += int(found.ties[found.f1 >= top - _EQUAL].sum())
            edges = found.edge if direction == "above" else -found.edge
            rows.extend(
                (tuple(layers[i] for i in each), direction, float(edge), float(f1))
                for each, edge, f1 in zip(sets, edges, found.f1, strict=True)
            )
    table = pd.DataFrame(rows, columns=["layers", "fires", "threshold", "f1"])
    equal = table[table["f1"] >= top - _EQUAL]
    first = min(
        equal.itertuples(index=False),
        key=lambda row: (len(row.layers), row.layers, FIRES.index(row.fires)),
    )
    point = ConditionPoint(
        first.layers, first.threshold, first.fires, first.f1, 0.0, 0.0, 0.0, ties, points
    )
    settings = {
        "layers": list(layers),
        "most_layers": most_layers,
        "fires": fires,
        "texts": len(values),
        "of the condition": int(wanted.sum()),
    }
    return ConditionSearch(judged(point, values, wanted, layers), table, settings)


def check_sets(layers: int, most: int) -> None:
    """Raise ValueError for more sets of layers than can be compared."""
    count = sum(math.comb(layers, size) for size in range(1, most + 1))
    if count > MOST_SETS:
        raise ValueError(
            f"{count} sets of up to {most} of {layers} layers; compare at most {MOST_SETS}: name "
            "fewer layers or lower most_layers"
        )


def layer_sets(layers: int, most: int, texts: int) -> Iterator[NDArray[np.intp]]:
    """Sets (C, size) of column numbers by size and in order, as many at a time as fit."""
    for size in range(1, most + 1):
        sets = np.array(list(combinations(range(layers), size)), dtype=np.intp)
        step = max(1, AT_ONCE // (texts * size))
        for start in range(0, len(sets), step):
            yield sets[start : start + step]


def _scores(values: Floats, sets: NDArray[np.intp], fires: Fires) -> Floats:
    """(C, N) what each set compares with its threshold, higher where it fires sooner."""
    chosen = values.T[sets]  # (C, size, N)
    return chosen.max(axis=1) if fires == "above" else -chosen.min(axis=1)


@dataclass(frozen=True)
class _Best:
    """Of C sets: the best F1, its first threshold, how many thresholds reach it, all compared."""

    f1: Floats
    edge: Floats
    ties: NDArray[np.intp]
    points: int


def _best(scores: Floats, wanted: NDArray[np.bool_]) -> _Best:
    """Over all thresholds of scores (C, N) at once: firing from the k-th smallest score on, k from
    0 (everything fires) to N - 1."""
    order = np.argsort(scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)
    right = wanted[order][:, ::-1].cumsum(axis=1)[:, ::-1]  # (C, N) of the class, from k on
    count = scores.shape[1]
    fired = count - np.arange(count)
    f1 = 2 * right / (fired + wanted.sum())
    # Between equal scores there is no threshold.
    gap = np.diff(ordered, axis=1)
    f1[:, 1:][gap == 0] = -1.0
    # The reach of all scores below the least: a threshold that any of its like would pass, too.
    first = ordered[:, :1] - np.maximum(np.ptp(ordered, axis=1, keepdims=True), 1e-6)
    edges = np.concatenate([first, ordered[:, :-1] + gap / 2], axis=1)
    best = f1.max(axis=1)
    equal = f1 >= best[:, None] - _EQUAL
    place = equal.argmax(axis=1)[:, None]
    edge = np.take_along_axis(edges, place, axis=1)[:, 0]
    return _Best(best, edge, equal.sum(axis=1), int((f1 >= 0).sum()))
