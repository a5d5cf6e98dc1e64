"""A condition made from texts of two classes, at the layer where it carries over to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.conditions.data import Examples
from workbench.conditions.folds import apart, cosines, directions, out_of_fold, repeated
from workbench.contrast.pairs import Pairs
from workbench.extraction.extract import extract
from workbench.forward.mean_streams import mean_streams
from workbench.text.positions import Positions
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

LEFT_OUT = "d′, folds left out"


@dataclass(frozen=True, eq=False)
class Made:
    """A condition's `vector`, the `layer` where it carries over best, and `layers`: how far the
    classes lie apart at each (d′, standard deviations), on the texts that made it and on folds that
    were left out."""

    vector: SteeringVector
    layer: int
    layers: pd.DataFrame


def make(lm: LM, examples: Examples, positions: Positions, method: str = "logistic") -> Made:
    """The condition of the texts that are to make it, read at these positions.

    Raises ValueError as `extract` and `folds.out_of_fold`.
    """
    making = examples.of("making")
    texts, labels = making["text"].tolist(), making["inside"].to_numpy(dtype=bool)
    folds = making["fold"].tolist()
    (means,) = mean_streams(lm, texts, [(list(range(lm.layers)), positions)])
    streams = means.double().numpy()
    along = directions(streams, labels, method)
    left_out = out_of_fold(streams, labels, folds, method)
    table = pd.DataFrame(
        {
            "layer": range(lm.layers),
            "d′, texts that made it": apart(cosines(streams, along), labels, folds),
            LEFT_OUT: apart(left_out, labels, folds),
        }
    )
    layer = int(table[LEFT_OUT].idxmax())
    pairs = contrast(texts, labels, examples.name)
    vector = extract(lm, pairs, method, positions=positions, held_out=0, layer=layer, quiet=True)
    return Made(vector, layer, table)


def contrast(texts: list[str], labels: NDArray[np.bool_], name: str) -> Pairs:
    """Both classes side by side, repeated to one size (`folds.repeated`)."""
    sides = ([texts[i] for i in side] for side in repeated(labels))
    return Pairs.from_lists(*sides, name=name, trait=name)
