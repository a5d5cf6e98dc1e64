"""Bad input, before work starts: pairs that the model cannot read, and sides that are swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workbench import judges
from workbench.contrast.pairs import Pairs
from workbench.statistics.intervals import wilson
from workbench.text.splits import as_text
from workbench.text.tokens import Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM


def usable(lm: LM, pairs: Pairs, limit: int | None, bad: str) -> tuple[Pairs, list[str]]:
    """The pairs that the model can read, and what was left out.

    limit  the most tokens of prompt and answer, None for the model's context
    bad    "refuse" or "skip" the others

    Raises ValueError for pairs that are too long or have an answer without tokens, naming the
    first and how many there are.
    """
    wrong: dict[int, str] = {}
    for index, pair in enumerate(pairs):
        try:
            batch = encode(lm, pair.prompts, [pair.positive, pair.negative])
        except ValueError as error:
            wrong[index] = f"pair {index}: {error}"
            continue
        longest = int(batch.attention.sum(dim=1).max())
        empty = (~batch.completion.any(dim=1)).nonzero()
        if limit is not None and longest > limit:
            wrong[index] = f"pair {index}: {longest} tokens, over the output_length {limit}"
        elif len(empty):
            side = (pair.positive, pair.negative)[int(empty[0])]
            wrong[index] = f"pair {index}: the tokenizer makes no token of its answer {side!r}"
    if not wrong:
        return pairs, []
    first = next(iter(wrong.values()))
    if bad == "refuse" or len(wrong) == len(pairs):
        raise ValueError(
            f"{len(wrong)} of {len(pairs)} pairs of {pairs.name!r} cannot be read by {lm.name!r}: "
            f"{first}. Mend them, or leave them out (--bad-pairs skip)"
        )
    kept = tuple(pair for index, pair in enumerate(pairs) if index not in wrong)
    said = f"{len(wrong)} of {len(pairs)} pairs of {pairs.name!r} are left out: {first}"
    return replace(pairs, pairs=kept), [said]


def readable(
    lm: LM, prompts: Sequence[Prompt], new_tokens: int, bad: str
) -> tuple[list[int], list[str]]:
    """The numbers of the prompts that fit the model's context with what is to be written, and what
    was left out. Raises ValueError as `usable`."""
    wrong: dict[int, str] = {}
    for index, prompt in enumerate(prompts):
        try:
            encode(lm, [prompt], new_tokens=new_tokens)
        except ValueError as error:
            wrong[index] = f"prompt {index}: {error}"
    if not wrong:
        return list(range(len(prompts))), []
    first = next(iter(wrong.values()))
    if bad == "refuse" or len(wrong) == len(prompts):
        raise ValueError(
            f"{len(wrong)} of {len(prompts)} prompts cannot be continued by {lm.name!r}: {first}. "
            "Mend them, lower max_new_tokens, or leave them out (--bad-pairs skip)"
        )
    said = f"{len(wrong)} of {len(prompts)} prompts are left out: {first}"
    return [index for index in range(len(prompts)) if index not in wrong], [said]


def swapped(pairs: Pairs, trait: str) -> str | None:
    """In words, how many pairs of wren's language show the trait on their negative side; None
    where none does. The exact judge tells it, without a model.

    Raises ValueError for a trait that the language does not have.
    """
    sides = []
    for side in ("positive", "negative"):
        texts = [getattr(pair, side) for pair in pairs]
        prompts = [as_text(pair.prompt) for pair in pairs]
        found = judges.score(texts, prompts, trait, by=judges.exact, finish="end")
        sides.append(found["trait"].to_numpy(dtype=float))
    gap = sides[0] - sides[1]
    count, known = int((gap < 0).sum()), int(np.isfinite(gap).sum())
    if not count:
        return None
    if wilson(count, known).low > 0.5:
        return (
            f"positive and negative look swapped: of {known} pairs that the exact judge can tell, "
            f"{count} show {trait!r} more on their negative side; exchange the columns"
        )
    return (
        f"{count} of {known} pairs show {trait!r} more on their negative side, such as pair "
        f"{int(np.flatnonzero(gap < 0)[0])}: they look swapped"
    )
