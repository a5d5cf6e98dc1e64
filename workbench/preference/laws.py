"""Fits of the laws of "Why Steering Works", and of simpler ones, to curves over m (law_shapes.py).

For each choice of the numbers that bend a curve, its weights (alpha, beta, b) follow by least
squares (variable projection, Golub & Pereyra 1973): so scipy searches five numbers, not nine, from
the best of some thousand starts that are tried at once. Every fit says which of its numbers ended
at a bound. Knows nothing of models or pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.stats import qmc

from workbench.preference.law_shapes import KINDS, LAWS, Floats, Kind, Law, kappas, validity, wells

# Starts that are tried, and how many of the best of them are followed.
STARTS, FOLLOWED = 2048, 12
# Within this share of a range from its end, a number counts as being at its bound.
_AT_BOUND = 0.01


@dataclass(frozen=True, eq=False)
class Fit:
    """A law fitted to a curve.

    numbers  those that were searched, the sign pattern last, of m in shares of `reach`
    weights  of the law's columns
    r2       share of the curve's variance that it explains
    rss      sum of squared residuals, in the curve's unit squared
    at_bound which of the numbers ended at a bound of their range, and at which ("p_plus high"), and
             which centers lie outside of the range of m ("m_plus outside")
    low, high the range of m that it was fitted to; `reach`, the larger of the two by size
    """

    law: Law
    numbers: Floats
    weights: Floats
    low: float
    high: float
    points: int
    r2: float
    rss: float
    at_bound: tuple[str, ...]

    @property
    def reach(self) -> float:
        return max(-self.low, self.high)

    def __call__(self, m: ArrayLike) -> Floats:
        """The fitted curve at some m, (K,)."""
        at = np.atleast_1d(np.asarray(m, dtype=float)) / self.reach
        return self.law.shape(at, self.numbers[None])[0] @ self.weights

    @property
    def aicc(self) -> float:
        """Akaike's criterion with its small-sample term (Hurvich & Tsai 1989), smaller is better.

        It takes the points for independent, which those of one curve are not.
        """
        free, n = self.law.size + 1, self.points  # and the noise
        if n - free - 1 <= 0:
            return np.inf
        noise = max(self.rss, np.finfo(float).tiny) / n
        return float(n * np.log(noise) + 2 * free + 2 * free * (free + 1) / (n - free - 1))

    @property
    def rises(self) -> bool:
        """Whether D rises from 0 to both sides, so that steering would be valid away from 0 and
        less so near it: a fit of the paper's formula that its reading does not bear."""
        if "k" not in self.law.bounds:
            return False
        d = validity(np.array([-0.5, 0.5]), self.numbers[None])[0]
        return bool((d > 1).all())

    @property
    def parameters(self) -> dict[str, float]:
        """The paper's own parameters, m0 and L in units of m (and m squared). They trade off:
        intervals belong on the curve. Empty for another law."""
        if "k" not in self.law.bounds:
            return {}
        sides = wells(self.numbers[None])
        found: dict[str, float] = {}
        for side, (center, spread, power) in zip(("plus", "minus"), sides, strict=True):
            found[f"m_{side}"] = float(center[0]) * self.reach
            found[f"L_{side}"] = float(spread[0] * self.reach) ** 2
            found[f"p_{side}"] = float(power[0])
        names = ("alpha", "beta", "b") if len(self.weights) == 3 else ("beta", "b")
        # The columns are scaled to 1 at 0, the paper's D is not.
        scale = float(np.exp(kappas(self.numbers[None])[0]))
        values = [*(self.weights[:-1] * scale), self.weights[-1]]
        found |= dict(zip(names, map(float, values), strict=True))
        if "alpha" in found:
            found["alpha"] /= self.reach
        return found


# ---- fitting ------------------------------------------------------------------------------------


def fit(
    m: ArrayLike,
    curve: ArrayLike | None = None,
    kind: Kind | None = None,
    law: str = "paper",
    *,
    follow: int = FOLLOWED,
) -> Fit:
    """The law that fits a curve (M,) over m (M,) best, by least squares.

    `follow` of the best starts are followed to their end. The curve of a frame of `odds` is
    `m, table = law_quantities.curves(frame, "preference")`, then `law_quantities.means(table)`.

    Raises ValueError for a frame in place of m, another kind or law, arrays that do not match,
    values that are not finite, an m given twice or none on one side of 0, a flat curve, and fewer
    points than free numbers.
    """
    if hasattr(m, "columns"):
        raise ValueError(
            "m is a frame, and a law is fitted to one curve. With curves and means from "
            "workbench.preference.law_quantities: m, table = curves(frame, 'preference'); "
            "fit(m, means(table), 'preference')"
        )
    if curve is None or kind is None:
        raise ValueError(
            f"fit(m, curve, kind) lacks {'a curve' if curve is None else 'its kind'}: give m (M,), "
            f"curve (M,) and one of {KINDS}"
        )
    return fit_many(m, np.asarray(curve, dtype=float)[None], kind, law, follow=follow)[0]


def fit_many(
    m: ArrayLike,
    curves: ArrayLike,
    kind: Kind,
    law: str = "paper",
    *,
    follow: int = FOLLOWED,
    near: Sequence[Floats] = (),
) -> list[Fit]:
    """The same for curves (N, M) on one grid; `near` are numbers (P + 1,) to start from as well, or
    alone, with `follow` 0."""
    found = _law(kind, law)
    grid, table = _checked(m, curves, found)
    at = grid / np.abs(grid).max()
    if not found.bounds:
        start = np.ones((1, 1))
        return [_finished(found, grid, curve, start[0]) for curve in table]
    starts, bases = _starts(kind, law, at.tobytes())
    # Of a curve, what a start's columns leave over: its square less that of its projection.
    explained = np.zeros((len(table), len(starts)))
    scaled = table - table.mean(axis=1, keepdims=True)
    for block in range(0, len(starts), 256):
        part = bases[block : block + 256]
        shares = np.einsum("smc,nm->nsc", part, scaled)
        explained[:, block : block + 256] = (shares**2).sum(axis=-1)
    fits = []
    for curve, gain in zip(table, explained, strict=True):
        chosen = [*near, *_apart(starts, np.argsort(-gain, kind="stable"), found, follow)]
        ends = [_followed(found, at, curve, start) for start in chosen]
        best = min(ends, key=lambda end: end[1])[0]
        fits.append(_finished(found, grid, curve, best))
    return fits


def _law(kind: Kind, name: str) -> Law:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; use one of {KINDS}")
    if name not in LAWS[kind]:
        raise ValueError(f"law {name!r} is unknown; use one of {tuple(LAWS[kind])}")
    return LAWS[kind][name]


def _checked(m: ArrayLike, curves: ArrayLike, law: Law) -> tuple[Floats, Floats]:
    grid, table = np.asarray(m, dtype=float), np.asarray(curves, dtype=float)
    if grid.ndim != 1 or table.ndim != 2 or table.shape[1:] != grid.shape:
        raise ValueError(f"m of shape {grid.shape}, curve of {table.shape[1:]}: give (M,) for both")
    for name, values in (("m", grid), ("the curve", table)):
        if not np.isfinite(values).all():
            bad = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(
                f"{name} is {values[tuple(bad)]} at point {int(bad[-1])}: leave such points out, "
                "or average over the pairs that are defined"
            )
    if len(np.unique(grid)) != len(grid):
        raise ValueError(f"m {grid.tolist()} has a value twice: average the curve there")
    if not (grid.min() < 0 < grid.max()):
        raise ValueError(
            f"m from {grid.min():g} to {grid.max():g} lies on one side of 0: the laws join there; "
            "give both signs"
        )
    if len(grid) <= law.size:
        raise ValueError(
            f"{len(grid)} points for the {law.size} free numbers of {law.name!r}: give more m"
        )
    flat = np.ptp(table, axis=1) == 0
    if flat.any():
        raise ValueError(f"curve {int(flat.argmax())} is {table[flat.argmax(), 0]:g} throughout")
    order = np.argsort(grid)
    return grid[order], table[:, order]


@lru_cache(maxsize=32)
def _starts(kind: Kind, name: str, at: bytes) -> tuple[Floats, Floats]:
    """Numbers (S, P + 1) spread evenly over their bounds (Sobol), every sign pattern, and an
    orthonormal basis (S, M, C) of each one's columns."""
    law, m = LAWS[kind][name], np.frombuffer(at)
    drawn = qmc.Sobol(len(law.bounds), seed=0).random(STARTS // len(law.splits))
    inside = law.low + (law.high - law.low) * (0.02 + 0.96 * drawn)
    starts = np.concatenate(
        [np.column_stack([inside, np.full(len(inside), sign)]) for sign in law.splits]
    )
    columns = law.shape(m, starts)
    columns = columns - columns.mean(axis=1, keepdims=True)
    columns = columns[..., :-1]  # the last is the constant, which the mean takes
    return starts, _basis(columns)


def _basis(columns: Floats) -> Floats:
    """An orthonormal basis of columns (..., M, C); what is too small to tell adds nothing."""
    size = np.linalg.norm(columns, axis=-2, keepdims=True)
    usable = columns / np.where(size > 1e-12, size, np.inf)
    q, r = np.linalg.qr(usable)
    kept = np.abs(np.diagonal(r, axis1=-2, axis2=-1)) > 1e-9
    return np.where(kept[..., None, :], q, 0.0)


def _apart(starts: Floats, order: NDArray[np.intp], law: Law, count: int) -> list[Floats]:
    """The best starts in order, no two of them close."""
    span = law.high - law.low
    chosen: list[Floats] = []
    for index in order[: 40 * count]:
        start = starts[index]
        close = any(
            other[-1] == start[-1] and np.abs((other - start)[:-1] / span).max() < 0.15
            for other in chosen
        )
        if not close:
            chosen.append(start)
        if len(chosen) == count:
            break
    return chosen


def _followed(law: Law, at: Floats, curve: Floats, start: Floats) -> tuple[Floats, float]:
    """Where a start ends, and the sum of squares there. Searched through x -> sin x, which keeps
    every number within its bounds, so that MINPACK can be used, which is fast on small problems."""
    middle, half, sign = (law.high + law.low) / 2, (law.high - law.low) / 2, start[-1]
    size = float(curve.std())
    centred = (curve - curve.mean()) / size
    count = len(middle)

    def numbers(x: Floats) -> Floats:
        inside = middle + half * np.sin(x)
        return np.concatenate([inside, np.full((len(inside), 1), sign)], axis=1)

    def residuals(x: Floats) -> Floats:
        """(S, M) for S points at once."""
        columns = law.shape(at, numbers(x))[..., :-1]
        q = _basis(columns - columns.mean(axis=1, keepdims=True))
        return centred - np.einsum("smc,sc->sm", q, np.einsum("smc,m->sc", q, centred))

    def slopes(x: Floats) -> Floats:
        step = 1e-6
        moved = residuals(np.concatenate([x + step * np.eye(count), x - step * np.eye(count)]))
        return ((moved[:count] - moved[count:]) / (2 * step)).T

    first = np.arcsin(np.clip((start[:-1] - middle) / half, -0.999, 0.999))
    found = least_squares(
        lambda x: residuals(x[None])[0],
        first,
        jac=slopes,
        method="lm",
        max_nfev=80,
        xtol=1e-7,
        ftol=1e-9,
    )
    return numbers(found.x[None])[0], 2 * found.cost * size**2


def _finished(law: Law, grid: Floats, curve: Floats, numbers: Floats) -> Fit:
    at = grid / np.abs(grid).max()
    columns = law.shape(at, numbers[None])[0]
    weights = np.linalg.lstsq(columns, curve, rcond=1e-12)[0]
    rss = float(((curve - columns @ weights) ** 2).sum())
    ends = []
    for name, value, low, high in zip(law.bounds, numbers, law.low, law.high, strict=False):
        room = _AT_BOUND * (high - low)
        if value - low < room or high - value < room:
            ends.append(f"{name} {'low' if value - low < room else 'high'}")
    if "k" in law.bounds:
        centers = [float(center[0]) for center, _, _ in wells(numbers[None])]
        sides = zip(("plus", "minus"), centers, strict=True)
        ends += [f"m_{side} outside" for side, m in sides if not at[0] <= m <= at[-1]]
    total = float(((curve - curve.mean()) ** 2).sum())
    low, high = float(grid[0]), float(grid[-1])
    return Fit(law, numbers, weights, low, high, len(at), 1 - rss / total, rss, tuple(ends))


def r2(curve: ArrayLike, fitted: ArrayLike) -> float:
    """1 - the squared errors over those about the curve's own mean; below 0 where the mean does
    better. NaN for a flat curve."""
    values, guess = np.asarray(curve, dtype=float), np.asarray(fitted, dtype=float)
    total = float(((values - values.mean()) ** 2).sum())
    return 1 - float(((values - guess) ** 2).sum()) / total if total > 0 else float("nan")
