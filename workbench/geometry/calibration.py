"""What a distance means: how often ordinary text lies as far away.

Calibrated on documents that fitted nothing. Tokens of one document are alike, so that the interval
of every share is over documents; and a text as a whole is judged by the mean of its tokens against
the means of whole documents, by the rule of conformal prediction (Vovk, Gammerman and Shafer 2005):
the share of exchangeable documents beyond is then at most 1 - level, whatever the distances are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from workbench.statistics.intervals import Floats, Interval, bootstrap_mean

Per = Literal["token", "document"]
PER: tuple[Per, ...] = ("token", "document")


@dataclass(frozen=True, eq=False)
class Calibration:
    """Distances of ordinary text: of n tokens (n,), of the documents (n,).

    Raises ValueError for shapes that differ, no tokens, and distances that are not finite.
    """

    distances: Floats
    documents: np.ndarray

    def __post_init__(self) -> None:
        if self.distances.ndim != 1 or self.distances.shape != self.documents.shape:
            raise ValueError(
                f"distances of shape {self.distances.shape}, documents of "
                f"{self.documents.shape}: give one of each a token"
            )
        if len(self.distances) == 0 or not np.isfinite(self.distances).all():
            raise ValueError("calibration takes finite distances, of one token at least")

    @cached_property
    def ordered(self) -> Floats:
        """The distances, ascending."""
        return np.sort(self.distances)

    @cached_property
    def means(self) -> Floats:
        """The documents' mean distances, ascending."""
        return np.sort(document_means(self.distances, self.documents))

    @property
    def texts(self) -> int:
        """How many documents calibrate."""
        return len(self.means)

    def threshold(self, level: float = 0.95, per: Per = "token") -> float:
        """The distance that a share `level` of ordinary tokens, or documents' means, keeps within.

        Raises ValueError for a level outside of 0 to 1, another `per`, and too few documents to
        know that level of documents.
        """
        if not 0 < level < 1:
            raise ValueError(f"level {level!r}: give a share between 0 and 1")
        _check(per)
        if per == "token":
            return float(np.quantile(self.distances, level))
        rank = math.ceil((self.texts + 1) * level - 1e-9)
        if rank > self.texts:
            raise ValueError(
                f"{self.texts} documents cannot tell the level {level:g} of documents: give at "
                f"least {math.ceil(level / (1 - level) - 1e-9)}"
            )
        return float(self.means[rank - 1])

    def rank(self, distances: ArrayLike, per: Per = "token") -> Floats:
        """The share of ordinary tokens, or documents' means, that lie nearer: as shaped. Raises
        ValueError for another `per`."""
        _check(per)
        known = self.ordered if per == "token" else self.means
        return np.searchsorted(known, np.asarray(distances, dtype=float)) / len(known)

    def false_alarms(
        self, distances: Floats, documents: np.ndarray, level: float = 0.95, per: Per = "token"
    ) -> Interval:
        """The share of other ordinary tokens (or documents) beyond the threshold, with its 95 %
        interval over documents: 1 - level where the calibration holds."""
        bound = self.threshold(level, per)
        if per == "document":
            return bootstrap_mean(document_means(distances, documents) > bound, bounds=(0, 1))
        return bootstrap_mean(distances > bound, documents, bounds=(0, 1))


def _check(per: str) -> None:
    if per not in PER:
        raise ValueError(f"per {per!r} is not 'token' or 'document'")


def document_means(distances: Floats, documents: np.ndarray) -> Floats:
    """The mean distance of every document's tokens, in the order of the documents' numbers."""
    _, code = np.unique(documents, return_inverse=True)
    return np.bincount(code, weights=distances) / np.bincount(code)
