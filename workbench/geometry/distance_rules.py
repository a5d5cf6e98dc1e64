"""When some tokens lie too far off ordinary text: two rules on their distances, no models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from workbench.geometry.manifolds import Manifold
from workbench.statistics.intervals import Floats
from workbench.support.checks import number


@dataclass(frozen=True)
class Rise:
    """The mean distance of the tokens is so many times what it is unsteered, streams in their own
    length.

    times  the default is the best one on the study of wren and its siblings (benchmarks/detector.py
           judges the rule with what other traits choose)
    """

    times: float = 1.08

    def __post_init__(self) -> None:
        if not 1 < number(self.times) < math.inf:
            raise ValueError(f"times {self.times!r}: give a number above 1")

    @property
    def bound(self) -> float:
        return self.times

    def of(self, manifold: Manifold, distances: Tensor) -> Tensor:
        """What is averaged over tokens (…,)."""
        return distances

    def reached(self, means: Floats, unsteered: float) -> Floats:
        """What is held against the bound."""
        return means / unsteered

    def check(self, manifold: Manifold) -> None:
        if manifold.unit:
            raise ValueError(
                "Rise goes by streams in their own length, the manifold by streams at unit length: "
                "fit it with unit=False, or use Beyond()"
            )


@dataclass(frozen=True)
class Beyond:
    """A share of the tokens lies beyond the quantile of ordinary text.

    level  the quantile: ordinary tokens within it are this share
    """

    level: float = 0.95
    share: float = 0.5

    def __post_init__(self) -> None:
        for name, value in (("level", self.level), ("share", self.share)):
            if not 0 < number(value) < 1:
                raise ValueError(f"{name} {value!r}: give a number between 0 and 1")

    @property
    def bound(self) -> float:
        return self.share

    def of(self, manifold: Manifold, distances: Tensor) -> Tensor:
        return (distances > manifold.threshold(self.level)).double()

    def reached(self, means: Floats, unsteered: float) -> Floats:
        if unsteered >= self.share:
            raise ValueError(
                f"{unsteered:.0%} of the tokens of these texts lie beyond the {self.level:.0%} "
                "quantile without steering: they are no ordinary text of this model; give others, "
                "or a manifold of their kind"
            )
        return means

    def check(self, manifold: Manifold) -> None:
        manifold.threshold(self.level)


Rule: TypeAlias = Rise | Beyond
