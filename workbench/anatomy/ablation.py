"""Ablation: a part of a model is replaced by a stand-in, and what changes is what it did.

A part is an attention head, a whole attention output, an MLP, a layer (both of these) or a
direction of the residual stream; the stand-ins are in fillings.py. Every ablation is an update at a
place like all other interventions: a coefficient of 1 replaces the part, 0.5 half of it. Since the
coefficient and the part may differ from row to row, a sweep over all heads of all layers is one
batch (`by_row`).

A head h is the part h of what the attention's output projection reads, all H query heads side by
side: with grouped-query attention too, where several heads share their keys and values but not what
they write. Whole outputs are replaced where they are added to the stream. In models where a norm
stands between (Gemma-2, OLMo-2) that is after the norm, so that half an output is half of what is
added; a head lies before it, and the norm then sets the rest of its layer to another size. Knows
nothing of what an effect is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from workbench.anatomy.fillings import Filling, zero
from workbench.forward.steering import check_layer, check_place, width_at
from workbench.interventions.maps import RemoveDirection, Replace
from workbench.interventions.updates import (
    EMBEDDINGS,
    AnyUpdate,
    Coefficient,
    Intervention,
    Origin,
    Place,
    Site,
)
from workbench.support.checks import check_whole, require_layers, require_lists
from workbench.text.positions import Mask, Positions, but_first, everything
from workbench.text.tokens import Batch
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

Kind: TypeAlias = Literal["head", "attention", "mlp", "layer", "direction"]
KINDS: tuple[Kind, ...] = ("head", "attention", "mlp", "layer", "direction")
PARTS = ("attention", "mlp", "layer")


@dataclass(frozen=True, eq=False)
class Component:
    """A part of a model: of block `layer` (0-based), by kind.

    head       which, of the kind "head"
    direction  (D,), of the kind "direction": along it what `site` holds, the residual stream after
               the block (of layer EMBEDDINGS: before the first) or a write to it
    name       what it is called in tables and figures, where its kind does not tell it from others

    Raises ValueError for another kind, a layer or a head that is no whole number, and a head or a
    direction without its kind, or a kind without.
    """

    layer: int
    kind: Kind
    head: int | None = None
    direction: Tensor | None = None
    name: str = ""
    site: Site = "residual"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        for kind in ("head", "direction"):
            if (getattr(self, kind) is None) == (self.kind == kind):
                raise ValueError(
                    f"a component of the kind {self.kind!r} with {kind} {getattr(self, kind)!r}: "
                    f"give a {kind} with the kind {kind!r}, and with no other"
                )
        if self.site != "residual" and self.kind != "direction":
            raise ValueError(
                f"site {self.site!r} of the kind {self.kind!r}: only directions have one"
            )
        # Of whatever kind the numbers are: a table's are numpy's.
        object.__setattr__(self, "layer", check_whole("layer", self.layer, EMBEDDINGS))
        if self.head is not None:
            object.__setattr__(self, "head", check_whole("head", self.head, 0))

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it is replaced, in order."""
        if self.kind == "head":
            return (Place(self.layer, "heads"),)
        if self.kind == "direction":
            return (Place(self.layer, self.site),)
        both = (Place(self.layer, "attention_write"), Place(self.layer, "mlp_write"))
        return both if self.kind == "layer" else both[:1] if self.kind == "attention" else both[1:]

    def share(self, lm: LM, at: Place) -> Tensor:
        """(W,), which part of what is written there belongs to it: ones, those of a head among
        zeros, or a direction. Raises ValueError as `check`."""
        self.check(lm)
        if self.direction is not None:
            return self.direction
        share = torch.ones(width_at(lm, at))
        if self.head is not None:
            share *= torch.arange(len(share)) // (len(share) // lm.heads) == self.head
        return share

    def check(self, lm: LM) -> None:
        """Raise ValueError for a layer or a head out of range, a block without such a part, or a
        direction of another width."""
        for at in self.places:
            width = width_at(lm, check_place(lm, *at))
        if self.head is not None:
            if self.head >= lm.heads:
                raise ValueError(
                    f"head {self.head!r} is out of range: a layer of {lm.name!r} has heads "
                    f"0 … {lm.heads - 1}"
                )
            if width % lm.heads:
                raise ValueError(
                    f"layer {self.layer} of {lm.name!r} has an attention output of width {width}, "
                    f"which its config's {lm.heads} heads do not share evenly"
                )
        if self.direction is not None and self.direction.shape != (lm.width,):
            raise ValueError(
                f"the direction has shape {tuple(self.direction.shape)}, the residual stream of "
                f"{lm.name!r} has width {lm.width}"
            )


def heads(lm: LM, layers: Sequence[int] | None = None) -> list[Component]:
    """All heads of these layers (default: all), layer by layer."""
    return [
        Component(layer, "head", head) for layer in _layers(lm, layers) for head in range(lm.heads)
    ]


def parts(
    lm: LM,
    kinds: Sequence[Literal["attention", "mlp", "layer"]] = ("attention", "mlp", "layer"),
    layers: Sequence[int] | None = None,
) -> list[Component]:
    """The attention output, the MLP and both together, of these layers (default: all).

    Raises ValueError for kinds that are no list, and for another kind.
    """
    require_lists(kinds=kinds)
    for kind in kinds:
        if kind not in PARTS:
            raise ValueError(
                f"kind {kind!r}: give a list of some of {', '.join(map(repr, PARTS))}; heads come "
                "from ablation.heads, directions from ablation.directions"
            )
    return [Component(layer, kind) for layer in _layers(lm, layers) for kind in kinds]


def directions(
    vector: SteeringVector, layers: Sequence[int] | None = None, *, name: str = ""
) -> list[Component]:
    """A vector's own direction at each of these layers (default: all that have one), each removed
    from the stream after its block.

    That is many directions, one a layer, and what later parts write along each of them stays. One
    direction that no part of the model can read or write is `everywhere`.

    Raises ValueError for a layer without a direction.
    """
    require_lists(layers=layers)
    chosen = vector.layers if layers is None else layers
    found = vector.scaled(dict.fromkeys(chosen, 1.0), vector.residual_norm).directions
    return [Component(layer, "direction", direction=found[layer], name=name) for layer in chosen]


def everywhere(lm: LM, direction: SteeringVector | Tensor, *, name: str = "") -> list[Component]:
    """One direction (D,), or a vector's at its own layer, wherever the stream is read: before the
    first block, after each attention's write, after each block. For `ablate`, which takes them
    together: no part of the model can then read anything along it, as in directional ablation
    (Arditi et al. 2024, https://arxiv.org/abs/2406.11717, section 2.4); `orthogonalise` writes the
    same into the weights, where no norm follows a write.

    Raises ValueError for a vector that does not fit the model.
    """
    if not isinstance(direction, Tensor):
        direction.check(lm)
        direction = direction.directions[direction.layer]
    where = [Place(EMBEDDINGS)]
    for layer in range(lm.layers):
        where += [Place(layer, "attention_write"), Place(layer)]
    return [
        Component(at.layer, "direction", direction=direction, name=name, site=at.site)
        for at in where
    ]


def places(components: Iterable[Component]) -> list[Place]:
    """Where components are replaced, each once, in order: what `means` and `samples` read."""
    every = {at for component in components for at in component.places}
    return sorted(every, key=lambda at: at.order)


def check_ablation(
    lm: LM, components: Sequence[Component], by: Filling, batch: Batch | None = None
) -> None:
    """Raise ValueError for components that are no list of them, or none, as `Component.check`, for
    what is no filling, and for one that cannot stand in for each of them in a batch or, without
    one, in texts that are still being written."""
    if isinstance(components, Component):
        raise ValueError("components is one Component; wrap it in a list: [component]")
    if isinstance(components, SteeringVector | Tensor):
        raise ValueError(
            f"components is a {type(components).__name__}; give "
            "ablation.everywhere(lm, direction), which takes it out wherever the stream is read"
        )
    for each in components:
        if not isinstance(each, Component):
            raise ValueError(
                f"{repr(each)[:200]} is not a Component; ablation.heads, parts and directions make "
                "them"
            )
    if not callable(getattr(by, "check", None)):
        raise ValueError(
            f"by is {repr(by)[:200]}; give a filling: fillings.zero, or "
            "fillings.means(lm, texts, ablation.places(components))"
        )
    if len(components) == 0:
        raise ValueError("components is empty; name at least one part to ablate")
    for component in components:
        component.check(lm)
    for at in places(components):
        by.check(lm, at, batch)


def ablate(
    lm: LM,
    components: Sequence[Component],
    *,
    by: Filling = zero,
    coefficient: Coefficient = 1.0,
    positions: Positions = everything,
) -> list[Intervention]:
    """The interventions that ablate all of some components together, in every row.

    They go wherever interventions go: into `generate`, a sweep, `logprobs`. Raises ValueError as
    `check_ablation`.
    """
    check_ablation(lm, components, by)
    return [
        Intervention(
            at.layer,
            _update(component.kind, by.on(lm, at), component.share(lm, at), by.origin),
            coefficient,
            _touched(by, positions),
            at.site,
        )
        for component in components
        for at in component.places
    ]


def by_row(
    lm: LM,
    batch: Batch,
    components: Sequence[Component | None],
    *,
    by: Filling = zero,
    rows: Tensor | None = None,
    positions: Positions = everything,
    written: bool = False,
) -> list[Intervention]:
    """The interventions that ablate one component in each row of a batch, or none in some.

    rows     (B,) which rows of the batch that `by` was made for these are (default: that batch)
    written  whether the texts go on being written, for which the filling must do too

    At most one for each place and kind, however many rows there are. Raises ValueError as `ablate`,
    and unless there is one component, or None, for each row.
    """
    if len(components) != len(batch):
        raise ValueError(
            f"{len(components)} components for a batch of {len(batch)} rows; give one for each row"
        )
    own = torch.arange(len(batch)) if rows is None else rows
    distinct = {id(each): each for each in components if each is not None}
    shares: dict[tuple[Place, bool], dict[int, Tensor]] = {}
    for key, component in distinct.items():
        for at in component.places:
            along = component.kind == "direction"
            shares.setdefault((at, along), {})[key] = component.share(lm, at)
    found = []
    for (at, along), known in shares.items():
        number = {key: index for index, key in enumerate(known)}
        index = torch.tensor([number.get(id(each), -1) for each in components])
        # What untouched rows hold never matters: their coefficient is 0.
        table = torch.stack(list(known.values()))[index.clamp_min(0)]
        target = by.on(lm, at) if written else by.on(lm, at, batch, own)
        update = _update("direction" if along else "head", target, table, by.origin)
        on = (index >= 0).float()
        found.append(Intervention(at.layer, update, on, _touched(by, positions), at.site))
    return found


def _touched(by: Filling, positions: Positions) -> Positions:
    # A mask is taken at its word.
    spared = by.spares_first and not isinstance(positions, Mask)
    return but_first(positions) if spared else positions


def _update(kind: Kind, target: Tensor, share: Tensor, origin: Origin | None) -> AnyUpdate:
    if kind == "direction":
        return RemoveDirection(share, target, origin)
    return Replace(target, share, origin)


def _layers(lm: LM, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(lm.layers))
    require_layers(layers)
    return [check_layer(lm, layer) for layer in layers]
