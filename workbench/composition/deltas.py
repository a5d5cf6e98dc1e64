"""Per-step deltas: how a model's attention differs, step by step, while it shows a property.

Prompts with examples of the property, and the same with its opposite, are continued greedily; at
every step the input of each attention's output projection is read where the next token is decided,
and averaged over the prompts whose text has not ended. The difference of both means is the delta of
that step. Scalena et al. 2024, https://arxiv.org/abs/2406.17563.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.generation.generate import generate
from workbench.interventions.updates import Add, AnyUpdate, Origin, Place
from workbench.text.positions import mask
from workbench.text.tokens import Batch, Prompt, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

Where = Literal["heads", "residual"]
# The model, texts' ids (B, N) and their lengths (B,) -> how many tokens of each count (B,).
Until: TypeAlias = "Callable[[LM, Tensor, Tensor], Tensor]"


@dataclass(frozen=True, eq=False)
class StepDeltas:
    """What is added at each step to show a property.

    values  (T, L, W) float32, of T steps at `layers`: W is all heads side by side, or the stream
    layers  0-based
    site    "heads", the input of the attention's output projection, or "residual"
    alive   (2, T) how many prompts each mean is over
    origin  the model
    """

    values: Tensor
    layers: tuple[int, ...]
    site: Where = "heads"
    alive: Tensor | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.shape[1] != len(self.layers):
            raise ValueError(
                f"deltas have the shape {tuple(self.values.shape)}; give (steps, "
                f"{len(self.layers)}, width) for the layers {list(self.layers)}"
            )
        if not len(self.values) or not bool(torch.isfinite(self.values).all()):
            raise ValueError("deltas need at least one step, of finite numbers")

    @property
    def steps(self) -> int:
        """T: at later steps nothing is added."""
        return len(self.values)

    def at(self, step: int) -> list[tuple[Place, AnyUpdate, float]]:
        """What is added at a step."""
        return self._added[step] if step < self.steps else []

    @cached_property
    def _added(self) -> list[list[tuple[Place, AnyUpdate, float]]]:
        places = [Place(layer, self.site) for layer in self.layers]
        return [
            [(at, Add(delta, self.origin), 1.0) for at, delta in zip(places, deltas, strict=True)]
            for deltas in self.values
        ]

    def averaged(self) -> StepDeltas:
        """The mean over steps at every step: what the order of the steps is worth."""
        mean = self.values.mean(dim=0, keepdim=True).expand_as(self.values)
        return StepDeltas(mean, self.layers, self.site, self.alive, self.origin)


def step_deltas(
    lm: LM,
    showing: Sequence[Prompt] | Batch,
    opposite: Sequence[Prompt] | Batch,
    *,
    steps: int = 30,
    layers: Sequence[int] | None = None,
    site: Where = "heads",
    until: Until | None = None,
) -> StepDeltas:
    """The deltas of a property: of prompts with examples that show it, and of its opposite.

    steps   T, tokens that are generated
    layers  all where none are named
    until   where what a text shows ends before the text does, such as `answers.answer_lengths`:
            later steps count nowhere, and T is as many as texts of both sides reach

    Raises ValueError as `generate`, for layers out of range, and for a step that no text reaches.
    """
    chosen = tuple(range(lm.layers) if layers is None else layers)
    sides = [step_means(lm, side, steps, chosen, site, until) for side in (showing, opposite)]
    reached = min(len(means) for means, _ in sides)
    (one, first), (other, second) = ((means[:reached], on[:reached]) for means, on in sides)
    origin = Origin(lm.name, lm.fingerprint, "delta")
    return StepDeltas(one - other, chosen, site, torch.stack([first, second]), origin)


def step_means(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    steps: int,
    layers: Sequence[int],
    site: Where = "heads",
    until: Until | None = None,
) -> tuple[Tensor, Tensor]:
    """What prompts' greedy continuations have there, (T, L, W) means over those alive at each step,
    and how many these are (T,). Arguments and errors as of `step_deltas`."""
    batch = to_batch(lm, prompts, new_tokens=steps)
    made = generate(lm, batch, new_tokens=steps, score=False)
    last = int(made.lengths.max())
    if last < steps:
        raise ValueError(
            f"all {len(batch)} texts ended after {last} tokens; ask for at most {last} steps, or "
            "give prompts whose texts go on"
        )
    lengths = made.lengths if until is None else until(lm, made.ids, made.lengths)
    steps = int(lengths.max())
    alive = torch.arange(steps) < lengths[:, None]
    whole = batch.extend(made.ids, made.lengths)
    # The token of step t is decided at the column before it.
    columns = torch.zeros(whole.ids.shape, dtype=torch.bool)
    columns[:, batch.width - 1 : batch.width - 1 + steps] = alive
    found = tracing.activations(lm, whole, list(layers), mask(columns), site=site).values
    step = alive.nonzero(as_tuple=True)[1]
    totals = found.new_zeros(steps, *found.shape[1:]).index_add_(0, step, found)
    counts = alive.sum(dim=0)
    return totals / counts[:, None, None], counts
