"""How far the vectors of the studies lead off the manifold of ordinary text, and at what size.

    python benchmarks/study_manifold.py [MODEL ...] [--seeds 0] [--directory reports]

The cases are those of study_ceilings.py (studies.py) without one of its three methods, random and
shuffled-label directions too, of one seed unless told. The manifolds are fitted and calibrated on
the grammar's own text; fixed texts of the trait, which neither made the vector nor are swept, are
read by the steered model. Three tables a model:

study_manifold_MODEL    a row per case, coefficient and `place` ("steered": the steered layer,
                        "last": the last one), means over tokens: `KIND`, the distance in shares of
                        what 95 % of ordinary tokens keep within, and `beyond_KIND`, the share of
                        tokens beyond that; `inside`, of the squared change the share along the
                        tangent; `growth`, the stream's length by what it was; `kl`, of the next
                        token, in nats
study_directions_MODEL  a row per case: `cos_first` and `cos_top`, |cos| to the first principal
                        component of ordinary text and to the span of the first eight; `inside`, the
                        share of its squared length along the tangent
study_geometric_MODEL   a row per case, sign and rule ("rise", "beyond"): `ceiling`, what
                        `ceiling_from_geometry` says as it is shipped, of prompts that are not
                        swept; infinite where it sees none

Kinds of distance: "principal" and "neighbours" of streams at unit length (the package's default),
and "raw", the first of streams as long as they are. What comes of it is told by
workbench/studies/manifold_findings.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from studies import COEFFICIENTS, Case, Study, direction  # puts the checkout on the path

from workbench.forward.reference import chosen_tokens
from workbench.geometry import manifold, ordinary
from workbench.geometry.distance_rules import Beyond, Rise
from workbench.geometry.downstream import Seen, steered_streams
from workbench.geometry.geometric_ceiling import ceiling_from_geometry
from workbench.geometry.manifold import Manifolds
from workbench.geometry.manifolds import Manifold
from workbench.loading.models import LM
from workbench.text.tokens import Prompt, encode
from workbench.vectors.steering_vector import SteeringVector

DOCUMENTS, SAMPLE = 300, 1024
TEXTS = 4
PROMPTS, REACH = 8, float(COEFFICIENTS[-1])
TOP = 8  # principal components
# Five sizes of either sign, from the study's own grid.
GRID = COEFFICIENTS[[1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31]]
SETTINGS = {
    "documents": DOCUMENTS,
    "sample": SAMPLE,
    "texts": TEXTS,
    "prompts": PROMPTS,
    "grid": GRID.round(6).tolist(),
}
METHODS = ("mean_difference", "logistic", "random", "shuffled")
CODE = (
    "contrast.pairs", "extraction.extract", "extraction.methods", "forward.reading",
    "forward.reference", "forward.reference_files", "forward.steering", "forward.streaming",
    "forward.streams", "forward.tracing", "geometry.calibration", "geometry.downstream",
    "geometry.geometric_ceiling", "geometry.manifold", "geometry.manifolds", "geometry.ordinary",
    "geometry.distance_rules", "interventions.updates", "preference.multiples",
    "statistics.distributions", "statistics.estimates", "statistics.intervals",
    "statistics.moments", "text.dealing", "text.positions", "text.splits", "text.tokens",
    "vectors.controls", "vectors.steering_vector", "wren.batches", "wren.grammar",
)  # fmt: skip


@cache
def manifolds_of(lm: LM, *, unit: bool = True) -> Manifolds:
    """Of ordinary text at the first, the middle and the last layer."""
    texts = ordinary.from_grammar(DOCUMENTS, "manifold study")
    layers = sorted({0, lm.layers // 2, lm.layers - 1})
    kinds = ("principal", "neighbours") if unit else ("principal",)
    return manifold.fit(lm, texts, layers, kinds=kinds, unit=unit, sample=SAMPLE, progress=False)


def kinds_at(lm: LM, layer: int) -> dict[str, Manifold]:
    """The distances that are measured at a layer, by name."""
    scaled, raw = manifolds_of(lm), manifolds_of(lm, unit=False)
    return {
        "principal": scaled.at(layer),
        "neighbours": scaled.at(layer, "neighbours"),
        "raw": raw.at(layer),
    }


def texts_of(case: Case) -> list[str]:
    """Whole texts of the trait, of either side in turn, that neither made nor choose anything."""
    return [pair.full[index % 2] for index, pair in enumerate(case.pairs.report[:TEXTS])]


def streams(
    lm: LM, vector: SteeringVector, texts: Sequence[str], grid: np.ndarray, layers: Sequence[int]
) -> Iterator[Seen]:
    """Tokens of texts under every coefficient."""
    batch, manifolds = encode(lm, texts), manifolds_of(lm)
    rows = torch.arange(len(batch)).repeat_interleave(len(grid))
    values = torch.from_numpy(grid).repeat(len(batch))
    touched = chosen_tokens(lm, batch, manifolds.positions, manifolds.skip)
    return steered_streams(lm, batch, vector.at, rows, values, layers, touched)


def measure(lm: LM, case: Case) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A case's distances, a row per coefficient and place; what its direction is like; and the
    ceilings that geometry tells."""
    vector = direction(lm, case)
    places = {"steered": case.layer, "last": lm.layers - 1}
    layers = sorted(set(places.values()))
    parts = [
        tokens(lm, seen, layer, index).assign(place=place)
        for seen in streams(lm, vector, texts_of(case), GRID, layers)
        for index, layer in enumerate(layers)
        for place in places
        if places[place] == layer
    ]
    every = pd.concat(parts, ignore_index=True)
    means = every.groupby(["place", "coefficient_norm"], sort=True).mean().reset_index()
    told = shipped(lm, vector, case.pairs.report.prompts[:PROMPTS])
    return means, pd.DataFrame([about(vector, manifolds_of(lm))]), told


def shipped(lm: LM, vector: SteeringVector, prompts: Sequence[Prompt]) -> pd.DataFrame:
    """`ceiling_from_geometry` by both rules."""
    rows = []
    for name, rule, unit in (("rise", Rise(), False), ("beyond", Beyond(), True)):
        known = manifolds_of(lm, unit=unit)
        found = ceiling_from_geometry(lm, vector, prompts, rule=rule, manifolds=known, reach=REACH)
        rows += [{"rule": name, "sign": sign, "ceiling": found[sign]} for sign in (1, -1)]
    return pd.DataFrame(rows)


def tokens(lm: LM, seen: Seen, layer: int, index: int) -> pd.DataFrame:
    """One row per token that was seen."""
    before, after = seen.before[:, index].double(), seen.after[:, index].double()
    made = {"coefficient_norm": seen.coefficients, "kl": seen.kl}
    for name, each in kinds_at(lm, layer).items():
        distance = each.distance(after) / each.threshold()
        made |= {name: distance, f"beyond_{name}": (distance > 1).double()}
    made["inside"] = manifolds_of(lm).at(layer).share_inside(after - before)
    made["growth"] = after.norm(dim=-1) / before.norm(dim=-1)
    return pd.DataFrame({name: np.asarray(values) for name, values in made.items()})


def about(vector: SteeringVector, manifolds: Manifolds) -> dict[str, float]:
    """What a vector's direction is like beside ordinary text at its layer."""
    layer = vector.layer
    whole = vector.directions[layer].double().numpy()
    axis = whole / np.linalg.norm(whole)
    along = manifolds.spectra[layer].directions[:TOP] @ axis
    inside = manifolds.at(layer).share_inside(vector.directions[layer].double())
    return {
        "cos_first": float(abs(along[0])),
        "cos_top": float(np.linalg.norm(along)),
        "inside": float(inside),
    }


STUDY = Study(
    tables=("manifold", "directions", "geometric"),
    measure=measure,
    settings=SETTINGS,
    modules=CODE,
    methods=METHODS,
    seeds=(0,),
)

if __name__ == "__main__":
    STUDY.main("How far every vector leads off the manifold.")
