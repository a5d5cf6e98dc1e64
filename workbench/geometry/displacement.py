"""Where steering moves the residual stream: along the target, and how far off the manifold.

At the steered layer and at every one after it, over the coefficient, in four ways of making text:

fixed   texts as they are, read by the steered model (teacher-forced): an odd edit, ordinary text
own     what the steered model writes, read by it: both may be odd
unread  the same texts, read by the unsteered model: odd text, no edit
asked   what the unsteered model writes where the prompt asks for the trait: the natural way there

Knows nothing of traits, nor of how a manifold is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from workbench.forward.reference import chosen_tokens
from workbench.generation.generate import Generation, generate
from workbench.geometry.downstream import Seen, steered_streams
from workbench.geometry.manifold import Manifold, Manifolds
from workbench.interventions.updates import Intervention
from workbench.text.positions import generated
from workbench.text.tokens import Batch, Prompt, encode
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM


class Steers(Protocol):
    """A steering vector, a LoRA or a local weight; or any other map from coefficients, one per
    row, to interventions."""

    def at(self, coefficient: Tensor, /) -> Sequence[Intervention]: ...


def displacement(
    lm: LM,
    steered: Steers,
    texts: Sequence[Prompt],
    coefficients: ArrayLike,
    manifolds: Manifolds,
    *,
    kinds: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    target: SteeringVector | None = None,
    memory: float = 1 << 28,
) -> pd.DataFrame:
    """Where fixed texts lie under every coefficient: route "fixed".

    steered   what is steered by, at its own layer; coefficient 1 is what `steered.at(1.0)` does
    kinds     of manifold (default: all that are there)
    layers    that are read (default: the steered one and all after it that have a manifold)
    target    the vector whose directions are looked along; by default `steered`, if it is one
    memory    bytes that logits and streams of one forward may take

    One row per text, coefficient and layer, means over the tokens that manifolds are for:
    `route`, `text` (its index), `coefficient_norm`, `layer`, `steered_layer`, `tokens`;
    `projection`, of the stream on the target direction, and `shift`, the length of the change, both
    in residual norms of the layer (of the stream's own units where `target` lacks the layer);
    `inside`, of the squared change the share along the manifold's tangent, and `along`, along the
    target direction (NaN where nothing changed); `angle` between the stream before and after, in
    degrees, and `growth`, its length after by before; `loss`, -log P of the next token, and `kl`,
    KL(steered || unsteered) of it, in nats. For each kind `distance_KIND` and `beyond_KIND`, the
    share of tokens beyond the 95 % quantile of ordinary ones; of the first kind `explained`: of
    its squared distance the share that goes if the change along the target is taken back.

    In `attrs`: `chance`, of each layer the share of a random change inside the tangent, and
    `thresholds` of each layer and kind.

    Raises ValueError for no coefficients or such that are not finite, no tokens to look at, and as
    `steered_streams`.
    """
    grid = _grid(coefficients)
    batch = encode(lm, texts)
    rows = torch.arange(len(batch)).repeat_interleave(len(grid))
    cells = rows, torch.from_numpy(grid).repeat(len(batch))
    touched = chosen_tokens(lm, batch, manifolds.positions, manifolds.skip)
    reader = _Reader(lm, steered, manifolds, kinds, layers, target, memory)
    return reader.frame("fixed", batch, cells, touched)


def own_texts(
    lm: LM,
    steered: Steers,
    prompts: Sequence[Prompt],
    coefficients: ArrayLike,
    manifolds: Manifolds,
    *,
    kinds: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    target: SteeringVector | None = None,
    new_tokens: int = 32,
    temperature: float = 1.0,
    seed: int = 0,
    memory: float = 1 << 28,
) -> pd.DataFrame:
    """Where texts lie that the steered model writes: routes "own" and "unread".

    The same columns as `displacement`, over the tokens that were written; sampling noise belongs to
    a prompt, so that all coefficients share it. Texts that end at once have no row. Raises
    ValueError as `displacement` and `generate`.
    """
    grid = _grid(coefficients)
    every = [prompt for prompt in prompts for _ in grid]
    made = generate(
        lm,
        every,
        steered.at(torch.from_numpy(grid).float().repeat(len(prompts))),
        new_tokens=new_tokens,
        temperature=temperature,
        seed=seed,
        streams=np.arange(len(prompts)).repeat(len(grid)).tolist(),
        score=False,
    )
    written, touched = _written(lm, made, manifolds)
    able = touched.any(dim=1).nonzero()[:, 0]
    values = torch.from_numpy(grid).repeat(len(prompts))[able]
    reader = _Reader(lm, steered, manifolds, kinds, layers, target, memory)
    frames = []
    for route, scale in (("own", 1.0), ("unread", 0.0)):
        frame = reader.frame(route, written, (able, scale * values), touched)
        chosen = dict(zip(able.tolist(), values.tolist(), strict=True))
        steered_by, prompt = frame["text"].map(chosen), frame["text"] // len(grid)
        frames.append(frame.assign(coefficient_norm=steered_by, text=prompt))
    whole = pd.concat(frames, ignore_index=True)
    whole.attrs = dict(frames[0].attrs)
    return whole


def asked(
    lm: LM,
    steered: Steers,
    prompts: Sequence[Prompt],
    manifolds: Manifolds,
    *,
    kinds: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    target: SteeringVector | None = None,
    new_tokens: int = 32,
    temperature: float = 1.0,
    seed: int = 0,
    memory: float = 1 << 28,
) -> pd.DataFrame:
    """Where the unsteered model's texts lie after prompts, such as ask for the trait: route
    "asked". The columns are those of `displacement`, at coefficient 0; `steered` only says at which
    layers, and where the target is. Raises ValueError as there."""
    made = generate(
        lm, prompts, new_tokens=new_tokens, temperature=temperature, seed=seed, score=False
    )
    written, touched = _written(lm, made, manifolds)
    able = touched.any(dim=1).nonzero()[:, 0]
    reader = _Reader(lm, steered, manifolds, kinds, layers, target, memory)
    return reader.frame("asked", written, (able, torch.zeros(len(able)).double()), touched)


def _written(lm: LM, made: Generation, manifolds: Manifolds) -> tuple[Batch, Tensor]:
    """The texts as one batch, and which of their tokens are looked at."""
    longest = int(made.lengths.max())
    written = made.batch.extend(made.ids[:, :longest], made.lengths, made.texts)
    special = torch.isin(written.ids, torch.tensor(sorted(written.special_ids)))
    touched = chosen_tokens(lm, written, generated, manifolds.skip) & ~special
    if not touched.any():
        raise ValueError("the texts have no tokens to look at: every one of them ended at once")
    return written, touched


def _grid(coefficients: ArrayLike) -> np.ndarray:
    grid = np.atleast_1d(np.asarray(coefficients, dtype=np.float64))
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all():
        raise ValueError(f"coefficients {coefficients!r}: give a list of finite numbers")
    return grid


class _Reader:
    """What the routes share: where is looked, along what, and how it is summed up."""

    def __init__(
        self,
        lm: LM,
        steered: Steers,
        manifolds: Manifolds,
        kinds: Sequence[str] | None,
        layers: Sequence[int] | None,
        target: SteeringVector | None,
        memory: float,
    ) -> None:
        self.lm, self.maker, self.memory = lm, steered.at, memory
        self.steered_layer = min(each.layer for each in steered.at(torch.ones(1)))
        known = [layer for layer in sorted(manifolds.layers) if layer >= self.steered_layer]
        self.layers = known if layers is None else list(layers)
        if not self.layers:
            raise ValueError(
                f"no manifold at the steered layer {self.steered_layer} or after it: layers "
                f"{list(manifolds.layers)} have one"
            )
        names = manifolds.kinds if kinds is None else tuple(kinds)
        self.manifolds = {
            layer: {kind: manifolds.at(layer, kind) for kind in names} for layer in self.layers
        }
        if target is None and isinstance(steered, SteeringVector):
            target = steered
        self.target = target

    def frame(
        self, route: str, batch: Batch, cells: tuple[Tensor, Tensor], touched: Tensor
    ) -> pd.DataFrame:
        if not touched.any():
            raise ValueError("no token of these texts is one that manifolds are for")
        parts = [
            self._summed(seen, layer, index)
            for seen in steered_streams(
                self.lm, batch, self.maker, *cells, self.layers, touched, memory=self.memory
            )
            for index, layer in enumerate(self.layers)
        ]
        found = pd.concat(parts, ignore_index=True)
        found = found.sort_values(["text", "coefficient_norm", "layer"], ignore_index=True)
        found.insert(0, "route", route)
        found.insert(4, "steered_layer", self.steered_layer)
        first = {layer: next(iter(kinds.values())) for layer, kinds in self.manifolds.items()}
        found.attrs = {
            "model": self.lm.name,
            "weights": self.lm.fingerprint if self.lm.in_memory else "",
            "steered_layer": self.steered_layer,
            "chance": {str(layer): each.chance for layer, each in first.items()},
            "thresholds": {
                f"{layer} {kind}": each.threshold()
                for layer, kinds in self.manifolds.items()
                for kind, each in kinds.items()
            },
        }
        return found

    def _summed(self, seen: Seen, layer: int, index: int) -> pd.DataFrame:
        before, after = seen.before[:, index].double(), seen.after[:, index].double()
        change = after - before
        direction, size = self._along(layer)
        table: dict[str, Tensor | np.ndarray] = {
            "text": seen.rows,
            "coefficient_norm": seen.coefficients,
            "shift": change.norm(dim=-1) / size,
            "angle": _angle(before, after),
            "growth": after.norm(dim=-1) / before.norm(dim=-1),
            "loss": seen.loss.double(),
            "kl": seen.kl.double(),
        }
        manifolds = self.manifolds[layer]
        first = next(iter(manifolds.values()))
        table["inside"] = first.share_inside(change)
        if direction is not None:
            step = change @ direction
            table["projection"] = after @ direction / size
            table["along"] = step.square() / change.square().sum(-1)
            table["explained"] = _explained(first, after, step[:, None] * direction)
        for kind, each in manifolds.items():
            distance = each.distance(after)
            table[f"distance_{kind}"] = distance
            table[f"beyond_{kind}"] = (distance > each.threshold()).double()
        frame = pd.DataFrame({name: np.asarray(values) for name, values in table.items()})
        groups = frame.groupby(["text", "coefficient_norm"], as_index=False)
        means, counts = groups.mean(), groups.size()["size"]
        means.insert(2, "layer", layer)
        means.insert(3, "tokens", counts)
        return means

    def _along(self, layer: int) -> tuple[Tensor | None, float]:
        """The unit direction of the target at a layer, if it has one, and the residual norm."""
        if self.target is None or layer not in self.target.directions:
            return None, 1.0
        direction = self.target.directions[layer].double()
        return direction / direction.norm(), float(self.target.residual_norm.get(layer, 1.0))


def _angle(before: Tensor, after: Tensor) -> Tensor:
    """Degrees between streams (n, D)."""
    one, other = (torch.nn.functional.normalize(each, dim=-1) for each in (before, after))
    # The half angle's tangent keeps its digits where the angle is small.
    return 2 * torch.atan2((one - other).norm(dim=-1), (one + other).norm(dim=-1)).rad2deg()


def _explained(manifold: Manifold, after: Tensor, step: Tensor) -> Tensor:
    """Of the squared distance of streams (n, D) the share that goes without a step (n, D)."""
    with_it, without = (manifold.distance(each).square() for each in (after, after - step))
    return 1 - without / with_it
