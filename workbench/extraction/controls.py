"""A control of a vector from its own texts: what they push along but for the trait.

Beside `random_like` (workbench.vectors.controls), which knows nothing of texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.contrast.pairs import Pairs
from workbench.extraction.extract import extract
from workbench.support.checks import check_whole
from workbench.text.positions import Positions, generated
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM


def shuffled(
    lm: LM,
    vector: SteeringVector,
    pairs: Pairs,
    seed: int,
    *,
    method: str = "mean_difference",
    positions: Positions = generated,
) -> SteeringVector:
    """A placebo: a vector of the same texts, dealt to the two sides at random (half of each label
    on either), at the same layer.

    vector     what it stands beside
    pairs      those that made it
    seed       of the deal
    method, positions  as they were for the vector

    Few pairs may be dealt so that it still points somewhat along the vector, or against it. Raises
    ValueError for pairs that did not make the vector, another method or positions than the
    vector's, and as
    `extract`.
    """
    check_whole("seed", seed, 0)
    if set(pairs.texts) != set(vector.texts):
        raise ValueError(f"the pairs {pairs.name!r} did not make this vector: give those that did")
    if method != vector.method:
        raise ValueError(f"method {method!r}, but the vector was made by {vector.method!r}")
    read = vector.provenance.get("positions")
    if read != repr(positions):
        raise ValueError(f"positions {positions!r}, but the vector was read at {read}")
    return extract(
        lm,
        pairs,
        method,
        positions=positions,
        held_out=0,  # as many pairs as made the vector itself
        layer=vector.layer,
        shuffle_labels=seed,
        quiet=True,
    )
