"""What ways of steering cost in coherence where they give as much of a trait: a comparison at one
effect, as coefficients of different ways have nothing in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench.judges import HOLDS, Judge
from workbench.statistics.curves import reaching
from workbench.statistics.intervals import Floats, percentiles
from workbench.statistics.strata import of_clusters
from workbench.support.wording import estimate, number
from workbench.sweeps.sweep import sweep
from workbench.text.tokens import Prompt
from workbench.vectors.steerable import Steerable

if TYPE_CHECKING:
    from workbench.loading.models import LM

PLAIN = "plain"
SHARES = (0.5, 0.75, 0.9, 1.0)


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
    """Write texts by every way and compare them at equal trait: `compare_at`.

    ways          "plain" among them
    coefficients  from 0 upwards, in residual norms
    others        as for `sweep`; texts are drawn at temperature 1

    A text's trait counts 0 where it broke. Raises ValueError, before any is written, for ways
    without "plain", and as `sweep` and `compare_at`.
    """
    grid = np.asarray(coefficients, dtype=float)
    _check(ways, grid)
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
        wide = frame.pivot(
            index="prompt_index", columns="coefficient_norm", values=["given", "coherence"]
        )
        curves[name] = wide["given"].to_numpy(float), wide["coherence"].to_numpy(float)
    return compare_at(curves, grid, size=size, seed=seed)


def compare_at(
    curves: Mapping[str, tuple[Floats, Floats]], grid: Floats, *, size: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Coherence of each way where it first gives a share of plain steering's most trait, which at
    100 % is the luckiest point of a noisy curve, that others must reach too.

    curves  way -> trait and coherence (P, K) by prompt and coefficient, "plain" among them
    grid    (K,) coefficients from 0 upwards

    One row per `way` and `share`: `coefficient`, `coherence` there, and `more`, coherence beyond
    plain steering's at that trait, both with the ends of 95 % percentile intervals over prompts
    (`…_low`, `…_high`); `lost`, what plain steering lost of its own coherence by then, without
    which there is nothing to save; `reached`, the share of resamples in which the way gives so
    much. NaN where it never does, and where it already does at the first coefficient after 0: there
    the grid is too coarse to tell. Raises ValueError for a grid that does not rise from 0.
    """
    _check(curves, grid)
    prompts = len(curves[PLAIN][0])
    rng = np.random.default_rng(seed)
    draws = [np.arange(prompts), *rng.integers(prompts, size=(size, prompts))]
    rows = []
    for share in SHARES:
        found = {name: np.full((len(draws), 2), np.nan) for name in curves}
        for index, drawn in enumerate(draws):
            means = {
                name: (given[drawn].mean(axis=0), np.nanmean(held[drawn], axis=0))
                for name, (given, held) in curves.items()
            }
            start, most = means[PLAIN][0][0], means[PLAIN][0].max()
            level = start + share * (most - start)
            for name, (given, held) in means.items():
                place = reaching(grid, given, level - 1e-9)
                if grid[1] < place < np.inf:
                    found[name][index] = place, np.interp(place, grid, held)
        unsteered = np.nanmean(curves[PLAIN][1][:, 0])
        lost = unsteered - found[PLAIN][0, 1]
        for name, values in found.items():
            row: dict[str, object] = {"way": name, "share": share, "coefficient": values[0, 0]}
            for word, column in (
                ("coherence", values[:, 1]),
                ("more", values[:, 1] - found[PLAIN][:, 1]),
            ):
                able = column[1:][np.isfinite(column[1:])]
                low, high = percentiles(able, 0.95) if len(able) else (np.nan, np.nan)
                row |= {word: column[0], f"{word}_low": low, f"{word}_high": high}
            rows.append(row | {"lost": lost, "reached": np.isfinite(values[1:, 1]).mean()})
    return pd.DataFrame(rows)


def _check(ways: Mapping[str, object], grid: Floats) -> None:
    if PLAIN not in ways:
        raise ValueError(f"ways {list(ways)!r}: name one {PLAIN!r}, which the others are held to")
    if len(grid) < 3 or grid[0] != 0 or (np.diff(grid) <= 0).any():
        raise ValueError(f"coefficients {grid.tolist()!r}: give three at least, rising from 0")


def over_traits(table: pd.DataFrame) -> pd.DataFrame:
    """The comparison over several traits: means with Student's 95 % intervals over traits.

    table  rows of `compare_at` with `trait`

    One row per `way` and `share`: `more`, `coherence`, `lost`, each with `…_low`, `…_high`; of the
    `traits` in which the way and plain steering can be told at that share (of those `studied`),
    `ahead`, in how many its coherence is clearly (by the interval over prompts) above plain
    steering's, `behind`, and `same`, in how many it is the very same.
    """
    rows = []
    for (share, way), own in table.groupby(["share", "way"], sort=False):
        known = own[own["more"].notna()]
        row: dict[str, object] = {"way": way, "share": share}
        for name in ("more", "coherence", "lost"):
            mean = of_clusters(known[name], known["trait"])
            row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
        row["traits"], row["studied"] = known["trait"].nunique(), own["trait"].nunique()
        row["same"] = int((known["more"].abs() < 1e-9).sum())
        row["ahead"] = int((known["more_low"] > 0).sum())
        row["behind"] = int((known["more_high"] < 0).sum())
        rows.append(row)
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """`over_traits` in words, of the ways beside plain steering."""
    mine = table[table["way"] != PLAIN]
    return pd.DataFrame(
        {
            "share of plain steering's most": [f"{share:.0%}" for share in mine["share"]],
            "way": mine["way"].to_numpy(),
            "plain lost": [f"{lost:.2f}" for lost in mine["lost"]],
            "more coherent by": [estimate(row, "more") for _, row in mine.iterrows()],
            "clearly more, less, the same": [
                f"{row['ahead']}, {row['behind']}, {row['same']} of {row['traits']}"
                for _, row in mine.iterrows()
            ],
            "not told": (mine["studied"] - mine["traits"]).to_numpy(),
        }
    )


def verdict(table: pd.DataFrame) -> str:
    """In words, what comes of keeping to the manifold; rows of `over_traits`."""
    said = []
    for way, own in table[table["way"] != PLAIN].groupby("way", sort=False):
        clear = own[(own["more_low"] > 0) | (own["more_high"] < 0)]
        if clear.empty:
            low, high = number(own["more_low"].min()), number(own["more_high"].max())
            said.append(f"{way}: not clearly, at any share (intervals from {low} to {high})")
            continue
        parts = [
            f"{'more' if row['more'] > 0 else 'less'} coherent by {abs(row['more']):.2f} at "
            f"{row['share']:.0%}"
            for _, row in clear.iterrows()
        ]
        said.append(f"{way}: {', '.join(parts)}")
    looked = len(table[table["way"] != PLAIN])
    return (
        f"More or less coherent than plain steering at equal trait, clear of zero over traits "
        f"({looked} intervals of 95 % were looked at): {'; '.join(said)}."
    )
