"""From contrast pairs to a steering vector.

Reads every layer in one pass, finds a direction at each, measures on held-out pairs how well each
tells the two sides apart, and chooses the default layer by that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.contrast.holding import hold_out
from workbench.contrast.pairs import Pairs, check_pairs
from workbench.extraction.layer_scores import best_layer, d_prime_interval, share_interval
from workbench.extraction.methods import CAST_METHODS, METHODS, explained_variance
from workbench.forward.reading import PairActivations, read_pairs, residual_norms
from workbench.support.checks import check_whole, require_layers, require_model
from workbench.support.versions import versions
from workbench.text.positions import Positions, check_positions, last_k
from workbench.text.tokens import Prompt
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

__all__ = ["extract", "read_pairs", "residual_norms", "separate", "with_norms"]

_log = logging.getLogger(__name__)
_LAST = last_k(1)


def extract(
    lm: LM,
    pairs: Pairs,
    method: str = "mean_difference",
    *,
    positions: Positions = _LAST,
    layers: Sequence[int] | None = None,
    held_out: Pairs | float | None = None,
    layer: int | None = None,
    compat: bool = False,
    cache: bool = True,
    seed: int = 0,
    shuffle_labels: int | None = None,
    quiet: bool = False,
) -> SteeringVector:
    """A steering vector from contrast pairs: one unit direction per layer, positive side up.

    method          "mean_difference", "pca_diff", "pca_center", "pca_global", "logistic" or "lda"
                    (methods.py)
    positions       the tokens whose mean is read: `last_k(k)` (the last k of the whole text; by
                    default its last one), `generated` (the completion), `everything`, or another
                    rule of positions.py
    layers          decoder layers, all of them by default
    held_out        other pairs that judge the layers; or the share of `pairs` that does instead of
                    making the vector (default 0.2, dealt by `seed`); 0: all pairs make the vector
    layer           the default layer; None chooses the one whose held-out d' is highest (the lower
                    of equals) and says so in print. That layer's d' is then a little flattered by
                    the choice: report results on other prompts.
    compat          read as repeng and the library of conditional activation steering do (whole
                    texts, last layer after the final norm); with held_out=0 the directions are
                    theirs
    shuffle_labels  a seed: deal the texts to the two sides at random, for a control without
                    the trait
    quiet           do not print, nor show a bar

    Held-out separation by layer is in `.separation` (see `separate`), of PCA methods the explained
    variance by layer in `.explained_variance`, the rest in `.provenance`.
    Raises ValueError, before the model runs, for arguments of another kind (the name of a model or
    of pairs, say), an unknown method, layers or numbers out of range, texts over the context
    length, or held-out pairs that share a text with `pairs`; and afterwards where the two sides
    look the same to the model.
    """
    require_model(lm)
    check_pairs(pairs)
    check_positions(positions)
    require_layers(layers)
    if method not in METHODS:
        own = CAST_METHODS.get(method)
        raise ValueError(
            f"method {method!r} is unknown; choose one of {', '.join(METHODS)}"
            + (f" (the {method} of conditional activation steering is {own!r} here)" if own else "")
        )
    chosen = tuple(range(lm.layers)) if layers is None else tuple(layers)
    if layer is not None and check_whole("layer", layer, 0) not in chosen:
        raise ValueError(f"layer {layer!r} is not among the layers {chosen}")
    check_whole("seed", seed, 0)
    if shuffle_labels is not None:
        check_whole("shuffle_labels", shuffle_labels, 0)
    division = hold_out(pairs, held_out, seed)

    def read(which: Pairs) -> PairActivations:
        return read_pairs(
            lm, which, positions, layers=chosen, compat=compat, cache=cache, progress=not quiet
        )

    everyone = read(pairs)
    making = everyone.rows(division.making)
    judging = everyone.rows(division.judging)
    if isinstance(held_out, Pairs):
        judging = read(held_out)
    if shuffle_labels is not None:
        making = _shuffled(making, shuffle_labels)

    directions = _directions(making, method)
    norms = dict(zip(chosen, everyone.residual_norm.tolist(), strict=True))
    table = separate(directions, making, judging, norms) if len(judging.positive) else None
    best, why = _choose(layer, chosen, table)
    called = method + ("" if shuffle_labels is None else " (labels shuffled)")
    vector = SteeringVector(
        directions=directions,
        residual_norm=norms,
        model=lm.name,
        fingerprint=lm.fingerprint,
        method=called,
        layer=best,
        separation=table,
        provenance={
            "pairs": pairs.name,
            "trait": pairs.trait,
            "data": pairs.fingerprint,
            "texts": sorted(pairs.texts),
            "made_from": len(division.making),
            "held_out": division.said,
            "held_out_texts": sorted(held_out.texts) if isinstance(held_out, Pairs) else [],
            "positions": repr(positions),
            "layer_choice": why,
            "explained_variance": {
                "method": called,
                "layers": _explained(making, method, directions),
            },
            "compat": compat,
            "seed": seed,
            "shuffle_labels": shuffle_labels,
            "model_type": str(lm.model.config.model_type),
            "dtype": str(lm.dtype).removeprefix("torch."),
            "versions": versions(),
        },
    )
    said = f"{pairs.name}: layer {best}: {why}; {division.said}"
    _log.info("%s, %s at %r", said, called, positions)
    if not quiet:
        print(said)
    return vector


def separate(
    directions: dict[int, Tensor],
    making: PairActivations,
    judging: PairActivations,
    norms: dict[int, float],
) -> pd.DataFrame:
    """How well each layer's direction tells the sides of pairs apart that did not make it.

    One row per layer: `layer`; `d_prime` = (mean+ - mean-) / sqrt((var+ + var-) / 2) of the
    projections; `pair_accuracy`, the share of pairs whose positive side projects higher (ties
    count half); of both the ends of a 95 % interval, `…_low` and `…_high` (bootstrap over pairs;
    Wilson's); `accuracy`, the share of sides on their side of the midpoint between the means of
    the pairs that made the direction; `gap`, the length of those pairs' difference of means in
    units of the residual norm; `pairs`, how many judged.
    """
    rows = []
    for index, layer in enumerate(making.layers):
        direction = directions[layer].double()
        high = judging.positive[:, index].double() @ direction
        low = judging.negative[:, index].double() @ direction
        top = making.positive[:, index].double().mean(0)
        bottom = making.negative[:, index].double().mean(0)
        middle = float((top + bottom) @ direction) / 2
        right = torch.cat([_half_ties(high - middle), _half_ties(middle - low)])
        spread = d_prime_interval(high.numpy(), low.numpy())
        told_apart = float(_half_ties(high - low).mean())
        fewest, most = share_interval(told_apart, len(high))
        rows.append(
            {
                "layer": layer,
                "d_prime": spread.value,
                "d_prime_low": spread.low,
                "d_prime_high": spread.high,
                "pair_accuracy": told_apart,
                "pair_accuracy_low": fewest,
                "pair_accuracy_high": most,
                "accuracy": float(right.mean()),
                "gap": float((top - bottom).norm()) / norms[layer],
                "pairs": len(high),
            }
        )
    return pd.DataFrame(rows)


def with_norms(vector: SteeringVector, lm: LM, prompts: Sequence[Prompt]) -> SteeringVector:
    """The vector with residual norms measured on prompts, as imported vectors need them.

    Raises ValueError when the vector does not fit the model's width or layers.
    """
    vector.check(lm, same_model=False)
    return replace(vector, residual_norm=residual_norms(lm, prompts, vector.layers))


def _shuffled(activations: PairActivations, seed: int) -> PairActivations:
    """The texts dealt to two sides at random, half of each label on either.

    Sides swapped within pairs would leave only differences of pairs, which lie along the trait:
    such a "control" still steers it, with a sign of its own.
    """
    count = len(activations.positive)
    rng = np.random.default_rng(seed)
    high, low = (
        activations.positive[torch.from_numpy(rng.permutation(count))],
        activations.negative[torch.from_numpy(rng.permutation(count))],
    )
    half = count // 2
    return replace(
        activations,
        positive=torch.cat([high[:half], low[half:]]),
        negative=torch.cat([low[:half], high[half:]]),
    )


def _directions(making: PairActivations, method: str) -> dict[int, Tensor]:
    directions = {}
    for index, layer in enumerate(making.layers):
        try:
            direction = METHODS[method](making.positive[:, index], making.negative[:, index])
        except ValueError as error:
            raise ValueError(f"{method} at layer {layer}: {error}") from None
        directions[layer] = direction.float()
    return directions


def _explained(
    making: PairActivations, method: str, directions: dict[int, Tensor]
) -> dict[str, float]:
    """Layer, as text, -> explained variance of its direction; empty unless the method is a PCA."""
    shares = {
        str(layer): explained_variance(
            method, directions[layer], making.positive[:, index], making.negative[:, index]
        )
        for index, layer in enumerate(making.layers)
    }
    return {layer: share for layer, share in shares.items() if share is not None}


def _choose(
    layer: int | None, layers: tuple[int, ...], table: pd.DataFrame | None
) -> tuple[int, str]:
    """The default layer and why."""
    if layer is not None:
        return layer, "as asked"
    if table is None or not np.isfinite(table["d_prime"]).any():
        return layers[len(layers) // 2], "the middle one, as no held-out pairs could judge"
    top = best_layer(table, "d_prime")
    return int(top["layer"]), (
        f"highest d' of {len(layers)} layers on held-out pairs ({top['d_prime']:.2f}, "
        f"pair accuracy {top['pair_accuracy']:.0%} of {int(top['pairs'])})"
    )


def _half_ties(gaps: Tensor) -> Tensor:
    """1 above zero, 0 below, a half at it."""
    return (gaps.sign() + 1) / 2
