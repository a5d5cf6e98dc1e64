"""What steering gives and what it costs, on prompts that chose nothing: trait against coherence.

Each way of steering is a curve traced by the coefficient. A broken text shows no trait: it counts
as 0 of it, so that a curve bends back where texts fall apart. Where to stand on the curve is chosen
on other prompts (`find_ceiling`), and asking in the prompt stands beside it, alone and steered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.bands import band_over_prompts
from workbench.ceiling import find_ceiling
from workbench.frames import is_random
from workbench.judges import Judge
from workbench.study import HOLDS
from workbench.sweep import sweep
from workbench.tokens import Prompt
from workbench.vectors import SteeringVector, random_like

if TYPE_CHECKING:
    from workbench.models import LM

RANDOM = "random vector"
PROMPTED = "asking in the prompt"
BOTH = "asking and steering"


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

    vectors       method -> vector; the random one is as long as the first
    choosing      prompts on which the recommended coefficient is chosen
    reporting     others, on which everything in the table is measured
    coefficients  of one sign, in residual norms, 0 among them
    judge         knows trait and coherence
    asking        prompts of the role "report" that ask for the trait

    One row per method and coefficient: `method`, `coefficient`, `trait` and `coherence` (means over
    prompts), each with `_low` and `_high` (95 % bootstrap over prompts), `prompts`, and
    `recommended`: whether the method's own coefficient lies here. Trait x coherence, averaged over
    prompts, is `product`.
    """
    settings = {"new_tokens": new_tokens, "temperature": 1.0, "judges": [judge], "kl": False}
    rows = []
    for method, vector in vectors.items():
        first = sweep(lm, vector, choosing, coefficients, seed=seed, progress=False, **settings)
        sign = 1 if max(coefficients) > 0 else -1
        chosen = find_ceiling(first, seed=seed)[sign].recommended.value
        main = method == next(iter(vectors))
        frame = sweep(
            lm,
            vector,
            reporting,
            coefficients,
            seed=seed + 1,
            controls={"random": random_like(vector, seed)} if main else (),
            prompted=asking if main else (),
            apart_from=first,
            progress=False,
            **settings,
        )
        counted = _counted(frame)
        still = counted[(counted["vector"] == "vector") & (counted["coefficient_norm"] == 0)]
        for kind, part in counted.groupby("vector", sort=False):
            name = RANDOM if is_random(kind) else PROMPTED if kind == "prompted" else method
            if name == PROMPTED:  # nothing is steered, whatever its rows say
                part = part.assign(coefficient_norm=0.0)
            elif name == RANDOM:  # at 0 it is the unsteered model, which has its rows already
                part = pd.concat([still, part])
            rows.append(curve(part, name, chosen if name == method else np.nan))
        if main and len(asking):
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
            rows.append(curve(_counted(both), BOTH, chosen))
    return pd.concat(rows, ignore_index=True)


def curve(frame: pd.DataFrame, method: str, recommended: float = np.nan) -> pd.DataFrame:
    """The rows of one method; see `tradeoff`. `frame` has a row per text."""
    frame = frame.assign(product=frame["trait"] * frame["coherence"])
    table = None
    for column in ("trait", "coherence"):
        found = band_over_prompts(frame, column).rename(
            columns={"mean": column, "low": f"{column}_low", "high": f"{column}_high"}
        )
        table = found if table is None else table.merge(found.drop(columns="prompts"), on="x")
    assert table is not None
    product = frame.groupby("coefficient_norm")["product"].mean()
    table["product"] = product.reindex(table["x"]).to_numpy()
    at = np.isclose(table["x"].astype(float), recommended, atol=1e-6)
    return table.rename(columns={"x": "coefficient"}).assign(method=method, recommended=at)


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts that do not hold show nothing; nor do those in which no sentence says either."""
    shown = frame["trait"].where(frame["coherence"] >= HOLDS, 0.0).fillna(0.0)
    return frame.assign(trait=shown, coherence=frame["coherence"].fillna(0.0))


def said(table: pd.DataFrame) -> pd.DataFrame:
    """In words, for each trait and method: what the recommended coefficient gives, and what the
    best one in hindsight would. `table` holds several of `tradeoff`, with a column `trait_name`."""
    rows = []
    for (trait, method), part in table.groupby(["trait_name", "method"], sort=False):
        best = part.loc[part["product"].abs().idxmax()]
        own = part[part["recommended"]]
        here = own.iloc[0] if len(own) else None
        row = {"trait": trait, "method": method}
        if here is None and method not in (PROMPTED, RANDOM):
            row |= {"recommended": "–", "trait there": "–", "coherence there": "–"}
        elif method == PROMPTED:
            row |= {"recommended": "–", **_words(best)}
        elif here is not None:
            row |= {"recommended": f"{here['coefficient']:.2f}", **_words(here)}
        else:
            row |= {"recommended": "–", "trait there": "–", "coherence there": "–"}
        row["best trait × coherence"] = (
            "–" if method == PROMPTED else f"{best['product']:.2f} at {best['coefficient']:.2f}"
        )
        rows.append(row)
    return pd.DataFrame(rows)


def _words(row: pd.Series) -> dict[str, str]:
    return {
        f"{column} there": f"{row[column]:+.2f} [{row[f'{column}_low']:+.2f}, "
        f"{row[f'{column}_high']:+.2f}]"
        if column == "trait"
        else f"{row[column]:.2f} [{row[f'{column}_low']:.2f}, {row[f'{column}_high']:.2f}]"
        for column in ("trait", "coherence")
    }
