"""Which contrast pairs make something, and which are held out to judge it."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.contrast.pairs import Pairs
from workbench.support.checks import number
from workbench.text.dealing import divide, group_by_texts
from workbench.text.splits import require_disjoint, text_hash

_SHARE = 0.2
_FEWEST = 5


@dataclass(frozen=True)
class Division:
    """Indices of the pairs that make something, of those that judge it, and both in words."""

    making: list[int]
    judging: list[int]
    said: str


def hold_out(
    pairs: Pairs, held_out: Pairs | float | None, seed: int, *, made: str = "vector"
) -> Division:
    """Which pairs make what is `made`, and which judge it: no text is on both sides.

    held_out  other pairs that judge; or the share of `pairs` that does, dealt by `seed` (None: 0.2,
              or nothing where there are fewer than 5 pairs)

    Raises ValueError for a share outside 0 <= share < 1, for pairs that cannot be kept apart, and
    for other pairs that share a text with `pairs`.
    """
    everyone = list(range(len(pairs)))
    if isinstance(held_out, Pairs):
        require_disjoint(
            {f"{pairs.name} (pairs)": pairs.texts, f"{held_out.name} (held out)": held_out.texts}
        )
        return Division(everyone, [], f"judged on {len(held_out)} pairs of {held_out.name!r}")
    share = _SHARE if held_out is None else number(held_out)
    if not 0 <= share < 1:
        raise ValueError(
            f"held_out={held_out!r} is not a share of the pairs: give 0 <= share < 1, or other "
            "pairs"
        )
    if share == 0 or (held_out is None and len(pairs) < _FEWEST):
        return Division(everyone, [], f"all {len(pairs)} pairs made the {made}, none judged it")
    groups, kept = group_by_texts([pair.texts for pair in pairs]), "prompt or text"
    if max(map(len, groups)) > (1 - share) * len(pairs):
        # One prompt for all is common (a persona, a fixed question): keep whole texts apart then.
        texts = [[text_hash(text) for text in pair.full] for pair in pairs]
        groups, kept = group_by_texts(texts), "text (though prompts)"
    if len(groups) < 2:
        raise ValueError(
            f"pairs {pairs.name!r} all share a text, so none can be held out; pass held_out=0 or "
            "other pairs"
        )
    making, judging = divide(groups, (1 - share, share), seed)
    said = (
        f"{len(making)} pairs made the {made}, {len(judging)} others judged it, no {kept} in common"
    )
    return Division(making, judging, f"{said} (seed {seed})")
