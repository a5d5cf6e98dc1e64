"""How far one may steer, told by geometry: no steered text is written.

A rule (too_far.py) says what distance of some prompts' tokens from ordinary text is too far, at the
steered layer or at a later one. At the steered layer the stream is h + c v: one unsteered pass over
the prompts tells everything. At a later layer the coefficient is bracketed and bisected, both signs
at once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.forward.reading import batches, tokens_at_once
from workbench.forward.reference import chosen_tokens
from workbench.geometry.distance_rules import Beyond, Rise, Rule
from workbench.geometry.downstream import Streams
from workbench.geometry.manifold import Manifold, Manifolds, fit
from workbench.geometry.ordinary import from_model
from workbench.statistics.intervals import Floats
from workbench.support.checks import number
from workbench.text.positions import mask
from workbench.text.tokens import Batch, Prompt, encode
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Of the reach: where the search begins, from the outside inwards by halves.
_HALVINGS = 5
# How many documents the model writes for a manifold, and how many tokens each.
_DOCUMENTS, _TOKENS = 300, 48


@dataclass(frozen=True, eq=False)
class GeometricCeiling:
    """What `ceiling_from_geometry` found.

    sides  sign -> coefficient, in residual norms; infinite where none within reach is too far
    rule   what counted as too far; layer, where the stream was looked at; kind, of manifold
    tried  one row per coefficient: `coefficient_norm`, `reached` (what the rule holds against its
           bound)
    rows   texts that were read, one under several coefficients as often; those of a manifold that
           was made for it are not counted
    """

    sides: Mapping[int, float]
    rule: Rule
    layer: int
    kind: str
    tried: pd.DataFrame
    rows: int

    def __getitem__(self, sign: int) -> float:
        return self.sides[sign]

    def __repr__(self) -> str:
        said = ", ".join(
            f"{'+' if sign > 0 else '−'} {value:.3g}" for sign, value in self.sides.items()
        )
        return (
            f"GeometricCeiling({said}: {self.rule}, {self.kind}, layer {self.layer}; {self.rows} "
            "texts read)"
        )


def ceiling_from_geometry(
    lm: LM,
    vector: SteeringVector,
    texts: Sequence[Prompt],
    *,
    rule: Rule | None = None,
    manifolds: Manifolds | None = None,
    kind: str | None = None,
    layer: int | None = None,
    reach: float = 2.0,
    tolerance: float = 0.05,
) -> GeometricCeiling:
    """The coefficient of either sign at which texts lead too far off ordinary text.

    texts      prompts, read and not continued
    rule       what is too far (default: `Rise()`)
    manifolds  of ordinary text, for `Rise` fitted with unit=False; None: of 300 texts that the
               unsteered model writes after these prompts, which costs more than all the rest
    kind       of manifold (default: the first one there is)
    layer      where the stream is looked at; None: the steered one, which takes one pass
    reach      the largest coefficient that is looked at, in residual norms
    tolerance  how far apart the ends of the last bracket may be: outer / inner - 1

    Raises ValueError for numbers out of range, a layer without a manifold or before the steered
    one, a manifold that is not for the rule, prompts that the rule finds too far as they are, and
    as `Streams`.
    """
    for name, value in (("reach", reach), ("tolerance", tolerance)):
        if not 0 < number(value) < math.inf:
            raise ValueError(f"{name} {value!r}: give a number above 0")
    vector.check(lm)
    rule = rule or Rise()
    at = vector.layer if layer is None else layer
    batch = encode(lm, texts)
    if manifolds is None:
        prompts = random.Random(0).choices(texts, k=_DOCUMENTS)
        written = from_model(lm, prompts, tokens=_TOKENS)
        kinds, unit = [kind or "principal"], isinstance(rule, Beyond)
        manifolds = fit(lm, written, [at], kinds=kinds, unit=unit, progress=False)
    here = manifolds.at(at, kind)
    rule.check(here)
    touched = chosen_tokens(lm, batch, manifolds.positions, manifolds.skip)
    if not touched.any():
        raise ValueError("no token of these texts is one that manifolds are for: give longer ones")
    able = touched.any(dim=1).nonzero()[:, 0]
    batch = batch.select(able)
    touched = touched[able, -batch.width :]
    looking = (_Here if at == vector.layer else _Later)(lm, vector, batch, touched, here, rule)
    unsteered = float(looking.means(np.zeros(1))[0])
    tried: dict[float, float] = {}

    def reached(coefficients: Floats) -> Floats:
        found = rule.reached(looking.means(coefficients), unsteered)
        tried.update(zip(coefficients.tolist(), found.tolist(), strict=True))
        return found

    sides = _search(reached, rule.bound, reach, tolerance)
    table = pd.DataFrame(sorted(tried.items()), columns=["coefficient_norm", "reached"])
    return GeometricCeiling(sides, rule, at, here.kind, table, looking.rows)


def _search(
    reached: Callable[[Floats], Floats], bound: float, reach: float, tolerance: float
) -> dict[int, float]:
    """The first coefficient of either sign at which `reached` is at the bound: from a few sizes,
    by halves, then by bisection of the logarithm."""
    sizes = reach * 0.5 ** np.arange(_HALVINGS)[::-1]
    values = reached(np.concatenate([-sizes, sizes]))
    brackets: dict[int, tuple[float, float]] = {}
    for sign, side in ((1, values[_HALVINGS:]), (-1, values[:_HALVINGS])):
        over = np.flatnonzero(side >= bound)
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
        found = reached(np.array([sign * size for sign, size in wide.items()]))
        for (sign, size), value in zip(wide.items(), found, strict=True):
            inner, outer = brackets[sign]
            brackets[sign] = (inner, size) if value >= bound else (size, outer)


def _middle(inner: float, outer: float) -> float:
    return math.sqrt(inner * outer) if inner and math.isfinite(outer) else outer


@dataclass(eq=False)
class _Asked:
    """What is read, of rows that have tokens to be judged, and by which rule."""

    lm: LM
    vector: SteeringVector
    batch: Batch
    touched: Tensor  # (B, T) bool
    manifold: Manifold
    rule: Rule
    rows: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """What a way of reading needs beforehand."""

    def judged(self, streams: Tensor) -> Tensor:
        """What the rule averages, of streams (n, D)."""
        return self.rule.of(self.manifold, self.manifold.distance(streams))


class _Here(_Asked):
    """Means of a rule over tokens at the steered layer, at any coefficients, from one pass."""

    def __post_init__(self) -> None:
        (step,) = self.vector.at(1.0)
        self._step = step.update.direction.double()  # type: ignore[union-attr]
        self.rows = len(self.batch)
        layers = [self.vector.layer]
        found = [
            tracing.activations(
                self.lm, part, layers, mask(self.touched[rows][:, -part.width :])
            ).values
            for part, rows in batches(self.batch, tokens_at_once(self.lm, 1))
        ]
        self._streams = torch.cat(found)[:, 0].double()

    def means(self, coefficients: Floats) -> Floats:
        """(c,)"""
        moved = (self._streams + float(c) * self._step for c in coefficients)
        return np.array([float(self.judged(each).mean()) for each in moved])


class _Later(_Asked):
    """The same at a later layer, each coefficient read by the steered model."""

    def __post_init__(self) -> None:
        layers = [self.manifold.layer]
        self._reader = Streams(self.lm, self.batch, self.vector.at, layers, self.touched)

    def means(self, coefficients: Floats) -> Floats:
        """(c,)"""
        count = len(self.batch)
        self.rows += count * len(coefficients)
        rows = torch.arange(count).repeat_interleave(len(coefficients))
        sums, counts = np.zeros(len(coefficients)), np.zeros(len(coefficients))
        places = {float(c): i for i, c in enumerate(coefficients)}
        for seen in self._reader.read(rows, torch.from_numpy(coefficients).repeat(count)):
            index = [places[c] for c in seen.coefficients.tolist()]
            np.add.at(sums, index, self.judged(seen.after[:, 0]).numpy())
            np.add.at(counts, index, 1)
        return sums / counts
