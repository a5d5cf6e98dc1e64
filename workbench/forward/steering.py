"""What a run steers, on which tokens and by how much: decided before the model runs.

The interventions on a batch become one table of scales for each update. This module checks them
against the model but never runs it, and knows nothing of nnsight.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from workbench.interventions.updates import (
    EMBEDDINGS,
    AnyUpdate,
    Intervention,
    Origin,
    Place,
    Site,
    reads,
    scales,
)
from workbench.text.positions import select
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

# For each steered place, as a forward passes them, its updates with their scales (B, T).
Plan: TypeAlias = dict[Place, list[tuple[AnyUpdate, Tensor]]]


def plan(
    lm: LM,
    batch: Batch,
    interventions: Sequence[Intervention],
    new_tokens: int = 0,
    *,
    scoring: bool = False,
) -> Plan:
    """The scale of every update on every token of the batch, and on those still to come.

    The table of an update is (B, T + new_tokens); what is zero throughout is left out. The last
    new token is never fed back, and with `scoring` nothing is read from the batch's last column:
    that column is zero, and a coefficient that follows the step is not asked for it.

    Raises ValueError for anything but a sequence of interventions, a layer out of range or without
    the site that is steered, an update of another width or made on another model, a coefficient
    that is not finite or not one per row.
    """
    check_interventions(interventions)
    steered: Plan = {}
    for intervention in interventions:
        at = check_place(lm, intervention.layer, intervention.site)
        check_fits(lm, intervention.update, at)
        positions = intervention.positions
        later = torch.full((len(batch), new_tokens), bool(positions.generated))
        touched = torch.cat([select(lm, batch, positions), later], dim=1)
        if new_tokens or scoring:
            touched[:, -1] = False
        table = scales(intervention.coefficient, touched, batch.starts)
        if table.any():
            steered.setdefault(at, []).append((intervention.update, place(lm, table)))
    return {at: steered[at] for at in sorted(steered, key=lambda at: at.order)}


def whole_plan(
    lm: LM,
    batch: Batch,
    interventions: Sequence[Intervention],
    new_tokens: int = 0,
    *,
    scoring: bool = False,
) -> Plan:
    """As `plan`; what the model itself is edited by (`edit.Edited`) comes first at each place."""
    own = plan(lm, batch, interventions, new_tokens, scoring=scoring)
    return with_edits(lm, batch, own, new_tokens, scoring=scoring)


def with_edits(
    lm: LM,
    batch: Batch,
    own: Plan,
    new_tokens: int = 0,
    *,
    scoring: bool = False,
    since: Place | None = None,
    start: int = 0,
) -> Plan:
    """A plan and what the model itself is edited by, which comes first at each place.

    since  the first place that is still to come: edits before it have been made
    start  the first column that the plan's tables cover
    """
    edits = {
        at: columns(updates, start, batch.width + new_tokens)
        for at, updates in plan(lm, batch, lm.edits, new_tokens, scoring=scoring).items()
        if since is None or at.order >= since.order
    }
    places = sorted({*edits, *own}, key=lambda at: at.order)
    return {at: [*edits.get(at, []), *own.get(at, [])] for at in places}


def columns(
    updates: list[tuple[AnyUpdate, Tensor]], start: int, stop: int
) -> list[tuple[AnyUpdate, Tensor]]:
    """The same updates, their scales cut to some columns."""
    return [(update, scale[:, start:stop]) for update, scale in updates]


def check_layer(lm: LM, layer: int) -> int:
    """The layer as an int. Raises ValueError where the model has no such layer."""
    whole = isinstance(layer, Real) and not isinstance(layer, bool) and layer % 1 == 0
    if not whole or not 0 <= layer < lm.layers:
        raise ValueError(f"layer {layer!r} is out of range: {lm.name!r} has 0 … {lm.layers - 1}")
    return int(layer)


def check_place(lm: LM, layer: int, site: Site = "residual") -> Place:
    """The place. Raises ValueError where the model has no such layer; EMBEDDINGS has the residual
    stream alone."""
    before = site == "residual" and layer == EMBEDDINGS
    return Place(EMBEDDINGS if before else check_layer(lm, layer), site)


def check_interventions(interventions: Sequence[Intervention]) -> None:
    """Raise ValueError for anything but a sequence of interventions."""
    if isinstance(interventions, Intervention):
        raise ValueError(
            f"interventions is one Intervention (layer {interventions.layer!r}); wrap it in a list"
        )
    if not isinstance(interventions, Sequence):
        raise ValueError(
            f"interventions is {repr(interventions)[:200]}; give a list of them, or "
            "vector.at(coefficient) for a steering vector"
        )
    for each in interventions:
        if isinstance(each, list | tuple) and each and isinstance(each[0], Intervention):
            raise ValueError(
                "interventions holds a list of interventions; remove the brackets around it: give "
                "vector.at(coefficient) as it is, and several as [*one, *other]"
            )
        if not isinstance(each, Intervention):
            raise ValueError(
                f"{repr(each)[:200]} is not an intervention; give Intervention(layer, update), or "
                "vector.at(coefficient) for a steering vector"
            )


def check_fits(lm: LM, update: AnyUpdate, at: Place) -> None:
    """Raise ValueError for an update of another width or model than that of a place."""
    wide, what = _reads(lm, at)
    width, where = width_at(lm, at), "the residual stream"
    if at.site == "heads":
        where = f"the attention output of layer {at.layer}"
    if update.width is not None and update.width != width:
        raise ValueError(
            f"the update has width {update.width}, {where} of {lm.name!r} has width {width}; it "
            "was made for another model"
        )
    into = reads(update)
    if into is not None and into != wide:
        raise ValueError(
            f"the update reads a width of {into}, the {what} of layer {at.layer} of {lm.name!r} "
            f"gives {wide}; it was made for another model or for another site than {at.site!r}"
        )
    check_made_on(lm, update.origin)


def check_made_on(lm: LM, origin: Origin | None) -> None:
    """Raise ValueError for what was made on another model. Weights that run on a server or lie on
    disk cannot be compared."""
    if origin is not None and lm.in_memory:
        lm.check_origin(origin)


def width_at(lm: LM, at: Place) -> int:
    """W, the width of what is written there. Raises ValueError for a layer without the site."""
    _reads(lm, at)
    return lm.heads_width(at.layer) if at.site == "heads" else lm.width


def _reads(lm: LM, at: Place) -> tuple[int, str]:
    """The width of what an update can read at a place, and what that is called."""
    if at.site == "residual":
        return lm.width, "residual stream"
    if at.site == "mlp":
        return lm.inner_width(at.layer), "MLP down-projection"
    if at.site == "mlp_write":
        lm.projection_name(at.layer)
        return lm.width, "MLP's write to the stream"
    if at.site == "attention_write":
        lm.attention_name(at.layer)
        return lm.width, "attention's write to the stream"
    return lm.heads_width(at.layer), "attention's output projection"


def place(lm: LM, tensor: Tensor) -> Tensor:
    """The tensor where the model takes its token ids; as it is for a model without weights."""
    device = lm.device
    return tensor if device.type == "meta" else tensor.to(device)


def last_step(steered: Plan, width: int) -> int:
    """The last decoding step on which anything is steered; 0 if only the prompt is, -1 if nothing.

    Column width + s - 1 is the input of step s.
    """
    ends = [
        int(scale.any(dim=0).nonzero().max()) - width + 1
        for updates in steered.values()
        for _, scale in updates
    ]
    return max(max(ends), 0) if ends else -1
