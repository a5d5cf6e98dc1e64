"""Labels that say nothing, beside which a probe of the true ones is judged, on arrays.

They differ from the true ones in their place alone: each fold keeps as many texts of each class.
Knows nothing of probes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

# How often an order of groups' labels is looked for that keeps the classes' sizes.
_TRIES = 100


def shuffled(labels: Bools, groups: Ints, fold: Ints, rng: np.random.Generator) -> Bools:
    """Labels dealt anew at random, so that each fold has as many texts of each class as before, and
    so has each group that holds both: among the texts of such a group; a group of one class alone
    keeps one, and exchanges it with other such groups of its fold.

    Where groups of one class are of so many sizes that this hardly ever keeps the classes' sizes,
    only those of one size exchange their labels, and one that no other equals keeps its own.
    """
    found = labels.copy()
    for each in np.unique(fold):
        pure = []
        for group in np.unique(groups[fold == each]):
            here = np.flatnonzero(groups == group)
            found[here] = rng.permutation(labels[here])
            if len(set(labels[here].tolist())) == 1:
                pure.append(here)
        own = np.array([labels[here[0]] for here in pure], dtype=bool)
        dealt = _exchanged(np.array([len(here) for here in pure], dtype=int), own, rng)
        for here, label in zip(pure, dealt, strict=True):
            found[here] = label
    return found


def _exchanged(sizes: Ints, labels: Bools, rng: np.random.Generator) -> Bools:
    """The labels of groups of these sizes in another order, as many texts of each class as before:
    of all such orders one at random, or, where none is met, of those among groups of one size."""
    for _ in range(_TRIES):
        found = rng.permutation(labels)
        if sizes @ found == sizes @ labels:
            return found
    found = labels.copy()
    for size in np.unique(sizes):
        found[sizes == size] = rng.permutation(labels[sizes == size])
    return found


def labelings(labels: Bools, groups: Ints, fold: Ints, shuffles: int, seed: int) -> Iterator[Bools]:
    """The labels, and as many shuffled ones as are asked for."""
    yield labels
    for number in range(shuffles):
        yield shuffled(labels, groups, fold, np.random.default_rng([seed, number]))
