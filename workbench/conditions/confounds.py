"""What a gate must be compared with: length and words alone.

Texts of two classes often differ in length, and a similarity that is a mean over tokens may follow
it. So beside a gate stands what the number of characters, the number of tokens and a bag of words
tell on the same texts, and what the gate tells where the classes are matched in length. Knows
nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from workbench.conditions.checks import auc
from workbench.conditions.point import check_labels, judged
from workbench.conditions.search import find_condition_point
from workbench.statistics.intervals import Floats
from workbench.text.word_odds import word_odds


def confound_scores(
    making: Sequence[str],
    making_labels: ArrayLike,
    texts: Sequence[str],
    *,
    making_tokens: Sequence[int] | None = None,
    tokens: Sequence[int] | None = None,
) -> dict[str, tuple[Floats, Floats]]:
    """What length and words alone say of the making texts and of these: "characters", "tokens"
    (where their numbers are given) and "words", the log-odds by a bag of words (`word_odds`) that
    the making texts fitted.

    Raises ValueError as `check_labels`, and for numbers of tokens of one of both alone.
    """
    if (making_tokens is None) != (tokens is None):
        raise ValueError(
            "give the numbers of tokens of the making texts and of the others, or none"
        )
    wanted = check_labels(making_labels, len(making))
    found = {"characters": (_lengths(making), _lengths(texts))}
    if tokens is not None and making_tokens is not None:
        found["tokens"] = (np.asarray(making_tokens, float), np.asarray(tokens, float))
    words = word_odds(making, wanted, [*making, *texts])
    found["words"] = words[: len(making)], words[len(making) :]
    return found


def confounds(
    scores: Mapping[str, tuple[ArrayLike, ArrayLike]],
    making_labels: ArrayLike,
    labels: ArrayLike,
    matched: NDArray[np.intp] | None = None,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
) -> pd.DataFrame:
    """What every score tells of held-out texts, the threshold and direction chosen on the making
    ones: one row per score with `auc` and the ends of its 95 % interval (of the direction that the
    making texts chose), `f1`, `recall`, `false_alarms`; and of the texts `matched` alone
    `auc_matched` with its ends. A score that is the same for all making texts tells nothing: its
    areas are one half, without an interval, and it has no threshold.

    scores   name -> (of making texts, of held-out texts), the gate's among them
    groups   of the held-out texts, what intervals draw whole (`checks.auc`)
    """
    names = None if groups is None else np.asarray(groups)
    wanted = check_labels(labels, len(np.asarray(labels)))
    rows = []
    for name, (making, own) in scores.items():
        column = np.asarray(making, dtype=float)[:, None]
        here = np.asarray(own, dtype=float)[:, None]
        if np.ptp(column) == 0:
            rows.append(
                {"score": name, "auc": 0.5} | ({} if matched is None else {"auc_matched": 0.5})
            )
            continue
        point = find_condition_point(column, making_labels).best
        found = judged(point, here, wanted, [0])
        rated = auc(point.score(here, [0]), wanted, groups=names)
        row = {
            "score": name,
            "auc": rated.value,
            "auc_low": rated.low,
            "auc_high": rated.high,
            "f1": found.f1,
            "recall": found.recall,
            "false_alarms": found.false_alarms,
        }
        if matched is not None:
            own_names = None if names is None else names[matched]
            same = auc(point.score(here[matched], [0]), wanted[matched], groups=own_names)
            row |= {"auc_matched": same.value, "matched_low": same.low, "matched_high": same.high}
        rows.append(row)
    return pd.DataFrame(rows)


def length_matched(
    lengths: ArrayLike, labels: ArrayLike, *, caliper: float = 0.05
) -> NDArray[np.intp]:
    """(2 P,) numbers of texts, in pairs of one of each class whose lengths differ by no more than
    the share `caliper` of the longer: as many pairs as there can be, of these the closest.

    Raises ValueError as `check_labels`, and where no two texts are that close.
    """
    sizes = np.asarray(lengths, dtype=float)
    wanted = check_labels(labels, len(sizes))
    inside, outside = np.flatnonzero(wanted), np.flatnonzero(~wanted)
    longer = np.maximum(sizes[inside][:, None], sizes[outside][None, :])
    gap = np.abs(sizes[inside][:, None] - sizes[outside][None, :]) / np.maximum(longer, 1e-12)
    near = gap <= caliper
    # A pair too far apart costs more than all others together.
    first, second = linear_sum_assignment(np.where(near, gap, len(sizes)))
    kept = near[first, second]
    if not kept.any():
        raise ValueError(
            f"no two texts of both classes differ by less than {caliper:.0%} in length; the least "
            f"difference is {gap.min():.0%}: widen the caliper, or gather texts of like length"
        )
    return np.stack([inside[first[kept]], outside[second[kept]]], axis=1).ravel()


def _lengths(texts: Sequence[str]) -> Floats:
    return np.array([len(text) for text in texts], dtype=float)
