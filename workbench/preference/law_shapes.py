"""Curves over the coefficient m, as the laws of "Why Steering Works" and simpler ones say they run.

    D(m) = [1 + (m - m+)^2 / L+]^(-p+) for m >= 0,  [1 + (m - m-)^2 / L-]^(-p-) for m < 0
    preference(m) = (alpha m + beta) D(m) + b          utility(m) = beta D(m) + b

with D continuous at 0 (arXiv 2602.02343; L is not squared, D(0) need not be 1). Continuity makes
p log(1 + m0^2 / L) one number kappa = -log D(0) on both sides; so the curve is written with kappa,
and with the width w at which D falls to half of its top, sqrt(L (2^(1/p) - 1)), in place of L: then
every choice of the five numbers is continuous, and they trade off less than m0, L and p do.
Everywhere here m runs from -1 to 1. Knows nothing of fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["preference", "utility"]
KINDS: tuple[Kind, ...] = ("preference", "utility")
# Largest kappa / p: beyond, a well's center lies further off than any range, where digits run out.
_MOST = 30.0


@dataclass(frozen=True)
class Law:
    """A family of curves: `shape` gives its columns, whose weights are found by least squares.

    name    what it is called in tables
    bounds  of each number that is searched, by name, where m runs from -1 to 1
    shape   (m (M,), numbers (S, P)) -> columns (S, M, C)
    size    how many numbers are free, those that continuity ties not counted
    splits  sign patterns that the search must try apart: the last number of `numbers`, 1 or -1
    """

    name: str
    bounds: Mapping[str, tuple[float, float]]
    shape: Callable[[Floats, Floats], Floats]
    size: int
    splits: tuple[float, ...] = (1.0,)

    @property
    def low(self) -> Floats:
        return np.array([low for low, _ in self.bounds.values()])

    @property
    def high(self) -> Floats:
        return np.array([high for _, high in self.bounds.values()])


def wells(numbers: Floats) -> tuple[tuple[Floats, Floats, Floats], tuple[Floats, Floats, Floats]]:
    """Center m0, spread sqrt(L) and power p of either side, each (S,), right side first.

    numbers  (S, 6): log w+, log w-, log p+, log p-, k = +-sqrt(kappa), sign pattern: 1 where both
             centers lie on the same side of 0, that of k, -1 where they lie on either
    """
    kappa, found = kappas(numbers), []
    for side, sign in ((0, np.ones(len(numbers))), (1, numbers[:, 5])):
        power = np.exp(numbers[:, 2 + side])
        spread = np.exp(numbers[:, side]) / np.sqrt(np.expm1(np.log(2) / power))
        offset = np.sqrt(np.expm1(kappa / power))
        found.append((np.sign(numbers[:, 4]) * sign * offset * spread, spread, power))
    return found[0], found[1]


def kappas(numbers: Floats) -> Floats:
    """-log D(0) of each (S,): k squared, as far as the smaller power allows."""
    power = np.exp(numbers[:, 2:4].min(axis=1))
    return np.minimum(numbers[:, 4] ** 2, _MOST * power)


def validity(m: Floats, numbers: Floats) -> Floats:
    """D(m) / D(0), (S, M): the share of what steering does at 0 that is left at m."""
    right, left = wells(numbers)
    sides = []
    for center, spread, power in (right, left):
        u = (m[None] - center[:, None]) / spread[:, None]
        sides.append(-power[:, None] * np.log1p(u**2))
    logs = np.where(m[None] >= 0, sides[0], sides[1]) + kappas(numbers)[:, None]
    return np.exp(np.clip(logs, -700, 50))


def _columns(kind: Kind, d: Floats, m: Floats) -> Floats:
    ones = np.ones_like(d)
    return np.stack([m[None] * d, d, ones] if kind == "preference" else [d, ones], axis=-1)


def _one_well(m: Floats, numbers: Floats) -> Floats:
    """D with one center, width and power for both sides, 1 at its top: (S, M)."""
    center, power = numbers[:, :1], np.exp(numbers[:, 2:3])
    spread = np.exp(numbers[:, 1:2]) / np.sqrt(np.expm1(np.log(2) / power))
    return np.exp(-power * np.log1p(((m[None] - center) / spread) ** 2))


def _logistic(m: Floats, numbers: Floats) -> Floats:
    step = 1 / (1 + np.exp(np.clip((numbers[:, :1] - m[None]) / np.exp(numbers[:, 1:2]), -60, 60)))
    return np.stack([step, np.ones_like(step)], axis=-1)


def _polynomial(degree: int) -> Callable[[Floats, Floats], Floats]:
    def shape(m: Floats, numbers: Floats) -> Floats:
        columns = np.polynomial.chebyshev.chebvander(m, degree)
        return np.broadcast_to(columns, (len(numbers), *columns.shape))

    return shape


_WIDTH, _POWER = (np.log(0.02), np.log(10.0)), (np.log(0.05), np.log(50.0))
_ROOT = (-5.0, 5.0)  # of kappa, signed: D(0) is at least e^-25 of its top


def _made(kind: Kind) -> dict[str, Law]:
    linear = 3 if kind == "preference" else 2
    two = {"w_plus": _WIDTH, "w_minus": _WIDTH, "p_plus": _POWER, "p_minus": _POWER, "k": _ROOT}
    one = {"center": (-1.0, 1.0), "w": _WIDTH, "p": _POWER}
    step = {"center": (-1.5, 1.5), "width": (np.log(0.01), np.log(3.0))}
    size = 5 + linear

    def two_wells(m: Floats, numbers: Floats) -> Floats:
        return _columns(kind, validity(m, numbers), m)

    laws = (
        Law("paper", two, two_wells, size, (1.0, -1.0)),
        Law("one top", two, two_wells, size),
        Law("one well", one, lambda m, n: _columns(kind, _one_well(m, n), m), 3 + linear),
        Law("logistic", step, _logistic, 4),
        Law("quadratic", {}, _polynomial(2), 3),
        Law("cubic", {}, _polynomial(3), 4),
        Law("polynomial", {}, _polynomial(size - 1), size),
    )
    return {law.name: law for law in laws}


LAWS: Mapping[Kind, Mapping[str, Law]] = MappingProxyType(
    {kind: MappingProxyType(_made(kind)) for kind in KINDS}
)
"""By kind and name. "paper" is the law above; "one top" the same without a dip of D at 0 between
two tops, one on each side; "one well" has m+ = m-, L+ = L- and p+ = p-; "polynomial" has as many
free numbers as "paper"."""
