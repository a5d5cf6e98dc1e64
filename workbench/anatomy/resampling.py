"""What stands in for a part that is ablated: what it adds to other texts, drawn at random.

Like a mean it keeps later blocks near what they are used to, but it is a stream that does occur
(resample ablation, Chan et al. 2022, "Causal scrubbing"). Knows nothing of what is ablated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.forward.captures import capture
from workbench.forward.tracing import Remote
from workbench.interventions.updates import Place
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
    """

    values: Mapping[Place, Tensor]
    donors: Tensor
    texts: tuple[str, ...]
    prompts: Batch
    seed: int
    draw: int

    @property
    def spares_first(self) -> bool:
        return False

    @property
    def about(self) -> Mapping[str, Any]:
        found = {"filling": "samples", "texts": len(self.texts)}
        return {**found, "seed": self.seed, "draw": self.draw}

    def check(self, lm: LM, at: Place, batch: Batch | None, rows: Tensor | None = None) -> None:
        """Raises ValueError for texts that are still being written, for a place that was not read,
        and for other prompts than it was drawn for."""
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
    in Wang et al. 2022; only donors with at least as many tokens, and of another text, are drawn.

    Raises ValueError where there are fewer of them than draws, for no donors, for a count that is
    not a whole number of at least 1, and a seed that is none of at least 0.
    """
    batch, most = to_batch(lm, prompts), check_whole("count", count, 1)
    if len(donors) == 0:
        raise ValueError("donors is empty; give at least one text to sample from")
    others = encode(lm, donors)
    long = others.attention.sum(dim=1)
    generator = torch.Generator().manual_seed(check_whole("seed", seed, 0))
    chosen = torch.empty(most, len(batch), dtype=torch.long)
    for row, length in enumerate(batch.attention.sum(dim=1).tolist()):
        fit = [
            index
            for index, text in enumerate(others.texts)
            if int(long[index]) >= length and text != batch.texts[row]
        ]
        if len(fit) < most:
            raise ValueError(
                f"row {row} has {length} tokens, and {len(fit)} donors of another text have as "
                f"many (the longest has {int(long.max())}): give {most} that are as long"
            )
        order = torch.randperm(len(fit), generator=generator)[:most]
        chosen[:, row] = torch.tensor(fit)[order]
    used, index = chosen.unique(return_inverse=True)
    ended = others.select(used)
    span = int(batch.positions.max()) + 1
    # The columns of a donor's first tokens; of one that is too short for others' prompts, any.
    columns = (ended.width - long[used])[:, None] + torch.arange(span)
    columns = columns.clamp_max(ended.width - 1)
    every = torch.arange(len(used))[:, None]
    found = capture(lm, ended, places, remote=remote)
    values = {at: each[every, columns] for at, each in found.items()}
    return [Samples(values, own, ended.texts, batch, seed, k) for k, own in enumerate(index)]


def _ids(batch: Batch, width: int) -> Tensor:
    """The ids of real tokens (B, width), -1 elsewhere, filled up on the left."""
    ids = torch.where(batch.attention, batch.ids, -1)
    return torch.nn.functional.pad(ids, (width - batch.width, 0), value=-1)
