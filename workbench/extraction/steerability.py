"""At which layer a vector steers, told by how it moves the odds of held-out completions.

For a pair with completions x+ and x- of one prompt, steered at layer l with coefficient c,

    odds(l, c) = log P(x+) - log P(x-)        slope(l) = (odds(l, c) - odds(l, -c)) / 2 c

in nats per residual norm. Text is only read, never written, so this needs no judge and little time
(preference log-odds as in arXiv 2602.02343). Separation asks whether a direction *sees* the trait;
this asks whether the model *acts* on it. `steering_vector` makes a vector and asks both.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.contrast.pairs import Pairs, Splits
from workbench.extraction import layer_scores
from workbench.extraction.extract import extract
from workbench.preference.multiples import multiples
from workbench.statistics.intervals import bootstrap_mean, wilson
from workbench.text.positions import Positions, generated
from workbench.text.splits import require_disjoint
from workbench.text.tokens import encode
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM


def steering_vector(
    lm: LM,
    splits: Splits,
    method: str = "mean_difference",
    *,
    positions: Positions = generated,
    quiet: bool = False,
) -> SteeringVector:
    """A vector made from one part of the pairs, which steers where another part answers most.

    splits     of `Pairs.split`: `extract` makes the vector, `select` chooses its layer, `report`
               is not looked at
    method     how directions are found, see `extract`
    positions  the tokens whose mean is read: by default those of the completion
    quiet      do not print which layer was chosen and why

    Separation on `select` is in `.separation`. Raises ValueError as `extract` and `steerability`.
    """
    vector = extract(
        lm, splits.extract, method, positions=positions, held_out=splits.select, quiet=True
    )
    return at_steepest(lm, vector, splits.select, quiet=quiet)


def steerability(
    lm: LM, vector: SteeringVector, pairs: Pairs, *, coefficient: float = 0.25
) -> pd.DataFrame:
    """The slope of the log-odds of held-out pairs at every layer of the vector.

    pairs        pairs with prompts, none of which made the vector
    coefficient  the step c, in residual norms: the slope is that of the line from -c to c, so it
                 says what steps of that size do, curvature and all

    One row per layer: `layer`, `slope` (mean over pairs, nats per residual norm), `low` and `high`
    (its 95 % interval, a bootstrap over pairs), `agree` (share of pairs that move the right way)
    with `agree_low` and `agree_high` (Wilson's), `pairs`.
    Raises ValueError for a coefficient that is not positive, fewer than two pairs, pairs without
    prompts or that made the vector, and a vector that does not fit the model.
    """
    if not (math.isfinite(coefficient) and coefficient > 0):
        raise ValueError(f"coefficient {coefficient!r}: give a positive number of residual norms")
    if len(pairs) < 2:
        raise ValueError(f"{len(pairs)} pair is too few for an interval: give 2 or more")
    if not all(pair.prompt for pair in pairs):
        raise ValueError(f"pairs {pairs.name!r} are whole texts without prompts to continue")
    require_disjoint({f"{vector.method} vector": vector.texts, pairs.name: pairs.texts})
    vector.check(lm)
    sides = [
        (prompt, text)
        for pair in pairs
        for prompt, text in zip(pair.prompts, (pair.positive, pair.negative), strict=True)
    ]
    batch = encode(lm, [prompt for prompt, _ in sides], [text for _, text in sides])
    steered = [vector.at(1.0, layers=[layer]) for layer in vector.layers]
    grid = np.array([-coefficient, 0, coefficient])
    totals = multiples(lm, batch, steered, grid, desc=None)[:, 0]  # (L, 2n, 3)
    odds = (totals[:, ::2] - totals[:, 1::2]).numpy()
    rows = []
    for layer, (down, _, up) in zip(vector.layers, odds.swapaxes(1, 2), strict=True):
        slopes = (up - down) / (2 * coefficient)
        mean = bootstrap_mean(slopes)
        agree = wilson(int((slopes > 0).sum()), len(slopes))
        rows.append(
            {
                "layer": layer,
                "slope": mean.value,
                "low": mean.low,
                "high": mean.high,
                "agree": agree.value,
                "agree_low": agree.low,
                "agree_high": agree.high,
                "pairs": len(slopes),
            }
        )
    return pd.DataFrame(rows)


def at_steepest(
    lm: LM, vector: SteeringVector, pairs: Pairs, *, quiet: bool = False
) -> SteeringVector:
    """The vector with the layer as its default at which `pairs` answer most steeply.

    Says why in print unless `quiet`, and in its provenance, where the pairs count as held-out texts
    from now on. Raises as `steerability`.
    """
    layer, why = steepest_layer(steerability(lm, vector, pairs))
    held_out = {*vector.held_out_texts, *pairs.texts}
    about = {"layer_choice": why, "held_out_texts": sorted(held_out)}
    if not quiet:
        print(f"{pairs.name}: layer {layer}: {why}")
    return replace(vector, layer=layer, provenance={**vector.provenance, **about})


def steepest_layer(table: pd.DataFrame) -> tuple[int, str]:
    """The layer with the steepest slope, the lower of equals, and why, in words."""
    top = layer_scores.best_layer(table, "slope")
    why = (
        f"steepest log-odds of {len(table)} layers on {int(top['pairs'])} held-out pairs "
        f"({top['slope']:+.1f} nats per residual norm [{top['low']:+.1f}, {top['high']:+.1f}], "
        f"{top['agree']:.0%} [{top['agree_low']:.0%}, {top['agree_high']:.0%}] of the pairs agree)"
    )
    return int(top["layer"]), why
