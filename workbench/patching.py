"""Adding and patching: what a source prompt holds is put into a target prompt.

    act_add   h + c (a - b) over the first tokens, a and b of one pair of prompts (ActAdd; Turner et
              al. 2023, https://arxiv.org/abs/2308.10248)
    patch     h becomes the source's h at one place and some tokens (activation patching; Meng et
              al. 2022, https://arxiv.org/abs/2202.05262)

Knows nothing of what an effect is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from workbench.captures import capture
from workbench.maps import Replace
from workbench.positions import mask, nth
from workbench.steering import check_layer
from workbench.tokens import Batch, EncodedPrompt, Prompt, encode
from workbench.tracing import Remote
from workbench.updates import Add, Coefficient, Intervention, Origin, Place

if TYPE_CHECKING:
    from workbench.models import LM


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
    what goes into block l, here `layer` l - 1. Positions where both prompts agree from the
    beginning, as at a start token, add nothing and are left out. Raises ValueError for prompts that
    are the same or empty, a layer out of range, a start below 0, and prompts of different length
    where a space is not one token.
    """
    check_layer(lm, layer)
    if isinstance(start, bool) or not isinstance(start, int) or start < 0:
        raise ValueError(f"start {start!r}: give a position of at least 0, 0 for the first token")
    batch = encode(lm, [positive, negative])
    ids = [list(prompt.ids) for prompt in batch.prompts]
    longest = max(map(len, ids))
    if len(ids[0]) != len(ids[1]):
        space = lm.tokenizer.encode(" ", add_special_tokens=False)
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
    one, other = capture(lm, filled, [Place(layer)], remote=remote)[Place(layer)]
    first = next(k for k in range(longest) if ids[0][k] != ids[1][k])
    origin = Origin(lm.name, lm.fingerprint) if lm.in_memory else None
    return [
        Intervention(layer, Add(one[k] - other[k], origin), coefficient, nth(start + k))
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


def patch(
    lm: LM,
    source: Prompt,
    target: Prompt,
    cells: Sequence[tuple[Place, int]],
    *,
    align: Mapping[int, int] | None = None,
    remote: Remote = False,
) -> tuple[Batch, list[Intervention]]:
    """The target prompt once for each cell, a (place, position of the target) that is patched in
    that row with what the source holds there: a batch and its interventions, for one forward.

    align  position of the target -> position of the source, from 0; prompts of one length need none

    Raises ValueError for no cells, a place that the model lacks, prompts of different length
    without `align`, and positions that are out of range or not aligned.
    """
    if len(cells) == 0:
        raise ValueError("cells is empty; name at least one (place, position) to patch")
    both = encode(lm, [source, target])
    giver, taker = both.prompts
    pairs = alignment(giver, taker) if align is None else dict(align)
    for mine, theirs in pairs.items():
        for name, position, prompt in (("target", mine, taker), ("source", theirs, giver)):
            if not 0 <= position < len(prompt.ids):
                raise ValueError(
                    f"position {position} of the {name} is out of range: it has "
                    f"{len(prompt.ids)} tokens, 0 … {len(prompt.ids) - 1}"
                )
    for _, position in cells:
        if position not in pairs:
            raise ValueError(f"position {position!r} of the target has no place in the source")
    held = capture(lm, both.select([0]).trimmed(), {at for at, _ in cells}, remote=remote)
    many = both.select([1] * len(cells)).trimmed()
    found = []
    for at, values in held.items():
        own = [row for row, (place, _) in enumerate(cells) if place == at]
        content = values.new_zeros(*many.ids.shape, values.shape[-1])
        touched = torch.zeros(many.ids.shape, dtype=torch.bool)
        for row in own:
            position = cells[row][1]
            content[row, position] = values[0, pairs[position]]
            touched[row, position] = True
        found.append(Intervention(at.layer, Replace(content), 1.0, mask(touched), at.site))
    return many, found
