"""Adding and patching: what a source prompt holds is put into a target prompt.

    act_add   h + c (a - b) over the first tokens, a and b of one pair of prompts (ActAdd; Turner et
              al. 2023, https://arxiv.org/abs/2308.10248)
    patch     h becomes the source's h at one place and some tokens (activation patching; Meng et
              al. 2022, https://arxiv.org/abs/2202.05262)

Knows nothing of what an effect is: see patching_effects.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from workbench.anatomy.ablation import Component
from workbench.forward.captures import capture
from workbench.forward.steering import check_place
from workbench.forward.tracing import Remote
from workbench.interventions.maps import Replace
from workbench.interventions.updates import Add, Coefficient, Intervention, Origin, Place
from workbench.support.checks import check_whole
from workbench.text.positions import mask, nth
from workbench.text.tokens import Batch, EncodedPrompt, Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM


def act_add(
    lm: LM,
    positive: str,
    negative: str,
    *,
    layer: int,
    coefficient: Coefficient = 1.0,
    start: int = 0,
    remote: Remote = False,
) -> list[Intervention]:
    """What the stream after block `layer` holds for one prompt less what it holds for the other,
    token by token, added to the first tokens of whatever is read, from position `start` on.

    The shorter prompt is filled up on the right with spaces, as the paper does; its layer l reads
    what goes into block l, here `layer` l - 1: its layer 0 is -1, the stream before the first
    block. Positions where both prompts agree from the beginning, as at a start token, add nothing
    and are left out. Raises ValueError for prompts that are the same or empty, a layer out of
    range, a start below 0, and prompts of different length where a space is not one token.
    """
    at = check_place(lm, layer)
    begin = check_whole("start", start, 0)
    batch = encode(lm, [positive, negative])
    ids = [list(prompt.ids) for prompt in batch.prompts]
    longest = max(map(len, ids))
    if len(ids[0]) != len(ids[1]):
        # As it follows a text: alone, SentencePiece would put another one before it.
        after = encode(lm, [positive], [" "])
        space = after.ids[after.completion].tolist()
        if len(space) != 1:
            raise ValueError(
                f"{positive!r} and {negative!r} have {len(ids[0])} and {len(ids[1])} tokens, and a "
                f"space is {len(space)} tokens here: give prompts of one length"
            )
        ids = [each + space * (longest - len(each)) for each in ids]
    if ids[0] == ids[1]:
        raise ValueError(f"both prompts are {positive!r} to the model: give two that differ")
    filled = Batch(
        ids=torch.tensor(ids),
        attention=torch.ones(2, longest, dtype=torch.bool),
        starts=torch.full((2,), longest),
        prompts=batch.prompts,
        texts=batch.texts,
        special_ids=batch.special_ids,
    )
    held = capture(lm, filled, [at], remote=remote)
    one, other = held[at]
    first = next(k for k in range(longest) if ids[0][k] != ids[1][k])
    return [
        Intervention(layer, Add(one[k] - other[k], held.origin), coefficient, nth(begin + k))
        for k in range(first, longest)
    ]


def alignment(source: EncodedPrompt, target: EncodedPrompt) -> dict[int, int]:
    """Position of the target -> that of the source, of prompts of one length: each its own.

    Raises ValueError for prompts of different length.
    """
    if len(source.ids) != len(target.ids):
        raise ValueError(
            f"the source has {len(source.ids)} tokens ({source.text!r}), the target "
            f"{len(target.ids)} ({target.text!r}): say which position takes which, "
            "align={target position: source position}"
        )
    return {position: position for position in range(len(target.ids))}


class Cell(NamedTuple):
    """What is patched: a place at a position of the target, 0 its first token; of the site "heads"
    one head (0-based), or all."""

    at: Place
    position: int
    head: int | None = None


@dataclass(frozen=True, eq=False)
class Transplant:
    """What a source prompt holds at some places, to be put into a target prompt.

    target  the target alone, a batch of one row
    pairs   position of the target -> that of the source
    held    place -> (T, W) of the source's T tokens
    origin  the model that they were taken from; None: put into every one
    """

    lm: LM
    target: Batch
    pairs: Mapping[int, int]
    held: Mapping[Place, Tensor]
    origin: Origin | None = None

    def rows(self, cells: Sequence[Cell]) -> tuple[Batch, list[Intervention]]:
        """The target once for each cell, patched there: a batch and its interventions."""
        many = self.target.select([0] * len(cells))
        found = []
        for at, values in self.held.items():
            own = [row for row, cell in enumerate(cells) if cell.at == at]
            if not own:
                continue
            content = values.new_zeros(*many.ids.shape, values.shape[-1])
            touched = torch.zeros(many.ids.shape, dtype=torch.bool)
            share = None
            if any(cells[row].head is not None for row in own):
                share = values.new_ones(len(cells), values.shape[-1])
            for row in own:
                _, position, head = cells[row]
                content[row, position] = values[self.pairs[position]]
                touched[row, position] = True
                if share is not None and head is not None:
                    share[row] = Component(at.layer, "head", head).share(self.lm, at)
            update = Replace(content, share, self.origin)
            found.append(Intervention(at.layer, update, 1.0, mask(touched), at.site))
        return many, found


def transplant(
    lm: LM,
    source: Prompt,
    target: Prompt,
    cells: Sequence[Cell],
    *,
    align: Mapping[int, int] | None = None,
    remote: Remote = False,
) -> Transplant:
    """What the cells need of the source, read in one pass for each site. Errors as `patch`."""
    if len(cells) == 0:
        raise ValueError("cells is empty; name at least one (place, position) to patch")
    both = encode(lm, [source, target])
    giver, taker = both.prompts
    pairs = alignment(giver, taker) if align is None else _aligned(align, giver, taker)
    for at, position, head in cells:
        if check_whole("position", position, 0) not in pairs:
            raise ValueError(f"position {position!r} of the target has no place in the source")
        if head is not None:
            if at.site != "heads":
                raise ValueError(f"head {head!r} at the site {at.site!r}: only 'heads' has heads")
            Component(at.layer, "head", head).check(lm)
    found = capture(lm, both.select([0]).trimmed(), {cell.at for cell in cells}, remote=remote)
    held = {at: values[0] for at, values in found.values.items()}
    return Transplant(lm, both.select([1]).trimmed(), pairs, held, found.origin)


def patch(
    lm: LM,
    source: Prompt,
    target: Prompt,
    cells: Sequence[Cell | tuple[Place, int]],
    *,
    align: Mapping[int, int] | None = None,
    remote: Remote = False,
) -> tuple[Batch, list[Intervention]]:
    """The target prompt once for each cell, a (place, position of the target) or one head of it
    (`Cell`), that is patched in that row with what the source holds there: a batch and its
    interventions, for one forward.

    align  position of the target -> position of the source, from 0; prompts of one length need none

    Raises ValueError for no cells, a place or a head that the model lacks, prompts of different
    length without `align`, and positions that are out of range or not aligned.
    """
    whole = [each if isinstance(each, Cell) else Cell(each[0], each[1]) for each in cells]
    return transplant(lm, source, target, whole, align=align, remote=remote).rows(whole)


def _aligned(
    align: Mapping[int, int], source: EncodedPrompt, target: EncodedPrompt
) -> dict[int, int]:
    """The same in plain numbers. Raises ValueError for positions that a prompt lacks."""
    found = []
    for pair in align.items():
        for name, position, prompt in zip(
            ("target", "source"), pair, (target, source), strict=True
        ):
            whole = check_whole(f"position of the {name}", position, 0)
            if whole >= len(prompt.ids):
                raise ValueError(
                    f"position {whole} of the {name} is out of range: it has {len(prompt.ids)} "
                    f"tokens, 0 … {len(prompt.ids) - 1}"
                )
            found.append(whole)
    return dict(zip(found[::2], found[1::2], strict=True))
