"""Conditions: whether a prompt's activations resemble a direction enough, row by row.

A condition reads the mean of the residual stream over the tokens that its positions choose, at one
layer or several, and is met where the similarity at any of them passes the threshold. Lee et al.
2024, https://arxiv.org/abs/2409.05907. Knows nothing of what a condition is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from workbench import tracing
from workbench.condition_point import FIRES, Fires
from workbench.positions import Positions, prompt
from workbench.similarity import SIMILARITIES, Similarity, similarity
from workbench.tokens import Batch, Prompt, to_batch
from workbench.tracing import Remote
from workbench.updates import Origin
from workbench.vectors import SteeringVector

if TYPE_CHECKING:
    from workbench.models import LM

Reads = Literal["output", "input"]


@dataclass(frozen=True, eq=False)
class Condition:
    """When a row counts as one of a class.

    directions  layer (0-based) -> (D,), where it is read: one layer or several, any of which fires
    threshold   of the similarity
    fires       "above": where a similarity is greater; "below": where one is less
    similarity  "cosine", "projection", "probe" or "unsigned" (similarity.py)
    reads       the "output" of a block, or its "input", the stream before it
    positions   the tokens whose mean is read; padding never counts
    bias        layer -> bias of a probe
    origin      the model that the directions were made on, None where that is not known

    Raises ValueError for no layers, a threshold that is not finite, words that are unknown, and a
    probe without a bias at each of its layers.
    """

    directions: Mapping[int, Tensor]
    threshold: float
    fires: Fires = "above"
    similarity: Similarity = "cosine"
    reads: Reads = "output"
    positions: Positions = prompt
    bias: Mapping[int, float] = field(default_factory=dict)
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if not self.directions:
            raise ValueError("a condition needs a direction at one layer at least")
        if not math.isfinite(self.threshold):
            raise ValueError(f"the threshold of a condition is {self.threshold!r}; give a number")
        for name, value, known in (
            ("fires", self.fires, FIRES),
            ("similarity", self.similarity, SIMILARITIES),
            ("reads", self.reads, ("output", "input")),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        lacking = [layer for layer in self.directions if layer not in self.bias]
        if self.similarity == "probe" and lacking:
            raise ValueError(f"a probe has a bias at every layer; there is none at {lacking}")

    @classmethod
    def of(
        cls,
        vector: SteeringVector,
        *,
        threshold: float,
        layers: Sequence[int] | None = None,
        fires: Fires = "above",
        similarity: Similarity = "cosine",
        reads: Reads = "output",
        positions: Positions = prompt,
        bias: Mapping[int, float] | None = None,
    ) -> Condition:
        """Of a vector's directions at these layers (default: its own layer).

        Raises ValueError for a layer without a direction.
        """
        return cls(
            directions=directions_at(vector, layers),
            threshold=threshold,
            fires=fires,
            similarity=similarity,
            reads=reads,
            positions=positions,
            bias={} if bias is None else bias,
            origin=vector.origin,
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Where it is read, ascending."""
        return tuple(sorted(self.directions))

    @property
    def places(self) -> tuple[int, ...]:
        """The blocks after which it is read, tracing.EMBEDDINGS before the first."""
        return tuple(layer - (self.reads == "input") for layer in self.layers)

    def resembles(self, means: Tensor) -> Tensor:
        """(B, L) float64 similarities of mean streams (B, L, D) at its layers."""
        return torch.stack(
            [
                similarity(
                    self.similarity,
                    means[:, index],
                    self.directions[layer],
                    self.bias.get(layer, 0.0),
                )
                for index, layer in enumerate(self.layers)
            ],
            dim=1,
        )

    def met(self, similarities: Tensor) -> Tensor:
        """(B,) bool, of similarities (B, L) at its layers."""
        if self.fires == "above":
            return (similarities > self.threshold).any(dim=1)
        return (similarities < self.threshold).any(dim=1)

    def check(self, lm: LM) -> None:
        """Raise ValueError unless it fits the model."""
        for layer, direction in self.directions.items():
            if not 0 <= layer < lm.layers:
                raise ValueError(
                    f"the condition reads layer {layer}; {lm.name!r} has 0 … {lm.layers - 1}"
                )
            if tuple(direction.shape) != (lm.width,):
                raise ValueError(
                    f"the condition's direction at layer {layer} has the shape "
                    f"{tuple(direction.shape)}, the stream of {lm.name!r} is {lm.width} wide"
                )
            if not bool(torch.isfinite(direction).all()):
                raise ValueError(f"the condition's direction at layer {layer} is not finite")
        if self.origin is not None and lm.in_memory:
            self.origin.check(lm.name, lm.fingerprint)


def directions_at(vector: SteeringVector, layers: Sequence[int] | None) -> dict[int, Tensor]:
    """A vector's directions at these layers (default: its own). Raises ValueError for one that it
    lacks."""
    wanted = (vector.layer,) if layers is None else tuple(layers)
    lacking = [layer for layer in wanted if layer not in vector.directions]
    if lacking or not wanted:
        raise ValueError(f"the vector has no direction at {lacking}; it has {list(vector.layers)}")
    return {layer: vector.directions[layer] for layer in wanted}


def mean_streams(
    lm: LM,
    batch: Batch,
    conditions: Sequence[Condition],
    *,
    remote: Remote = False,
) -> list[Tensor]:
    """For each condition the mean streams (B, L, D) at its layers: one unsteered pass for all that
    read the same tokens, which ends after the last layer that is read.

    Raises ValueError for a condition that does not fit the model, and for a row of which nothing
    is read.
    """
    groups: list[list[int]] = []
    for index, condition in enumerate(conditions):
        condition.check(lm)
        same = (g for g in groups if conditions[g[0]].positions == condition.positions)
        group = next(same, None)
        if group is None:
            groups.append([index])
        else:
            group.append(index)
    found: dict[int, Tensor] = {}
    for group in groups:
        places = sorted({place for index in group for place in conditions[index].places})
        positions = conditions[group[0]].positions
        rows = torch.cat(
            [
                tracing.activations(lm, part, places, positions, remote=remote).mean()
                for part in tracing.pieces(lm, batch, remote)
            ]
        )
        for index in group:
            columns = [places.index(place) for place in conditions[index].places]
            found[index] = rows[:, columns]
    return [found[index] for index in range(len(conditions))]


def similarities(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    vector: SteeringVector,
    *,
    layers: Sequence[int] | None = None,
    similarity: Similarity = "cosine",
    reads: Reads = "output",
    positions: Positions = prompt,
    remote: Remote = False,
) -> Tensor:
    """(N, L) float64, of every prompt with a vector's directions at `layers` (default: all that it
    has): what `condition_search.find_condition_point` looks through. One pass.

    Raises ValueError as `Condition` and `mean_streams`; a probe needs `Condition` with a bias.
    """
    condition = Condition.of(
        vector,
        threshold=0.0,
        layers=vector.layers if layers is None else layers,
        similarity=similarity,
        reads=reads,
        positions=positions,
    )
    (means,) = mean_streams(lm, to_batch(lm, prompts), [condition], remote=remote)
    return condition.resembles(means)
