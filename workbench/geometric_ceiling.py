"""How far one may steer, told by geometry alone: no text is written.

The ceiling of a sign is the smallest coefficient at which half of the tokens of some prompts lie
beyond the quantile of ordinary text, at the steered layer or at a later one. At the steered layer
the stream is h + c v: one unsteered pass over the prompts tells everything. At a later layer the
coefficient is bracketed and bisected, both signs in the same pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.checks import number
from workbench.downstream import Seen, Streams
from workbench.intervals import Floats
from workbench.manifold import Manifold, Manifolds, fit
from workbench.ordinary import from_model
from workbench.reference import chosen_tokens
from workbench.tokens import Batch, Prompt, encode
from workbench.vectors import SteeringVector

if TYPE_CHECKING:
    from workbench.models import LM

# Of the reach: where the search begins, from the outside inwards by halves.
_HALVINGS = 5
# How many documents the model writes for a manifold, and how many tokens each.
_DOCUMENTS, _TOKENS = 300, 48


@dataclass(frozen=True, eq=False)
class GeometricCeiling:
    """What `ceiling_from_geometry` found.

    sides   sign -> coefficient, in residual norms; infinite where none within reach is too far
    layer   where the stream was looked at; `kind` of manifold
    level   the quantile of ordinary tokens that counts, and `share` how many may lie beyond
    tried   one row per coefficient: `coefficient_norm`, `beyond` (the share of tokens)
    passes  forwards over the prompts, of however many rows; `rows`, how many texts they read
    """

    sides: Mapping[int, float]
    layer: int
    kind: str
    level: float
    share: float
    tried: pd.DataFrame
    passes: int
    rows: int

    def __getitem__(self, sign: int) -> float:
        return self.sides[sign]

    def __repr__(self) -> str:
        said = ", ".join(
            f"{'+' if sign > 0 else '−'} {value:.3g}" for sign, value in self.sides.items()
        )
        return (
            f"GeometricCeiling({said}: {self.share:.0%} of tokens beyond the {self.level:.0%} "
            f"quantile, {self.kind}, layer {self.layer}; {self.passes} passes, {self.rows} texts)"
        )


def ceiling_from_geometry(
    lm: LM,
    vector: SteeringVector,
    texts: Sequence[Prompt],
    *,
    manifolds: Manifolds | None = None,
    kind: str | None = None,
    layer: int | None = None,
    level: float = 0.95,
    share: float = 0.5,
    reach: float = 2.0,
    tolerance: float = 0.05,
) -> GeometricCeiling:
    """The coefficient of either sign at which the distance passes a quantile of ordinary text.

    texts      prompts, read and not continued
    manifolds  of ordinary text; None: of 300 texts that the model writes after these prompts
    kind       of manifold (default: the first one there is)
    layer      where the stream is looked at; None: the steered one, which takes one pass
    level      the quantile: ordinary tokens within it are this share
    share      the ceiling is where so many tokens lie beyond
    reach      the largest coefficient that is looked at, in residual norms
    tolerance  how far apart the ends of the last bracket may be: outer / inner - 1

    Raises ValueError for numbers out of range, a layer without a manifold or before the steered
    one, prompts of which half lie beyond as they are, and as `Streams`.
    """
    for name, value, most in (
        ("level", level, 1.0),
        ("share", share, 1.0),
        ("reach", reach, math.inf),
        ("tolerance", tolerance, math.inf),
    ):
        if not 0 < number(value) < most:
            raise ValueError(f"{name} {value!r}: give a number between 0 and {most:g}")
    vector.check(lm)
    at = vector.layer if layer is None else layer
    if manifolds is None:
        prompts = [texts[i % len(texts)] for i in range(_DOCUMENTS)]
        written = from_model(lm, prompts, tokens=_TOKENS)
        manifolds = fit(lm, written, [at], kinds=[kind or "principal"], progress=False)
    here = manifolds.at(at, kind)
    batch = encode(lm, texts)
    touched = chosen_tokens(lm, batch, manifolds.positions, manifolds.skip)
    if not touched.any():
        raise ValueError("no token of these texts is one that manifolds are for: give longer ones")
    looking = _Looking(lm, vector, batch, touched, here, here.threshold(level))
    at_rest = looking.beyond(np.zeros(1))[0]
    if at_rest >= share:
        raise ValueError(
            f"{at_rest:.0%} of the tokens of these texts lie beyond the {level:.0%} quantile "
            "without steering: they are no ordinary text of this model; give others, or a manifold "
            "of their kind"
        )
    sides = _search(looking.beyond, share, reach, tolerance)
    tried = pd.DataFrame(sorted(looking.tried.items()), columns=["coefficient_norm", "beyond"])
    return GeometricCeiling(sides, at, here.kind, level, share, tried, looking.passes, looking.rows)


def _search(
    beyond: Callable[[Floats], Floats], share: float, reach: float, tolerance: float
) -> dict[int, float]:
    """The first coefficient of either sign at which `beyond` reaches the share: from a few sizes,
    by halves, then by bisection of the logarithm."""
    sizes = reach * 0.5 ** np.arange(_HALVINGS)[::-1]
    values = beyond(np.concatenate([-sizes, sizes]))
    brackets: dict[int, tuple[float, float]] = {}
    for sign, side in ((1, values[_HALVINGS:]), (-1, values[:_HALVINGS])):
        over = np.flatnonzero(side >= share)
        outer = float(sizes[over[0]]) if len(over) else math.inf
        inner = (
            0.0 if len(over) and over[0] == 0 else float(sizes[over[0] - 1 if len(over) else -1])
        )
        brackets[sign] = inner, outer
    while True:
        # A bracket that begins at 0 is halved until it does not, or matters no more.
        wide = {
            sign: math.sqrt(inner * outer) if inner else outer / 2
            for sign, (inner, outer) in brackets.items()
            if math.isfinite(outer)
            and (outer > inner * (1 + tolerance) if inner else outer > sizes[0] / 64)
        }
        if not wide:
            return {sign: _middle(*brackets[sign]) for sign in (1, -1)}
        found = beyond(np.array([sign * size for sign, size in wide.items()]))
        for (sign, size), value in zip(wide.items(), found, strict=True):
            inner, outer = brackets[sign]
            brackets[sign] = (inner, size) if value >= share else (size, outer)


def _middle(inner: float, outer: float) -> float:
    return math.sqrt(inner * outer) if inner and math.isfinite(outer) else outer


class _Looking:
    """The share of tokens beyond the threshold at any coefficients, and what it has cost."""

    def __init__(
        self,
        lm: LM,
        vector: SteeringVector,
        batch: Batch,
        touched: Tensor,
        manifold: Manifold,
        threshold: float,
    ) -> None:
        self.manifold, self.threshold = manifold, threshold
        self._reader = Streams(lm, batch, vector.at, [manifold.layer], touched)
        self.able = touched.any(dim=1).nonzero()[:, 0]
        self.tried: dict[float, float] = {}
        self.passes = self.rows = 0
        self._at_rest: Tensor | None = None
        if manifold.layer == vector.layer:
            self._at_rest = torch.cat([seen.before[:, 0] for seen in self._streams(np.zeros(1))])
            self._step = vector.at(1.0)[0].update.direction.double()  # type: ignore[union-attr]

    def beyond(self, coefficients: Floats) -> Floats:
        """(c,) shares."""
        if self._at_rest is not None:
            moved = (self._at_rest.double() + float(c) * self._step for c in coefficients)
            found = [float(self._share(each)) for each in moved]
        else:
            totals = np.zeros((2, len(coefficients)))
            places = {float(c): i for i, c in enumerate(coefficients)}
            for seen in self._streams(coefficients):
                over = self.manifold.distance(seen.after[:, 0]) > self.threshold
                index = [places[c] for c in seen.coefficients.tolist()]
                np.add.at(totals[0], index, over.numpy())
                np.add.at(totals[1], index, 1)
            found = (totals[0] / totals[1]).tolist()
        self.tried |= dict(zip(coefficients.tolist(), found, strict=True))
        return np.array(found)

    def _share(self, streams: Tensor) -> Tensor:
        return (self.manifold.distance(streams) > self.threshold).double().mean()

    def _streams(self, coefficients: Floats) -> Iterator[Seen]:
        self.passes += 1
        self.rows += len(self.able) * len(coefficients)
        rows = self.able.repeat_interleave(len(coefficients))
        return self._reader.read(rows, torch.from_numpy(coefficients).repeat(len(self.able)))
