"""What stands in for a part that is ablated: nothing, or a mean over texts.

    zero      what the part adds is taken away
    means     what it adds to an ordinary text: what it says of this one is taken away

What it adds to one other text is in resampling.py. Taking a mean or a sample keeps later blocks
near what they are used to, which zeros do not (Chan et al. 2022, "Causal scrubbing"; Wang et al.
2022, https://arxiv.org/abs/2211.00593). Knows nothing of what is ablated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from workbench.forward import tracing
from workbench.forward.captures import stream_origin
from workbench.forward.reading import batches, tokens_at_once
from workbench.forward.steering import check_made_on, width_at
from workbench.forward.tracing import Remote
from workbench.interventions.updates import SITES, Origin, Place
from workbench.text.positions import Positions, but_first, everything, mask, select
from workbench.text.tokens import Batch, Prompt, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

Per = Literal["token", "position"]


class Filling(Protocol):
    """What is put at a place: `(W,)`, the same at every token, or `(B, T, W)`."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What it is, as JSON values: for the provenance of effects."""
        ...

    @property
    def origin(self) -> Origin | None:
        """The model that it was taken from; None where it fits all."""
        ...

    @property
    def spares_first(self) -> bool:
        """Whether the first token of a text keeps what it holds."""
        ...

    def check(self, lm: LM, at: Place, batch: Batch | None, rows: Tensor | None = None) -> None:
        """Raise ValueError unless it can be put there, in the rows of this batch or, without one,
        in texts that are still being written."""
        ...

    def on(
        self, lm: LM, at: Place, batch: Batch | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """What is put in the rows of a batch, which are rows (B,) of the one that it was made for
        (default: that one), perhaps cut on the left; without a batch, in texts that are still being
        written. Raises ValueError as `check`."""
        ...


class Zero:
    """Nothing."""

    origin = None
    spares_first = False

    @property
    def about(self) -> Mapping[str, Any]:
        return {"filling": "zero"}

    def check(self, lm: LM, at: Place, batch: Batch | None, rows: Tensor | None = None) -> None:
        width_at(lm, at)

    def on(
        self, lm: LM, at: Place, batch: Batch | None = None, rows: Tensor | None = None
    ) -> Tensor:
        return torch.zeros(width_at(lm, at))


zero = Zero()


@dataclass(frozen=True, eq=False)
class Means:
    """Means over texts.

    values        place -> (W,) over all tokens, or (P, W) over the texts at each position
    tokens        how many each is over: one number, or (P,)
    texts         how many texts; `positions` says which of their tokens
    spares_first  whether first tokens are neither in the means nor replaced by one
    origin        the model that they were taken from; None: used on every one
    """

    values: Mapping[Place, Tensor]
    tokens: Tensor
    texts: int
    positions: str
    spares_first: bool
    origin: Origin | None = None

    @property
    def about(self) -> Mapping[str, Any]:
        return {
            "filling": "means",
            "per": "token" if self.tokens.ndim == 0 else "position",
            "texts": self.texts,
            "tokens": int(self.tokens.sum()),
            "positions": self.positions,
        }

    def check(self, lm: LM, at: Place, batch: Batch | None, rows: Tensor | None = None) -> None:
        """Raises ValueError for another model than they were taken from, for a place that was not
        read; and, where means are by position, for texts that are still being written, or longer
        than all of those."""
        check_made_on(lm, self.origin)
        if at not in self.values:
            raise ValueError(
                f"there is no mean of {at.site!r} at layer {at.layer}; make means for the "
                "components that are ablated"
            )
        values = self.values[at]
        if values.ndim == 1:
            return
        if batch is None:
            raise ValueError(
                "means by position belong to texts that stand; for texts that are being written "
                "take means over all tokens: means(..., per='token')"
            )
        longest = int(batch.positions.max()) + 1
        if longest > len(values):
            raise ValueError(
                f"a text has {longest} tokens, the texts that the means are of have {len(values)} "
                "at most: give longer ones, or means(..., per='token')"
            )

    def on(
        self, lm: LM, at: Place, batch: Batch | None = None, rows: Tensor | None = None
    ) -> Tensor:
        self.check(lm, at, batch, rows)
        values = self.values[at]
        return values if batch is None or values.ndim == 1 else values[batch.positions]


def means(
    lm: LM,
    texts: Sequence[Prompt] | Batch,
    places: Iterable[Place],
    *,
    per: Per = "token",
    positions: Positions | None = None,
    remote: Remote = False,
) -> Means:
    """Means over calibration texts of what is written at places (`ablation.places` of components).

    per        "token": over all tokens that `positions` chooses; "position": apart for the first,
               second, … token of a text. Wang et al. (2022, section 2) take the mean at each
               position of prompts of one template, which keeps what the position and the template
               add: "position" over such prompts is just that, and the nearest to it over others
    positions  by default every token, but for "token" the first of each text: models hold there
               many times what they hold elsewhere, and attend to it where they attend to nothing
               (an attention sink, Xiao et al. 2024, https://arxiv.org/abs/2309.17453). One mean of
               both would be far from any token's own. Where no first token is in the means, none is
               replaced by them: it keeps what it holds (`spares_first`). `everything` does both

    Raises ValueError for no texts, no places, another `per`, and a text of which nothing is chosen.
    """
    if per not in ("token", "position"):
        raise ValueError(f"per {per!r} is unknown; use 'token' or 'position'")
    if not isinstance(texts, Batch) and not isinstance(texts, str) and len(texts) == 0:
        raise ValueError("a mean over no texts: give at least one calibration text")
    batch = to_batch(lm, texts)
    if positions is None:
        positions = but_first(everything) if per == "token" else everything
    wanted = sorted(set(places), key=lambda at: at.order)
    if not wanted:
        raise ValueError("places is empty; name at least one place whose mean is taken")
    count = int(batch.attention.sum(dim=1).max()) if per == "position" else 1
    totals = {at: torch.zeros(count, width_at(lm, at), dtype=torch.float64) for at in wanted}
    touched = select(lm, batch, positions)
    index = batch.positions[touched] if per == "position" else batch.positions[touched] * 0
    tokens = torch.bincount(index, minlength=count)
    if per == "token" and not bool(tokens.all()):
        raise ValueError(f"{positions!r} chooses no token of any text, so that there is no mean")
    if not bool(tokens.all()):
        lacking = int((tokens == 0).nonzero()[0])
        raise ValueError(
            f"{positions!r} chooses no token at position {lacking} of any text, so that there is "
            "no mean there; choose everything, or take means over all tokens: per='token'"
        )
    for site in SITES:
        layers = [at.layer for at in wanted if at.site == site]
        if not layers:
            continue
        for part, rows in batches(batch, tokens_at_once(lm, len(layers))):
            here = touched[rows][:, -part.width :]
            read = tracing.activations(lm, part, layers, mask(here), site=site, remote=remote)
            where = part.positions[here] if per == "position" else part.positions[here] * 0
            for column, layer in enumerate(layers):
                values = read.values[:, column].double()
                totals[Place(layer, site)].index_add_(0, where, values)
    shares = {at: (total / tokens[:, None]).float() for at, total in totals.items()}
    if per == "token":
        shares, tokens = {at: share[0] for at, share in shares.items()}, tokens[0]
    spared = not bool((touched & (batch.positions == 0)).any())
    return Means(shares, tokens, len(batch), repr(positions), spared, stream_origin(lm))
