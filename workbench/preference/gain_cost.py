"""What ways of steering give and cost along their multiples, from preference log-odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from workbench.preference.odds import odds
from workbench.statistics.intervals import bootstrap_mean

if TYPE_CHECKING:
    from workbench.contrast.pairs import Pairs
    from workbench.interventions.updates import Intervention
    from workbench.loading.models import LM


def compare(
    lm: LM,
    ways: Mapping[str, Sequence[Intervention]],
    pairs: Pairs,
    multipliers: Sequence[float] | Mapping[str, Sequence[float]],
) -> pd.DataFrame:
    """What each way gives and costs on these pairs, as `paths` tells it.

    ways         interventions by name
    multipliers  of all ways, or by name of each: 0 among them

    Raises ValueError for no ways, a way without multipliers, and as `odds` and `paths`.
    """
    if not ways:
        raise ValueError("ways is empty; name at least one")
    grids = multipliers if isinstance(multipliers, Mapping) else dict.fromkeys(ways, multipliers)
    if set(grids) != set(ways):
        raise ValueError(
            f"multipliers are of {sorted(grids)}, ways of {sorted(ways)}: give each way its own, "
            "0 among them"
        )
    return paths(
        pd.concat(
            odds(lm, way, pairs, grids[name], quiet=True).assign(way=name)
            for name, way in ways.items()
        )
    )


def paths(frame: pd.DataFrame, *, by: str = "way") -> pd.DataFrame:
    """What steering gives and costs along each way's multiples.

    frame  rows of `odds.odds`, with the name of the way in the column `by`; each way has m = 0

    One row per way and multiple: `by`, `m`, `gain` (mean over pairs of the change of preference
    log-odds from m = 0, nats) with `gain_low` and `gain_high`, its 95 % bootstrap interval over
    pairs, `cost` (mean fall of the log-probability per token of both answers, nats) with
    `cost_low` and `cost_high`, and `pairs`.
    Raises ValueError for a frame without the column, a way without m = 0, or one that has a pair
    twice at one m.
    """
    if by not in frame.columns:
        raise ValueError(f"the frame has no column {by!r} that names the way")
    found = []
    for way, part in frame.groupby(by, sort=False):
        if part.duplicated(["pair", "m"]).any():
            raise ValueError(f"{way!r} has several rows of one pair and m: name each way apart")
        wide = part.pivot_table(index="pair", columns="m", values=["preference", "likelihood"])
        if 0 not in wide["preference"].columns:
            raise ValueError(f"{way!r} has no row of m = 0, from which the change is counted")
        gains = wide["preference"].sub(wide["preference"][0], axis=0)
        costs = wide["likelihood"].rsub(wide["likelihood"][0], axis=0)
        for m in gains.columns:
            gain = bootstrap_mean(gains[m].to_numpy())
            cost = bootstrap_mean(costs[m].to_numpy())
            found.append(
                {
                    by: way,
                    "m": m,
                    "gain": gain.value,
                    "gain_low": gain.low,
                    "gain_high": gain.high,
                    "cost": cost.value,
                    "cost_low": cost.low,
                    "cost_high": cost.high,
                    "pairs": gain.count,
                }
            )
    return pd.DataFrame(found)
