"""Mean and covariance of a stream of vectors that is never held whole.

Blocks are added one after the other, and what was added apart is merged (Chan, Golub and LeVeque
1983, https://doi.org/10.1080/00031305.1983.10483115), in float64 throughout: a residual stream has
coordinates a thousand times larger than others, whose squares would swallow the rest in float32.
What is kept is the same however much was added: 8 (D² + D) bytes. Knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg.blas import dsyrk

from workbench.statistics.intervals import Floats

# Rows of a block that are turned to float64 at once.
_ROWS = 4096


@dataclass(eq=False)
class Moments:
    """How many vectors of a width D there were, their mean (D,), and their scatter (D, D): the sum
    of (x - mean)(x - mean)', of which only the lower triangle is kept up to date.

    Raises ValueError for a width below 1.
    """

    width: int
    count: int = 0
    mean: Floats = field(init=False)
    _scatter: Floats = field(init=False)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width {self.width!r}: give a whole number of at least 1")
        self.mean = np.zeros(self.width)
        # In Fortran's order, in which BLAS adds to it in place.
        self._scatter = np.zeros((self.width, self.width), order="F")

    def add(self, values: ArrayLike) -> None:
        """Add vectors (n, D). Raises ValueError for another shape, and for values that are not
        finite: nothing is added then."""
        block = np.asarray(values)
        if block.ndim != 2 or block.shape[1] != self.width:
            raise ValueError(f"values of shape {block.shape}: give (n, {self.width})")
        if not np.isfinite(block).all():
            row = int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise ValueError(f"vector {row} of {len(block)} holds values that are not finite")
        for start in range(0, len(block), _ROWS):
            self._add(block[start : start + _ROWS].astype(np.float64))

    def _add(self, block: Floats) -> None:
        own = block.mean(axis=0)
        block -= own
        gap = self._shift(own, len(block))
        self._grow(block.T)
        self._grow(gap[:, None])

    def merge(self, other: Moments) -> None:
        """Add what another one has seen. Raises ValueError for another width."""
        if other.width != self.width:
            raise ValueError(f"widths differ: {self.width} and {other.width}")
        if other.count == 0:
            return
        gap = self._shift(other.mean, other.count)
        self._scatter += other._scatter
        self._grow(gap[:, None])

    def _shift(self, mean: Floats, count: int) -> Floats:
        """Count `count` more vectors with this mean, and return the gap between the two means,
        scaled to what its square adds to the scatter: (D,)."""
        total = self.count + count
        gap = mean - self.mean
        self.mean = self.mean + gap * (count / total)
        scaled = gap * np.sqrt(self.count * count / total)
        self.count = total
        return scaled

    def _grow(self, columns: Floats) -> None:
        """scatter += columns @ columns.T for columns (D, n), in place, the lower triangle alone."""
        self._scatter = dsyrk(
            1.0, np.asfortranarray(columns), beta=1.0, c=self._scatter, lower=1, overwrite_c=1
        )

    def covariance(self) -> Floats:
        """(D, D), the scatter by count - 1. Raises ValueError for fewer than two vectors."""
        if self.count < 2:
            raise ValueError(f"a covariance of {self.count} vectors: add two at least")
        lower = np.tril(self._scatter)
        lower /= self.count - 1
        diagonal = lower.diagonal().copy()
        lower += lower.T.copy()
        np.fill_diagonal(lower, diagonal)
        return lower

    def copy(self) -> Moments:
        """An independent copy."""
        return Moments.restored(self.count, self.mean, self._scatter)

    @property
    def scatter(self) -> Floats:
        """(D, D), its lower triangle alone (the rest is of no meaning)."""
        return self._scatter

    @classmethod
    def restored(cls, count: int, mean: Floats, scatter: Floats) -> Moments:
        """What has these numbers, such as were stored; the arrays are copied."""
        made = cls(len(mean), count)
        made.mean = np.array(mean, dtype=np.float64)
        made._scatter = np.array(scatter, dtype=np.float64, order="F")
        return made


def merged(parts: list[Moments]) -> Moments:
    """All of them together. Raises ValueError for none, and for widths that differ."""
    if not parts:
        raise ValueError("no moments to merge: give one at least")
    total = parts[0].copy()
    for part in parts[1:]:
        total.merge(part)
    return total
