"""What steering gives and what it costs, on prompts that chose nothing: gain in trait against
coherence.

The *gain* of a text is how far its trait has moved from the unsteered text of the same prompt (of
a prompt that asks for the trait: from the mean unsteered text of those that do not), 0 where the
text broke: breaking is no gain. Each way of steering is a curve traced by the coefficient, which
bends back where texts fall apart. Where to stand on it is chosen on other prompts
(`find_ceiling`), and asking in the prompt stands beside it, alone and steered. Prompts whose
unsteered text does not hold are left out, as in `find_ceiling`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.judges import HOLDS, Judge
from workbench.sweeps.bands import band_over_prompts
from workbench.sweeps.ceiling import find_ceiling
from workbench.sweeps.frames import is_random
from workbench.sweeps.sweep import sweep
from workbench.text.tokens import Prompt
from workbench.vectors.controls import random_like
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

RANDOM = "random vectors"
PROMPTED = "asking in the prompt"
BOTH = "asking and steering"
DRAWS = 3  # random vectors


def tradeoff(
    lm: LM,
    vectors: Mapping[str, SteeringVector],
    choosing: Sequence[Prompt],
    reporting: Sequence[Prompt],
    coefficients: Sequence[float],
    *,
    judge: Judge,
    asking: Sequence[Prompt] = (),
    new_tokens: int = 48,
    seed: int = 0,
) -> pd.DataFrame:
    """Trait and coherence at every coefficient, for each way of steering.

    vectors       method -> vector; the random ones are as long as the first
    choosing      prompts on which the recommended coefficient is chosen
    reporting     others, on which everything in the table is measured
    coefficients  of one sign, in residual norms, 0 among them
    judge         knows trait and coherence
    asking        prompts of the role "report" that ask for the trait

    One row per method and coefficient: `method`, `coefficient`, `gain` (-2 to 2, counted in the
    sign's direction) and `coherence` (means over prompts), each with `_low` and `_high` (95 %
    bootstrap over prompts), `prompts`, and `recommended`: whether the method's own coefficient lies
    here. Gain x coherence, averaged over prompts, is `product`; `chosen_on` is how many prompts
    chose. Raises ValueError for coefficients
    of both signs or without 0, and as `sweep`.
    """
    sign = 1 if max(coefficients) > 0 else -1
    if 0 not in coefficients or min(sign * c for c in coefficients) < 0:
        raise ValueError(f"coefficients {list(coefficients)}: give those of one sign and 0")
    settings = {"new_tokens": new_tokens, "temperature": 1.0, "judges": [judge], "kl": False}
    rows = []
    for method, vector in vectors.items():
        first = sweep(lm, vector, choosing, coefficients, seed=seed, progress=False, **settings)
        chosen = find_ceiling(first, seed=seed)[sign].recommended.value
        main = method == next(iter(vectors))
        draws = {f"random {i}": random_like(vector, seed, draw=i) for i in range(1, DRAWS + 1)}
        frame = sweep(
            lm,
            vector,
            reporting,
            coefficients,
            seed=seed + 1,
            controls=draws if main else (),
            prompted=asking if main else (),
            apart_from=first,
            progress=False,
            **settings,
        )
        own = frame[frame["vector"] == "vector"]
        rows.append(curve(gains(own, own, sign), method, chosen))
        if not main:
            continue
        random = frame[frame["vector"].map(is_random)]
        still = own[own["coefficient_norm"] == 0]
        rows.append(curve(gains(pd.concat([still, random]), own, sign), RANDOM))
        if len(asking):
            asked = frame[frame["vector"] == "prompted"].assign(coefficient_norm=0.0)
            rows.append(curve(gains(asked, own, sign, same=False), PROMPTED))
            both = sweep(
                lm,
                vector,
                asking,
                coefficients,
                seed=seed + 1,
                apart_from=first,
                progress=False,
                **settings,
            )
            rows.append(curve(gains(both, own, sign, same=False), BOTH, chosen))
    return pd.concat(rows, ignore_index=True).assign(chosen_on=len(choosing))


def gains(
    frame: pd.DataFrame, unsteered: pd.DataFrame, sign: int, *, same: bool = True
) -> pd.DataFrame:
    """The rows of a sweep with their `gain`; see above.

    unsteered  the sweep whose rows at coefficient 0 are the unsteered texts
    sign       that of the coefficients: 1 or -1
    same       whether both are of the same prompts; otherwise gains are counted from the mean

    Texts whose coherence is not known are left out. A text that holds and says nothing of the trait
    either way has not moved.
    """
    still = unsteered[unsteered["coefficient_norm"] == 0].set_index("prompt_index")
    start = still.loc[still["coherence"] >= HOLDS, "trait"]
    known = frame[frame["coherence"].notna()]
    if same:
        known = known[known["prompt_index"].isin(start.index)]
        origin = known["prompt_index"].map(start)
    else:
        origin = pd.Series(start.mean(), index=known.index)
    moved = (sign * (known["trait"] - origin)).fillna(0.0)
    return known.assign(gain=moved.where(known["coherence"] >= HOLDS, 0.0))


def curve(frame: pd.DataFrame, method: str, chosen: float = math.nan) -> pd.DataFrame:
    """The rows of one method; see `tradeoff`. `frame` is one of `gains`, `chosen` the recommended
    coefficient."""
    frame = frame.assign(product=frame["gain"] * frame["coherence"])
    gain, coherence = (
        band_over_prompts(frame, column).rename(
            columns={"mean": column, "low": f"{column}_low", "high": f"{column}_high"}
        )
        for column in ("gain", "coherence")
    )
    table = gain.merge(coherence.drop(columns="prompts"), on="x")
    product = frame.groupby("coefficient_norm")["product"].mean()
    table["product"] = product.reindex(table["x"]).to_numpy()
    at = np.isclose(table["x"].astype(float), chosen, atol=1e-6)
    return table.rename(columns={"x": "coefficient"}).assign(method=method, recommended=at)


def said(table: pd.DataFrame) -> pd.DataFrame:
    """In words, for each trait and method: what the recommended coefficient gives, and what the
    best one in hindsight would. `table` holds several of `tradeoff`, with a column `trait_name`."""
    rows = []
    for (trait, method), part in table.groupby(["trait_name", "method"], sort=False):
        best = part.loc[part["product"].idxmax()]
        steers = method != PROMPTED
        own = part[part["recommended"]] if steers else part
        here = own.iloc[0] if len(own) else None
        row = {"trait": trait, "method": method, "recommended": "–"}
        if here is not None and steers:
            row["recommended"] = f"{here['coefficient']:.2f}"
        row["gain there"] = "–" if here is None else _words(here, "gain", "+.2f")
        row["coherence there"] = "–" if here is None else _words(here, "coherence", ".2f")
        best_words = f"{best['product']:.2f} at {best['coefficient']:.2f}"
        rows.append({**row, "best gain × coherence, in hindsight": best_words if steers else "–"})
    return pd.DataFrame(rows)


def _words(row: pd.Series, column: str, spec: str) -> str:
    value, low, high = (format(row[f"{column}{end}"], spec) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"
