"""What stands in for a part that is ablated: what it adds to other texts, drawn at random.

Like a mean it keeps later blocks near what they are used to, but it is a stream that does occur
(resample ablation, Chan et al. 2022, "Causal scrubbing"). Knows nothing of what is ablated.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from workbench.forward.captures import capture
from workbench.forward.steering import check_made_on
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Origin, Place
from workbench.support.checks import check_whole
from workbench.text.tokens import Batch, Prompt, encode, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True, eq=False)
class Samples:
    """What other texts hold, one text for each row of a batch: at each position what its donor
    holds at the same position.

    values   place -> (N, P, W) of N donors at the first P positions
    donors   (B,) which of them each row has
    texts    of the donors
    prompts  the batch that they were drawn for
    seed     with which, and which `draw` of it
    origin   the model that they were taken from; None: used on every one
    """

    values: Mapping[Place, Tensor]
    donors: Tensor
    texts: tuple[str, ...]
    prompts: Batch
    seed: int
    draw: int
    origin: Origin | None = None

    @property
    def spares_first(self) -> bool:
        return False

    @property
    def about(self) -> Mapping[str, Any]:
        """With `donors`, how many texts stand in for the `prompts`: as many, unless some do for
        several."""
        found = {"filling": "samples", "texts": len(self.texts), "prompts": len(self.donors)}
        donors = len(self.donors.unique())
        return {**found, "donors": donors, "seed": self.seed, "draw": self.draw}

    def check(self, lm: LM, at: Place, batch: Batch | None, rows: Tensor | None = None) -> None:
        """Raises ValueError for another model than they were taken from, for texts that are still
        being written, for a place that was not read, and for other prompts than it was drawn
        for."""
        check_made_on(lm, self.origin)
        if batch is None:
            raise ValueError(
                "samples belong to texts that stand; for texts that are being written use zero or "
                "means(..., per='token')"
            )
        if at not in self.values:
            raise ValueError(f"there is no sample of {at.site!r} at layer {at.layer}")
        own = torch.arange(len(batch)) if rows is None else rows
        count = len(self.donors)
        if int(own.max()) >= count:
            raise ValueError(
                f"the samples were drawn for {count} prompts, not for {int(own.max()) + 1}; draw "
                "them for these prompts"
            )
        width = max(batch.width, self.prompts.width)
        here, there = _ids(batch, width), _ids(self.prompts, width)[own]
        other = (here != there).any(dim=1).nonzero()
        if len(other):
            row = int(other[0])
            raise ValueError(
                f"the samples were drawn for {self.prompts.texts[int(own[row])]!r} where the "
                f"prompt is {batch.texts[row]!r}; draw them for these prompts"
            )

    def on(
        self, lm: LM, at: Place, batch: Batch | None = None, rows: Tensor | None = None
    ) -> Tensor:
        self.check(lm, at, batch, rows)
        assert batch is not None
        donors = self.donors if rows is None else self.donors[rows]
        return self.values[at][donors[:, None], batch.positions]


def samples(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    donors: Sequence[Prompt],
    places: Iterable[Place],
    *,
    seed: int = 0,
    remote: Remote = False,
) -> Samples:
    """For every prompt another text, drawn at random among the donors: the first of several
    `draws`, to which it is alike in all else. One draw says little of a part: what differs from
    draw to draw is the donor's."""
    return draws(lm, prompts, donors, places, 1, seed=seed, remote=remote)[0]


def draws(
    lm: LM,
    prompts: Sequence[Prompt] | Batch,
    donors: Sequence[Prompt],
    places: Iterable[Place],
    count: int,
    *,
    seed: int = 0,
    remote: Remote = False,
) -> list[Samples]:
    """Several times, for every prompt another text, drawn among the donors: a prompt has another
    donor in each draw, and one donor at all places of a draw. All the effects take a list of them
    (`by=`), and `over_draws` gives the interval.

    What is matched is the position, counted from the first token: a donor's first token, of which
    models make something of its own (an attention sink), stands in for the prompt's. The distance
    to the end and the template are matched where donors are of the prompt's length and template, as
    in Wang et al. 2022; only donors with at least as many tokens are drawn. Of these nothing but
    the first tokens is seen, as many as the prompt has: a donor that begins with the prompt would
    be the prompt itself, and is not drawn for it; donors that begin alike count as one.

    In one draw no two prompts have the same donor, as far as there are enough: a warning says where
    some have, and `Samples.about` how many donors there are.

    Raises ValueError where a prompt has fewer donors than draws, for no donors, for a count that
    is not a whole number of at least 1, and a seed that is none of at least 0.
    """
    batch, most = to_batch(lm, prompts), check_whole("count", count, 1)
    if len(donors) == 0:
        raise ValueError("donors is empty; give at least one text to sample from")
    others = _different(encode(lm, donors))
    long = others.attention.sum(dim=1)
    generator = torch.Generator().manual_seed(check_whole("seed", seed, 0))
    begins = _beginnings(batch, others)
    for row, known in enumerate(begins.tolist()):
        fit = len({each for each in known if each >= 0})
        if fit < most:
            raise ValueError(
                f"row {row} has {int(batch.attention[row].sum())} tokens, and {fit} donors of "
                f"another text have as many (the longest has {int(long.max())}; donors that begin "
                f"with the prompt are no others, and those that begin alike are one): give {most} "
                "that are as long"
            )
    chosen = _dealt(begins, most, generator)
    counts = [own.unique(return_counts=True)[1] for own in chosen]
    shared = [int(each[each > 1].sum()) for each in counts]
    if any(shared):
        warnings.warn(
            f"of {len(batch)} prompts up to {max(shared)} have a donor in a draw that another has "
            f"too, of {len(others)} different ones: give more that are as long as the prompts",
            stacklevel=2,
        )
    used, index = chosen.unique(return_inverse=True)
    ended = others.select(used)
    span = int(batch.positions.max()) + 1
    # The columns of a donor's first tokens; of one that is too short for others' prompts, any.
    columns = (ended.width - long[used])[:, None] + torch.arange(span)
    columns = columns.clamp_max(ended.width - 1)
    every = torch.arange(len(used))[:, None]
    found = capture(lm, ended, places, remote=remote)
    values = {at: each[every, columns] for at, each in found.values.items()}
    return [
        Samples(values, own, ended.texts, batch, seed, k, found.origin)
        for k, own in enumerate(index)
    ]


def _different(batch: Batch) -> Batch:
    """The rows without those that another one before is, token by token."""
    first = {ids: row for row, ids in reversed(list(enumerate(_tokens(batch))))}
    return batch.select(sorted(first.values()))


def _tokens(batch: Batch) -> list[tuple[int, ...]]:
    both = zip(batch.ids, batch.attention, strict=True)
    return [tuple(ids[own].tolist()) for ids, own in both]


def _beginnings(batch: Batch, others: Batch) -> Tensor:
    """(B, N) for each prompt the number of each donor's beginning, as many tokens as the prompt
    has: the first donor that begins alike. -1 where it begins with the prompt or is shorter."""
    rows, long = _tokens(batch), _tokens(others)
    found = torch.full((len(rows), len(long)), -1)
    for row, own in enumerate(rows):
        first = {own: -1}
        for donor, ids in enumerate(long):
            if len(ids) >= len(own):
                found[row, donor] = first.setdefault(ids[: len(own)], donor)
    return found


def _dealt(begins: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count, B) the donor of each prompt in each draw: of random ones those that no other prompt
    of the draw has, as far as there are any; never one that begins as an earlier draw's."""
    free = begins >= 0  # (B, N)
    chosen = torch.empty(count, len(begins), dtype=torch.long)
    for own in chosen:
        cost = torch.rand(free.shape, generator=generator, dtype=torch.float64)
        cost = cost.masked_fill(~free, len(begins) + 1)  # more than all others together
        left = torch.arange(len(begins))
        while len(left):
            row, donor = map(torch.from_numpy, linear_sum_assignment(cost[left].numpy()))
            fits = free[left[row], donor]
            own[left[row[fits]]] = donor[fits]
            done = torch.zeros(len(left), dtype=torch.bool)
            done[row[fits]] = True
            left = left[~done]
        taken = begins.gather(1, own[:, None])
        free = free & (begins != taken)
    return chosen


def _ids(batch: Batch, width: int) -> Tensor:
    """The ids of real tokens (B, width), -1 elsewhere, filled up on the left."""
    ids = torch.where(batch.attention, batch.ids, -1)
    return torch.nn.functional.pad(ids, (width - batch.width, 0), value=-1)
