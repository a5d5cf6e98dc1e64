"""Streams of ordinary and of steered text seen along a few directions: the points of a picture.

Axes: the first two principal components of ordinary text ("first", "second"); the target direction
("target"), and at right angles to it the two of the greatest variance ("across", "next"). A picture
along principal components alone hides what steering does where the target lies across them; one
along the target alone makes any push look large: so both are shown, each axis with the share of
ordinary text's variance that lies along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from workbench.contrast.pairs import Pairs
from workbench.forward.reference import chosen_tokens, read_tokens
from workbench.forward.streaming import as_stream
from workbench.geometry.downstream import Seen, steered_streams
from workbench.geometry.manifolds import Manifolds
from workbench.statistics.intervals import Floats
from workbench.text.tokens import Prompt, encode
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

AXES = ("first", "second", "target", "across", "next")


def axes(vector: SteeringVector, manifolds: Manifolds) -> tuple[Floats, dict[str, float]]:
    """Unit directions as rows (5, D), in the order of `AXES`, at the vector's layer, and the share
    of ordinary text's variance along each."""
    spectrum = manifolds.spectra[vector.layer]
    whole = vector.directions[vector.layer].double().numpy()
    target = whole / np.linalg.norm(whole)
    covariance = spectrum.directions.T * spectrum.variances @ spectrum.directions
    apart = np.eye(len(target)) - np.outer(target, target)
    across = np.linalg.eigh(apart @ covariance @ apart)[1][:, [-1, -2]].T
    rows = np.vstack([spectrum.directions[:2], target, across])
    total = spectrum.variances.sum()
    shares = np.einsum("ad,de,ae->a", rows, covariance, rows) / total
    return rows, dict(zip(AXES, shares.tolist(), strict=True))


def projected(
    lm: LM,
    vector: SteeringVector,
    manifolds: Manifolds,
    ordinary: Sequence[Prompt],
    pairs: Pairs,
    coefficients: ArrayLike,
    *,
    points: int = 400,
    trails: int = 24,
    seed: int = 0,
) -> pd.DataFrame:
    """Points at the vector's layer, streams at the length that the manifolds look at them.

    ordinary      texts whose tokens are the cloud
    pairs         whose answers are "positive" and "negative", a point each, the mean of its tokens
    coefficients  in residual norms, of the trails
    points        of the cloud; `trails`, how many tokens of it are followed under steering

    Columns `group` ("ordinary", "positive", "negative", "steered", "mean": of all that are steered,
    "target": the ends of the target direction, two standard deviations of ordinary text from its
    mean), `point`, `coefficient_norm`, and each of `AXES`, from the mean of ordinary text.
    """
    layer = vector.layer
    rows, shares = axes(vector, manifolds)
    mean = manifolds.spectra[layer].mean
    unit = manifolds.at(layer).unit
    rng = np.random.default_rng(seed)

    def seen(values: torch.Tensor) -> Floats:
        return (as_stream(values.double(), unit).numpy() - mean) @ rows.T

    def frame(group: str, values: Floats, points: ArrayLike, sizes: ArrayLike) -> pd.DataFrame:
        about = {"group": group, "point": points, "coefficient_norm": sizes}
        table = pd.DataFrame(values, columns=list(AXES))
        return table.assign(**about)  # type: ignore[arg-type]

    def read(texts: Sequence[Prompt]) -> tuple[Floats, np.ndarray]:
        found = list(
            read_tokens(lm, texts, [layer], manifolds.positions, manifolds.skip, progress=False)
        )
        values = np.concatenate([seen(each.values[:, 0]) for each in found])
        return values, np.concatenate([each.documents for each in found])

    cloud, _ = read(ordinary)
    chosen = rng.choice(len(cloud), min(points, len(cloud)), replace=False)
    parts = [frame("ordinary", cloud[chosen], chosen, 0.0)]
    for index, group in enumerate(("positive", "negative")):
        values, document = read([pair.full[index] for pair in pairs])
        means = pd.DataFrame(values).groupby(document).mean()
        parts.append(frame(group, means.to_numpy(), means.index, 0.0))
    grid = np.asarray(coefficients, dtype=float)
    batch = encode(lm, list(ordinary[:4]))
    touched = chosen_tokens(lm, batch, manifolds.positions, manifolds.skip)
    every = torch.arange(len(batch)).repeat_interleave(len(grid))
    cells = every, torch.from_numpy(grid).repeat(len(batch))
    steered = pd.concat(
        frame("steered", seen(part.after[:, 0]), _names(part), part.coefficients.numpy())
        for part in steered_streams(lm, batch, vector.at, *cells, [layer], touched)
    )
    means = steered.groupby("coefficient_norm")[list(AXES)].mean()
    parts.append(frame("mean", means.to_numpy(), 0, means.index))
    followed = rng.choice(steered["point"].unique(), trails, replace=False)
    parts.append(steered[steered["point"].isin(followed)])
    # Two standard deviations of ordinary text along the target, to either side.
    spread = 2 * float(np.sqrt(shares["target"] * manifolds.spectra[layer].variances.sum()))
    ends = np.outer([-spread, spread], rows[AXES.index("target")]) @ rows.T
    parts.append(frame("target", ends, [0, 1], 0.0))
    return pd.concat(parts, ignore_index=True)


def _names(part: Seen) -> np.ndarray:
    """(n,) a number for each token of each text."""
    return (part.rows * 100_000 + part.positions).numpy()
