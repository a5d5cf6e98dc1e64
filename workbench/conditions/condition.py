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

from workbench.conditions.point import FIRES, ConditionPoint, Fires
from workbench.interventions.updates import Origin
from workbench.statistics.similarity import SIMILARITIES, Similarity, similarity
from workbench.support.checks import number
from workbench.text.positions import Mask, Positions, check_positions, prompt
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.forward.tracing import Remote
    from workbench.loading.models import LM
    from workbench.text.tokens import Batch, Prompt

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
    bias        layer -> bias, of a probe alone
    origin      the model that the directions were made on, None where that is not known

    Raises ValueError for no layers, directions that are not finite or have no length, a threshold
    or a bias that is not a finite number, words that are unknown, a probe without a bias at each of
    its layers or a bias of anything else, and a mask, which belongs to one batch.
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
        if isinstance(self.directions, SteeringVector):
            raise ValueError(
                "directions is a SteeringVector; give Condition.of(vector, "
                f"threshold={self.threshold!r}), or directions by layer"
            )
        if not self.directions:
            raise ValueError("a condition needs a direction at one layer at least")
        if not math.isfinite(number(self.threshold)):
            raise ValueError(f"the threshold of a condition is {self.threshold!r}; give a number")
        for name, value, known in (
            ("fires", self.fires, FIRES),
            ("similarity", self.similarity, SIMILARITIES),
            ("reads", self.reads, ("output", "input")),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        check_positions(self.positions)
        if isinstance(self.positions, Mask):
            raise ValueError(
                "a mask belongs to one batch; a condition is asked of many: give a position rule"
            )
        plain = {layer: self.directions[layer].detach().cpu() for layer in sorted(self.directions)}
        for layer, direction in plain.items():
            if not bool(torch.isfinite(direction).all()):
                raise ValueError(f"the condition's direction at layer {layer} is not finite")
            if not bool(direction.any()):
                raise ValueError(
                    f"the condition's direction at layer {layer} has length 0, so that nothing "
                    "resembles it"
                )
        object.__setattr__(self, "directions", plain)
        self._check_bias()

    def __repr__(self) -> str:
        return (
            f"Condition({self.similarity} {self.fires} {self.threshold:g}, {self.reads} of layers "
            f"{list(self.layers)}, on {self.positions!r})"
        )

    def _check_bias(self) -> None:
        if self.similarity != "probe":
            if self.bias:
                raise ValueError(f"a bias belongs to a probe, not to {self.similarity!r}")
            return
        lacking = [layer for layer in self.directions if layer not in self.bias]
        if lacking:
            raise ValueError(f"a probe has a bias at every layer; there is none at {lacking}")
        idle = [layer for layer in self.bias if layer not in self.directions]
        if idle:
            raise ValueError(f"a bias at {idle}, where nothing is read; {[*self.directions]} are")
        for layer, value in self.bias.items():
            if not math.isfinite(number(value)):
                raise ValueError(f"the bias at layer {layer} is {value!r}; give a number")

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

        Raises ValueError for layers that are no list, and a layer without a direction.
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

    @classmethod
    def at_point(
        cls,
        vector: SteeringVector,
        point: ConditionPoint,
        *,
        similarity: Similarity = "cosine",
        reads: Reads = "output",
        positions: Positions = prompt,
        bias: Mapping[int, float] | None = None,
    ) -> Condition:
        """Of a vector at a point that was found for similarities of the same kind, read alike.

        Raises ValueError as `of`.
        """
        return cls.of(
            vector,
            threshold=point.threshold,
            layers=point.layers,
            fires=point.fires,
            similarity=similarity,
            reads=reads,
            positions=positions,
            bias=None if bias is None else {layer: bias[layer] for layer in point.layers},
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Where it is read, ascending."""
        return tuple(sorted(self.directions))

    @property
    def places(self) -> tuple[int, ...]:
        """The blocks after which it is read, tracing.EMBEDDINGS before the first."""
        return tuple(layer - (self.reads == "input") for layer in self.layers)

    def similarities(
        self, lm: LM, prompts: Sequence[Prompt] | Batch, *, remote: Remote = False
    ) -> Tensor:
        """(N, L) float64, of every prompt at its layers. Raises ValueError as `check` and
        `mean_streams`."""
        # Here, as a condition that is watched travels to a server with all that its methods name.
        from workbench.forward.mean_streams import mean_streams

        self.check(lm)
        wanted = [(self.places, self.positions)]
        (means,) = mean_streams(lm, prompts, wanted, remote=remote)
        return self.resembles(means)

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
                    f"the condition reads layer {layer}; {lm.name!r} has 0 … {lm.layers - 1}: "
                    "choose among these"
                )
            if tuple(direction.shape) != (lm.width,):
                raise ValueError(
                    f"the condition's direction at layer {layer} has the shape "
                    f"{tuple(direction.shape)}, the stream of {lm.name!r} is {lm.width} wide: make "
                    "a condition on this model"
                )
        if self.origin is not None and lm.in_memory:
            lm.check_origin(self.origin)


def directions_at(vector: SteeringVector, layers: Sequence[int] | None) -> dict[int, Tensor]:
    """A vector's directions at these layers (default: its own). Raises ValueError for one that it
    lacks, and for layers that are no list of some."""
    if isinstance(layers, int):
        raise ValueError(f"layers {layers!r} is not a list; give layers=[{layers!r}]")
    wanted = (vector.layer,) if layers is None else tuple(layers)
    if not wanted:
        raise ValueError("layers is empty; name at least one layer")
    lacking = [layer for layer in wanted if layer not in vector.directions]
    if lacking:
        raise ValueError(f"the vector has no direction at {lacking}; it has {list(vector.layers)}")
    return {layer: vector.directions[layer] for layer in wanted}


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
    has), in their order: what `search.find_condition_point` looks through. One pass.

    Raises ValueError as `Condition` and its method of this name; a probe needs a `Condition` with a
    bias.
    """
    wanted = vector.layers if layers is None else layers
    condition = Condition.of(
        vector,
        threshold=0.0,
        layers=wanted,
        similarity=similarity,
        reads=reads,
        positions=positions,
    )
    found = condition.similarities(lm, prompts, remote=remote)
    return found[:, [condition.layers.index(layer) for layer in wanted]]
