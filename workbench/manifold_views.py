"""What is shown of a manifold: distances in one unit, over layers, beside utility and coherence,
texts that were spoiled, and steering that keeps to the manifold beside plain steering.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from workbench import ordinary
from workbench.calibrated import Manifolds
from workbench.curves import reaching
from workbench.geometry import displacement
from workbench.intervals import Floats, percentiles
from workbench.judges import HOLDS, Judge
from workbench.odds import odds
from workbench.pairs import Pairs
from workbench.steerable import Steerable
from workbench.sweep import sweep
from workbench.tokens import Prompt
from workbench.vectors import SteeringVector

if TYPE_CHECKING:
    from workbench.models import LM

PLAIN = "plain"
SHARES = (0.25, 0.5, 0.75)


def ordinary_texts(lm: LM, prompts: Sequence[Prompt], count: int, part: str) -> list[str]:
    """Documents of a model's own language: wren's grammar, else what it writes after prompts.

    part  a word, another one for texts that shall have nothing in common
    """
    if lm.name == "wren":
        return ordinary.from_grammar(count, part)
    begun = [prompts[index % len(prompts)] for index in range(count)]
    return ordinary.from_model(lm, begun, seed=zlib.crc32(part.encode()))


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

    preferences  rows of `odds`; texts, of `sweep` with an exact judge; seen, of `relative`
    """
    kind = next(name for name in seen if str(name).startswith("relative_"))
    parts = {
        "utility": preferences[["pair", "m", "utility"]],
        "coherence": texts[["prompt_index", "coefficient_norm", "coherence"]],
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


def spoiled(lm: LM, texts: Sequence[str], *, seed: int = 0) -> dict[str, list[str]]:
    """The texts with their words shuffled; as many tokens of a loop of their first eight; and as
    many random ones (a third of the context at most, since they are read anew as text)."""
    rng = random.Random(f"spoiled {seed}")
    shuffled, looped, noise = [], [], []
    special = set(lm.tokenizer.all_special_ids)
    able = [token for token in range(lm.vocabulary) if token not in special]
    for text in texts:
        words = text.split(" ")
        shuffled.append(" ".join(rng.sample(words, len(words))))
        ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        count = min(len(ids), (lm.context or 3 * len(ids)) // 3)
        looped.append(str(lm.tokenizer.decode((ids[:8] * count)[:count])))
        noise.append(str(lm.tokenizer.decode(rng.choices(able, k=count))))
    return {"shuffled words": shuffled, "loops": looped, "random tokens": noise}


def at_equal_trait(
    lm: LM,
    ways: Mapping[str, Steerable],
    prompts: Sequence[Prompt],
    coefficients: Sequence[float],
    *,
    judge: Judge,
    trait: str,
    new_tokens: int = 48,
    seed: int = 0,
    size: int = 500,
) -> pd.DataFrame:
    """What each way of steering costs in coherence where it gives as much of the trait as plain
    steering does at a quarter, a half and three quarters of its most.

    ways          "plain" among them
    coefficients  from 0 upwards, in residual norms

    A text's trait counts 0 where it broke. One row per `way` and `share`: `coefficient`, and
    `coherence` with the ends of its 95 % interval over prompts (`low`, `high`); `more`, the
    coherence beyond plain steering's, with its own. NaN where a way never gives so much; `reached`,
    the share of resamples in which it does.
    """
    grid = np.asarray(coefficients, dtype=float)
    curves: dict[str, tuple[Floats, Floats]] = {}
    for name, way in ways.items():
        frame = sweep(
            lm,
            way,
            prompts,
            grid.tolist(),
            new_tokens=new_tokens,
            temperature=1.0,
            seed=seed,
            trait=trait,
            judges=[judge],
            kl=False,
            progress=False,
        )
        frame = frame.assign(given=frame["trait"].where(frame["coherence"] >= HOLDS, 0).fillna(0))
        wide = frame.pivot(index="prompt_index", columns="coefficient_norm")
        curves[name] = wide["given"].to_numpy(float), wide["coherence"].to_numpy(float)
    return compare_at(curves, grid, size=size, seed=seed)


def compare_at(
    curves: Mapping[str, tuple[Floats, Floats]], grid: Floats, *, size: int = 500, seed: int = 0
) -> pd.DataFrame:
    """The table of `at_equal_trait` from each way's trait and coherence (P, K)."""
    prompts = len(curves[PLAIN][0])
    rng = np.random.default_rng(seed)
    draws = [np.arange(prompts), *rng.integers(prompts, size=(size, prompts))]
    rows = []
    for share in SHARES:
        found = {name: np.empty((len(draws), 2)) for name in curves}
        for index, rows_drawn in enumerate(draws):
            start = np.mean(curves[PLAIN][0][rows_drawn, 0])
            most = np.max(curves[PLAIN][0][rows_drawn].mean(axis=0))
            level = start + share * (most - start)
            for name, (given, coherence) in curves.items():
                place = reaching(grid, given[rows_drawn].mean(axis=0), level)
                mean = np.nanmean(coherence[rows_drawn], axis=0)
                known = np.isfinite(place)
                held = (place, np.interp(place, grid, mean)) if known else (np.nan, np.nan)
                found[name][index] = held
        for name, values in found.items():
            more = values[:, 1] - found[PLAIN][:, 1]
            row: dict[str, object] = {"way": name, "share": share}
            row |= {"coefficient": values[0, 0], "reached": np.isfinite(values[1:, 1]).mean()}
            for word, column in (("coherence", values[:, 1]), ("more", more)):
                drawn = column[1:][np.isfinite(column[1:])]
                low, high = percentiles(drawn, 0.95) if len(drawn) else (np.nan, np.nan)
                ends = {"low": low, "high": high} if word == "coherence" else {}
                ends = ends or {"more_low": low, "more_high": high}
                row |= {word: column[0], **ends}
            rows.append(row)
    return pd.DataFrame(rows)
