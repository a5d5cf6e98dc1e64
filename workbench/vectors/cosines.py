"""How alike steering vectors are: cosines between them, beside what chance gives.

The cosine of a fixed direction with one drawn evenly from all directions of D dimensions has mean
0 and standard deviation 1 / sqrt(D). Such a direction is a normal vector z over its length, so the
square of the cosine is z_1^2 / (z_1^2 + ... + z_D^2), a Beta(1/2, (D - 1)/2) variable. That is the
null hypothesis here, a lenient one: streams of a trained model fill some directions more than
others, so two vectors made from its activations may be alike beyond it without sharing a meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from workbench.statistics.similarity import similarity
from workbench.vectors.steering_vector import SteeringVector


def cosine_by_chance(width: int, level: float = 0.95) -> float:
    """The cosine within whose size that share `level` of random directions of a width lie: ±.

    1 for a width of 1, where every cosine is 1 or -1. Raises ValueError for a width below 1 or a
    level that is not between 0 and 1.
    """
    if width < 1:
        raise ValueError(f"width {width!r}: a direction has one dimension at least")
    if not 0 < level < 1:
        raise ValueError(f"level {level!r} is not between 0 and 1")
    return 1.0 if width == 1 else float(stats.beta.ppf(level, 0.5, (width - 1) / 2) ** 0.5)


def cosines(vectors: Mapping[str, SteeringVector], layer: int | None = None) -> pd.DataFrame:
    """Cosines between named vectors at one layer (default: the one that is the default of all).

    One row per ordered pair, itself included: `first`, `second` (names), `layer`, `cosine`,
    `chance` (95 % of random directions lie within ± that, `cosine_by_chance`) and `p`, the share of
    random directions that are alike or opposite at least as much. Of many pairs one in twenty is
    beyond `chance` by chance.

    Raises ValueError for no vectors, other widths, other weights, a layer without a direction,
    default layers that differ, and a direction of length 0.
    """
    if len(vectors) == 0:
        raise ValueError("vectors is empty; name at least one vector: {'mood': vector}")
    _check_alike(list(vectors.values()))
    layers = {name: vector.layer for name, vector in vectors.items()}
    if layer is None and len(set(layers.values())) > 1:
        raise ValueError(f"the vectors have different default layers, {layers}; give layer=")
    chosen = next(iter(layers.values())) if layer is None else layer
    directions = _stacked(vectors.items(), chosen)
    table = _table(directions, directions)
    frame = _frame(list(vectors), list(vectors), table, directions.shape[1])
    frame.insert(2, "layer", chosen)
    return frame


def cosines_across_layers(
    vector: SteeringVector,
    other: SteeringVector | None = None,
    layers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Cosines of a vector's directions at all layers with those of another (default: its own).

    layers  that are compared (default: all that both have)

    One row per ordered pair of layers: `first` and `second`, the layer of `vector` and of `other`,
    then as `cosines`. Raises ValueError for no layers, and as `cosines`.
    """
    second = vector if other is None else other
    _check_alike([vector, second])
    chosen = [each for each in vector.layers if each in second.layers]
    chosen = chosen if layers is None else list(layers)
    if not chosen:
        why = "is empty" if layers is not None else "would be empty: the vectors share none"
        raise ValueError(f"layers {why}; name some of {vector.layers} and {second.layers}")
    rows, columns = (
        torch.cat([_stacked([(name, each)], layer) for layer in chosen])
        for name, each in (("vector", vector), ("other", second))
    )
    return _frame(chosen, chosen, _table(rows, columns), vector.width)


def _check_alike(vectors: Sequence[SteeringVector]) -> None:
    # Each with each: weights that one vector does not know may differ between two others.
    for index, vector in enumerate(vectors):
        for other in vectors[:index]:
            vector.check_same_stream(other)


def _stacked(vectors: Iterable[tuple[str, SteeringVector]], layer: int) -> Tensor:
    """Their directions at a layer, (n, D)."""
    found = []
    for name, vector in vectors:
        if layer not in vector.directions:
            raise ValueError(
                f"{name!r} has no direction at layer {layer!r}; it has {vector.layers}"
            )
        if not vector.directions[layer].any():
            raise ValueError(f"the direction of {name!r} at layer {layer} has length 0")
        found.append(vector.directions[layer])
    return torch.stack(found)


def _table(rows: Tensor, columns: Tensor) -> Tensor:
    """(n, m) float64 cosines of rows (n, D) with columns (m, D); rounding may not pass 1."""
    table = torch.stack([similarity("cosine", rows, each) for each in columns], dim=1)
    return table.clamp(-1, 1)


def _frame(
    first: Sequence[str | int], second: Sequence[str | int], table: Tensor, width: int
) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "first": [one for one in first for _ in second],
            "second": [*second] * len(first),
            "cosine": table.flatten().numpy(),
            "chance": cosine_by_chance(width),
        }
    )
    frame["p"] = (
        1.0 if width == 1 else stats.beta.sf(frame["cosine"].to_numpy() ** 2, 0.5, (width - 1) / 2)
    )
    return frame
