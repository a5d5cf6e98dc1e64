"""Tables of what is shown of a manifold: distances in one unit, over layers and forms, beside
utility and coherence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from workbench.contrast.pairs import Pairs
from workbench.geometry.displacement import displacement
from workbench.geometry.manifolds import Manifolds
from workbench.preference.odds import odds
from workbench.sweeps.breakage import intact
from workbench.text.tokens import Prompt
from workbench.vectors.steerable import Steerable
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM


def relative(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `geometry.displacement` with `relative_KIND`: the distance in shares of what 95 % of
    ordinary tokens keep within, 1 at that bound."""
    found = frame.copy()
    for name in [name for name in frame if str(name).startswith("distance_")]:
        kind = str(name).removeprefix("distance_")
        bounds = frame["layer"].map(
            {
                layer: frame.attrs["thresholds"][f"{layer} {kind}"]
                for layer in frame["layer"].unique()
            }
        )
        found[f"relative_{kind}"] = frame[name] / bounds
    return found


def layer_map(
    lm: LM,
    vector: SteeringVector,
    pairs: Pairs,
    texts: Sequence[Prompt],
    coefficients: ArrayLike,
    manifolds: Manifolds,
    *,
    layers: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Steering by a vector's direction at each layer: one row per `layer` and `coefficient_norm`,
    with `distance` at that layer (of the first kind, see `relative`) and `utility`, mean log-odds
    in nats over the pairs."""
    grid = np.asarray(coefficients, dtype=float)
    kind = manifolds.kinds[0]
    parts = []
    for layer in manifolds.layers if layers is None else layers:
        own = replace(vector, layer=layer)
        seen = relative(displacement(lm, own, texts, grid, manifolds, kinds=[kind], layers=[layer]))
        distance = seen.groupby("coefficient_norm")[f"relative_{kind}"].mean()
        utility = odds(lm, own, pairs, grid, quiet=True).groupby("m")["utility"].mean()
        table = pd.DataFrame({"distance": distance.to_numpy(), "utility": utility.to_numpy()})
        parts.append(table.assign(layer=layer, coefficient_norm=np.sort(grid)))
    return pd.concat(parts, ignore_index=True)


def by_form(
    lm: LM,
    ways: Mapping[str, Steerable],
    pairs: Pairs,
    texts: Sequence[Prompt],
    grids: Mapping[str, ArrayLike],
    manifolds: Manifolds,
) -> pd.DataFrame:
    """Ways of steering whose coefficients have nothing in common, over what these do to the next
    token: one row per `way`, coefficient `m` and layer, with `kl` (KL(steered || unsteered) in
    nats, mean over tokens of the fixed texts), `distance` (of the first kind, see `relative`) and
    `fall`, of utility log-odds in nats from what it is unsteered, mean over pairs.

    grids   of each way its coefficients, 0 among them, in its usual unit
    """
    kind = manifolds.kinds[0]
    parts = []
    for name, way in ways.items():
        grid = np.sort(np.asarray(grids[name], dtype=float))
        seen = relative(displacement(lm, way, texts, grid, manifolds, kinds=[kind]))
        columns = {f"relative_{kind}": "distance", "coefficient_norm": "m"}
        means = seen.rename(columns=columns).groupby(["m", "layer"])[["distance", "kl"]].mean()
        utility = odds(lm, way, pairs, grid, quiet=True).groupby("m")["utility"].mean()
        rows = means.reset_index()
        rows["fall"] = utility.loc[0.0] - rows["m"].map(utility)
        parts.append(rows.assign(way=name, steered=rows["layer"] == way.default_layers[0]))
    return pd.concat(parts, ignore_index=True)


def linked(preferences: pd.DataFrame, texts: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Utility, coherence and distance over the same coefficient, long: `measure`, `prompt_index`,
    `coefficient_norm`, `value`.

    preferences  rows of `odds`; texts, of `sweep`; seen, of `relative`

    Where no judge knows the coherence of the texts the measure "intact" (breakage.py: 1 or 0) takes
    its place.
    """
    kind = next(name for name in seen if str(name).startswith("relative_"))
    sound = "coherence" if "coherence" in texts else "intact"
    texts = texts if sound in texts else intact(texts)
    parts = {
        "utility": preferences[["pair", "m", "utility"]],
        sound: texts[["prompt_index", "coefficient_norm", sound]],
        "distance": seen[["text", "coefficient_norm", kind]],
    }
    columns = ["prompt_index", "coefficient_norm", "value"]
    return pd.concat(
        [
            part.set_axis(columns, axis=1).astype(float).assign(measure=measure)
            for measure, part in parts.items()
        ],
        ignore_index=True,
    )
