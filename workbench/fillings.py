"""What stands in for a part that is ablated: nothing, a mean over texts, or another text's own.

    zero      what the part adds is taken away
    means     what it adds to an ordinary text: what it says of this one is taken away
    samples   what it adds to one other text: like means, but a stream that does occur

Taking a mean or a sample keeps later blocks near what they are used to, which zeros do not (Chan et
al. 2022, "Causal scrubbing"; Wang et al. 2022, https://arxiv.org/abs/2211.00593). Knows nothing of
what is ablated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from workbench import tracing
from workbench.captures import capture
from workbench.positions import Positions, everything, mask, select
from workbench.reading import batches, tokens_at_once
from workbench.steering import width_at
from workbench.tokens import Batch, Prompt, encode, to_batch
from workbench.tracing import Remote
from workbench.updates import SITES, Place

if TYPE_CHECKING:
    from workbench.models import LM

Per = Literal["token", "position"]


class Filling(Protocol):
    """What is put at a place: `(W,)`, the same at every token, or `(B, T, W)`.

    `anywhere` is for texts that are still being written, and for batches that are not known yet.
    """

    def anywhere(self, lm: LM, at: Place) -> Tensor: ...

    def on(self, lm: LM, at: Place, batch: Batch, rows: Tensor) -> Tensor:
        """For the rows of a batch, which are rows (B,) of the one that the filling was made for,
        cut on the left."""
        ...


class Zero:
    """Nothing."""

    def anywhere(self, lm: LM, at: Place) -> Tensor:
        return torch.zeros(width_at(lm, at))

    def on(self, lm: LM, at: Place, batch: Batch, rows: Tensor) -> Tensor:
        return self.anywhere(lm, at)


zero = Zero()


@dataclass(frozen=True, eq=False)
class Means:
    """Means over texts.

    values  place -> (W,) over all tokens, or (P, W) over the texts at each position
    tokens  how many each is over: one number, or (P,)
    """

    values: Mapping[Place, Tensor]
    tokens: Tensor

    def anywhere(self, lm: LM, at: Place) -> Tensor:
        """Raises ValueError for a place that was not read, and means by position."""
        values = self._of(at)
        if values.ndim != 1:
            raise ValueError(
                "means by position belong to texts that stand; for texts that are being written "
                "take means over all tokens: means(..., per='token')"
            )
        return values

    def on(self, lm: LM, at: Place, batch: Batch, rows: Tensor) -> Tensor:
        """Raises ValueError for a place that was not read, and a text longer than all of those."""
        values = self._of(at)
        if values.ndim == 1:
            return values
        longest = int(batch.positions.max()) + 1
        if longest > len(values):
            raise ValueError(
                f"a text has {longest} tokens, the texts that the means are of have {len(values)} "
                "at most: give longer ones, or means(..., per='token')"
            )
        return values[batch.positions]

    def _of(self, at: Place) -> Tensor:
        if at not in self.values:
            raise ValueError(
                f"there is no mean of {at.site!r} at layer {at.layer}; make means for the "
                "components that are ablated"
            )
        return self.values[at]


def means(
    lm: LM,
    texts: Sequence[Prompt] | Batch,
    places: Iterable[Place],
    *,
    per: Per = "token",
    positions: Positions = everything,
    remote: Remote = False,
) -> Means:
    """Means over calibration texts of what is written at places (`ablation.places` of components).

    per        "token": over all tokens that `positions` chooses; "position": apart for the first,
               second, … token of a text
    positions  every token unless told otherwise; the first token of a text is often unlike all
               others, and `positions.content` leaves it out

    Raises ValueError for no texts, no places, another `per`, and a text of which nothing is chosen.
    """
    if per not in ("token", "position"):
        raise ValueError(f"per {per!r} is unknown; use 'token' or 'position'")
    if not isinstance(texts, Batch) and not isinstance(texts, str) and len(texts) == 0:
        raise ValueError("a mean over no texts: give at least one calibration text")
    batch = to_batch(lm, texts)
    wanted = sorted(set(places), key=lambda at: at.order)
    if not wanted:
        raise ValueError("places is empty; name at least one place whose mean is taken")
    count = int(batch.attention.sum(dim=1).max()) if per == "position" else 1
    totals = {at: torch.zeros(count, width_at(lm, at), dtype=torch.float64) for at in wanted}
    touched = select(lm, batch, positions)
    index = batch.positions[touched] if per == "position" else batch.positions[touched] * 0
    tokens = torch.bincount(index, minlength=count)
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
        return Means({at: share[0] for at, share in shares.items()}, tokens[0])
    return Means(shares, tokens)


@dataclass(frozen=True, eq=False)
class Samples:
    """What other texts hold, one text for each row of a batch.

    values  place -> (N, T, W) of N donors, columns as in the batch
    donors  (B,) which of them each row has
    texts   of the donors
    """

    values: Mapping[Place, Tensor]
    donors: Tensor
    texts: tuple[str, ...]

    def anywhere(self, lm: LM, at: Place) -> Tensor:
        """Raises ValueError: a sample belongs to a text that stands."""
        raise ValueError(
            "samples belong to texts that stand; for texts that are being written use zero or "
            "means(..., per='token')"
        )

    def on(self, lm: LM, at: Place, batch: Batch, rows: Tensor) -> Tensor:
        """Raises ValueError for a place that was not read, and rows that it was not made for."""
        if at not in self.values:
            raise ValueError(f"there is no sample of {at.site!r} at layer {at.layer}")
        values = self.values[at]
        if int(rows.max()) >= len(self.donors) or batch.width > values.shape[1]:
            raise ValueError(
                f"the samples were drawn for {len(self.donors)} rows of {values.shape[1]} tokens; "
                "draw them for these prompts"
            )
        return values[self.donors[rows]][:, values.shape[1] - batch.width :]


def samples(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    donors: Sequence[Prompt],
    places: Iterable[Place],
    *,
    seed: int = 0,
    remote: Remote = False,
) -> Samples:
    """For every prompt another text, drawn at random among the donors, token by token from the end.

    The last token of a donor stands in for that of the prompt, and so on backwards; only donors
    with at least as many tokens, and of another text, are drawn from. Raises ValueError where
    there is none, and for no donors.
    """
    batch = to_batch(lm, prompts)
    if len(donors) == 0:
        raise ValueError("donors is empty; give at least one text to sample from")
    others = encode(lm, donors)
    long = others.attention.sum(dim=1)
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for row, length in enumerate(batch.attention.sum(dim=1).tolist()):
        fit = [
            index
            for index, text in enumerate(others.texts)
            if int(long[index]) >= length and text != batch.texts[row]
        ]
        if not fit:
            raise ValueError(
                f"row {row} has {length} tokens, and no donor of another text has as many (the "
                f"longest has {int(long.max())}): give longer donors"
            )
        chosen.append(fit[int(torch.randint(len(fit), (), generator=generator))])
    used = sorted(set(chosen))
    ended = others.select(used)
    found = capture(lm, ended, places, remote=remote)
    wide = max(0, batch.width - ended.width)
    values = {
        at: torch.nn.functional.pad(each, (0, 0, wide, 0))[:, -batch.width :]
        for at, each in found.items()
    }
    index = torch.tensor([used.index(each) for each in chosen])
    return Samples(values, index, ended.texts)
