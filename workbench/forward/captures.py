"""What places of a model hold at every token of some texts, so that it can be put elsewhere.

Knows nothing of where it is put.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.forward.reading import batches, tokens_at_once
from workbench.forward.steering import check_place, width_at
from workbench.forward.tracing import Remote
from workbench.interventions.updates import SITES, Origin, Place
from workbench.text.positions import mask
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True, eq=False)
class Captures:
    """What places hold, place -> (B, T, W), and the model that it was taken from."""

    values: Mapping[Place, Tensor]
    origin: Origin | None

    def __getitem__(self, at: Place) -> Tensor:
        return self.values[at]


def stream_origin(lm: LM) -> Origin | None:
    """Whose streams they are that are taken from a model; None where its weights are not here."""
    if not lm.in_memory:
        return None
    return Origin(lm.name, lm.fingerprint, "stream", "dataclasses.replace(stream, origin=None)")


def capture(lm: LM, batch: Batch, places: Iterable[Place], *, remote: Remote = False) -> Captures:
    """What is written at each place, (B, T, W) float32 or better on the CPU, 0 at padding.

    One pass for each site. Raises ValueError for a layer out of range or without the site.
    """
    wanted = sorted(set(places), key=lambda at: at.order)
    found = {at: torch.zeros(*batch.ids.shape, width_at(lm, check_place(lm, *at))) for at in wanted}
    for site in SITES:
        layers = [at.layer for at in wanted if at.site == site]
        if not layers:
            continue
        for part, rows in batches(batch, tokens_at_once(lm, len(layers))):
            here = mask(part.attention)
            read = tracing.activations(lm, part, layers, here, site=site, remote=remote).values
            where = part.attention.nonzero(as_tuple=True)
            for index, layer in enumerate(layers):
                own = read.new_zeros(*part.ids.shape, read.shape[-1])
                own[where] = read[:, index]
                at = Place(layer, site)
                found[at] = found[at].to(read.dtype)
                found[at][rows, batch.width - part.width :] = own
    return Captures(found, stream_origin(lm))
