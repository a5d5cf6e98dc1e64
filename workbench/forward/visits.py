"""The one place where what a block makes is read and replaced, inside a trace.

A site is visited at its envoy, the block or the linear map that ends its attention or its MLP, in
the order in which a forward passes them; the stream before the first block at that block's input.
Opens no trace of its own: tracing.py and decoding.py do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from workbench.forward.steering import Plan, columns
from workbench.interventions.updates import EMBEDDINGS, AnyUpdate, Place, reads, steer

if TYPE_CHECKING:
    from workbench.loading.models import LM


class Watcher(Protocol):
    """Something that is shown the streams at some residual places, before they are steered there,
    and may change the scales of what is steered later."""

    @property
    def places(self) -> tuple[Place, ...]: ...

    def see(self, at: Place, hidden: Tensor, stop: int) -> None: ...


def modules(lm: LM, places: Iterable[Place]) -> dict[Place, Any]:
    """The envoy that is visited at each place: the block, its MLP's down-projection, its
    attention's output projection (at two sites: its input and its output), or what writes either
    to the stream, which is the projection itself unless a norm follows it."""
    own = {
        "residual": lambda layer: lm.blocks[max(layer, 0)],
        "mlp": lm.down_projection,
        "attention": lm.attention_output,
        "heads": lm.attention_output,
        "attention_write": lm.attention_write,
        "mlp_write": lm.mlp_write,
    }
    return {at: own[at.site](at.layer) for at in places}


def visit(block: Any, updates: list[tuple[AnyUpdate, Tensor]], stop: int) -> Tensor:
    """Inside a trace: the residual stream (B, t, D) after a block, steered if there are updates.

    The t tokens that the block sees are the columns before `stop` of the updates' tables: all of
    them in a forward, the newest in a decoding step with a cache.
    Blocks return a tensor, or a tuple that begins with it, depending on the architecture.
    """
    output = block.output
    hidden = output[0] if isinstance(output, tuple) else output
    if updates:
        hidden = steer(hidden, columns(updates, stop - hidden.shape[1], stop))
        block.output = (hidden, *output[1:]) if isinstance(output, tuple) else hidden
    return hidden


def visit_projection(
    module: Any, updates: list[tuple[AnyUpdate, Tensor]], stop: int, rows: int
) -> Tensor:
    """Inside a trace: the output (B, t, D) of a linear map, steered by updates, if there are any,
    that may read its input (B, t, I). The columns are as in `visit`; some architectures have tokens
    of all rows in one dimension there, (B t, I)."""
    given = None
    if any(reads(update) is not None for update, _ in updates):
        read = module.input
        given = read.view(rows, -1, read.shape[-1])
    written = module.output
    hidden = written.view(rows, -1, written.shape[-1])
    if updates:
        hidden = steer(hidden, columns(updates, stop - hidden.shape[1], stop), given)
        module.output = hidden.view(written.shape)
    return hidden


def visit_input(
    module: Any, updates: list[tuple[AnyUpdate, Tensor]], stop: int, rows: int
) -> Tensor:
    """Inside a trace: what a linear map or the first block reads (B, t, I), steered if there are
    updates; the columns are as in `visit`, the tokens of all rows may lie in one dimension as in
    `visit_projection`."""
    read = module.input
    hidden = read.view(rows, -1, read.shape[-1])
    if updates:
        hidden = steer(hidden, columns(updates, stop - hidden.shape[1], stop))
        module.input = hidden.view(read.shape)
    return hidden


def visit_all(
    found: Mapping[Place, Any], steered: Plan, stop: int, watch: Watcher | None = None
) -> None:
    """Inside a trace: every steered or watched place, in order; the columns are as in `visit`."""
    watched = () if watch is None else watch.places
    for at in sorted({*steered, *watched}, key=lambda at: at.order):
        if at.site == "heads" or at.layer == EMBEDDINGS:
            visit_input(found[at], steered[at], stop, steered[at][0][1].shape[0])
        elif at.site != "residual":
            visit_projection(found[at], steered[at], stop, steered[at][0][1].shape[0])
        elif watch is not None and at in watched:
            watch.see(at, visit(found[at], [], stop), stop)
            visit(found[at], steered.get(at, []), stop)
        else:
            visit(found[at], steered[at], stop)
