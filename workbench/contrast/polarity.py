"""Whether the sides of contrast pairs are the right way round.

No text says which of two answers shows a trait, but pairs can contradict each other, and a steered
model can answer some of them the other way round than the rest. Knows nothing of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from workbench.contrast.pairs import Pairs
from workbench.statistics.intervals import wilson
from workbench.text.splits import text_hash


def contradictions(pairs: Pairs) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of which one's positive answer is the other's negative one after the
    same prompt: one of the two is the wrong way round. Texts are compared blind to outer spaces."""
    positives: dict[tuple[str, str], list[int]] = {}
    for index, pair in enumerate(pairs):
        key = text_hash(pair.prompts[0]), text_hash(pair.positive)
        positives.setdefault(key, []).append(index)
    found = {
        (min(index, other), max(index, other))
        for index, pair in enumerate(pairs)
        for other in positives.get((text_hash(pair.prompts[1]), text_hash(pair.negative)), ())
    }
    return sorted(found)


def require_consistent(pairs: Pairs) -> None:
    """Raise ValueError for a pair with the same text on both sides (but for outer spaces), and for
    two that contradict each other (see `contradictions`)."""
    found = contradictions(pairs)
    if not found:
        return
    one, other = found[0]
    text = pairs[one].positive[:60]
    if one == other:
        raise ValueError(
            f"pair {one} of {pairs.name!r} has the same answer on both sides, {text!r}: it says "
            "nothing about the trait; leave it out"
        )
    more = f" ({len(found)} such contradictions)" if len(found) > 1 else ""
    raise ValueError(
        f"pairs {one} and {other} of {pairs.name!r} contradict each other: {text!r} is the "
        "positive answer of the first and the negative one of the second, after the same prompt"
        f"{more}; one of them is the wrong way round: exchange its sides, or leave it out"
    )


def against_said(away: ArrayLike) -> str | None:
    """In words, how many pairs answer the other way round; None where none does.

    away  (n,) by how much the preference of each pair for its positive answer falls as the
          coefficient rises, nats
    """
    falls = np.asarray(away, dtype=float)
    count = int((falls > 0).sum())
    share = wilson(count, len(falls))
    if share.low > 0.5:
        return (
            f"{share.value:.0%} of the pairs [{share.low:.0%}, {share.high:.0%}] prefer the "
            "negative answer the more, the larger m is: positive and negative look swapped, in the "
            "pairs or in what is steered; exchange them, or steer by the negative"
        )
    if count:
        return f"{count} of {len(falls)} pairs answer the other way round, such as pair " + str(
            int(np.nanargmax(falls))
        )
    return None
