"""Items dealt out to sets so that no text is in two of them.

Knows only which texts an item holds, by their names, and not what the sets are for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def group_by_texts(texts: Sequence[Iterable[str]]) -> list[list[int]]:
    """Indices of the items joined into groups so that no text is in two groups, in first order."""
    owner: dict[str, int] = {}
    parent = list(range(len(texts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index, own in enumerate(texts):
        for text in own:
            if text in owner:
                a, b = sorted((root(owner[text]), root(index)))
                parent[b] = a
            else:
                owner[text] = index
    groups: dict[int, list[int]] = {}
    for index in range(len(texts)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def divide(groups: Sequence[Sequence[int]], shares: Sequence[float], seed: int) -> list[list[int]]:
    """Deal whole groups out to sets whose sizes come as near to `shares` as the groups allow.

    Each shuffled group goes to the set that lacks most of its share; a set with a share above
    zero receives a group as long as groups last. Indices come back in their original order.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    total = sum(len(group) for group in groups)
    wanted = [share / sum(shares) * total for share in shares]
    dealt: list[list[int]] = [[] for _ in shares]
    # The largest groups first, otherwise a late one may overfill a small set.
    for position in sorted(order, key=lambda i: -len(groups[i])):
        needy = max(
            (i for i, share in enumerate(shares) if share > 0),
            key=lambda i: (wanted[i] - len(dealt[i])) / wanted[i] + (not dealt[i]) * 1e-6,
        )
        dealt[needy].extend(groups[position])
    return [sorted(indices) for indices in dealt]
