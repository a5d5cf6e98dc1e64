"""What the part of a vector along the manifold does to preference and to utility, beside the part
off it: at equal norm, and at equal KL of the next token.

    gain = ±(preference(±c) - preference(0))        cost = utility(0) - utility(±c)
    both = B(0) - B(±c),  B = (log P(positive) + log P(negative)) / 2

In nats. Utility rises with |preference| / 2 by arithmetic (odds.py), so that what gains less costs
more; `both` is free of that. A random direction's two parts, steered by as well, tell what any step
of the kind would do. Reads the tables of benchmarks/study_parts.py; runs no model. A check in the
manner of a mediation analysis, not one: the two parts are steered by one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.statistics.curves import reaching
from workbench.statistics.strata import of_clusters
from workbench.studies.manifold_findings import CASE, side
from workbench.support import tables
from workbench.support.wording import estimate, listed

PARTS = {
    "whole": "whole vector",
    "inside": "along the tangent",
    "outside": "off the tangent",
    "random inside": "random, along",
    "random outside": "random, off",
}
# The same difference less that of a random direction's parts: what is the vector's own.
BEYOND = "the vector's own difference"
MEASURES = ("gain", "cost", "both", "size")
ABOUT = (
    "Each difference of means is cut into its part along the tangent of the manifold and the rest, "
    "and each part is steered by alone: at equal norm, and where it moves the next token's "
    "distribution as far; so are the two parts of a random direction. *Gain*: of preference in the "
    "direction steered; *cost*: the fall of utility, which holds |preference| / 2 by arithmetic; "
    "*both*: the fall of the two answers' mean log-probability, which does not; nats, means over "
    "sides with Student's 95 % intervals over traits. *Signs*: in how many traits the mean of the "
    "difference is above 0, of gain and of both: one trait of great gains widens an interval and "
    "moves no sign; 5 of 6 happen by chance one time in five. One random direction a case is few: "
    "its own gain, which is 0 by symmetry, is off by some tenths of a nat."
)
NORMS = (0.265156, 0.395342, 0.589445)
NATS = (0.1, 0.3, 1.0)
_SIDE = [*CASE, "sign", "part"]


def studied(directory: str | Path) -> pd.DataFrame:
    """Every row of the study of parts, with its `model`; none where there is none."""
    begins, found = "study_parts_", []
    for name in tables.table_names(directory):
        if name.startswith(begins):
            table = tables.load_table(name, directory=directory)
            table.attrs = {}
            found.append(table.assign(model=name.removeprefix(begins)))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def curves(table: pd.DataFrame) -> pd.DataFrame:
    """One row per side, part and size from 0 on: `size`, `gain`, `cost`, `both`, `kl`, `share`.

    table  rows of `studied`, or of one vector with the columns of `CASE`, `part`,
           `coefficient_norm`, `preference`, `utility`, `both`, `kl`
    """
    parts = []
    for _, own in table.groupby([*CASE, "part"], sort=False):
        for sign in (1, -1):
            half = side(own, sign).assign(sign=sign)
            half["gain"] = sign * (half["preference"] - half["preference"].iloc[0])
            half["cost"] = half["utility"].iloc[0] - half["utility"]
            half["both"] = half["both"].iloc[0] - half["both"]
            parts.append(half)
    return pd.concat(parts, ignore_index=True)


def matched(
    found: pd.DataFrame, *, norms: Sequence[float] = NORMS, nats: Sequence[float] = NATS
) -> pd.DataFrame:
    """Gain and costs of every side and part at these norms, and where KL first reaches these nats.

    found  rows of `curves`

    Columns `at` ("norm" or "kl"), `level`, `size` (the norm it takes), `gain`, `cost`, `both`; NaN
    where a KL is not reached within the range.
    """
    rows = []
    for key, own in found.groupby(_SIDE, sort=False):
        about = dict(zip(_SIDE, key, strict=True))
        sizes = own["size"].to_numpy()
        rising = np.maximum.accumulate(own["kl"].to_numpy())
        for at, levels in (("norm", norms), ("kl", nats)):
            for level in levels:
                size = float(level) if at == "norm" else reaching(sizes, rising, level)
                known = np.isfinite(size) and size <= sizes[-1] + 1e-6
                row = {**about, "at": at, "level": level, "size": size if known else np.nan}
                for name in ("gain", "cost", "both"):
                    row[name] = float(np.interp(size, sizes, own[name])) if known else np.nan
                rows.append(row)
    return pd.DataFrame(rows)


def compared(rows: pd.DataFrame, *, cluster: str = "trait") -> pd.DataFrame:
    """Means over sides with Student's 95 % intervals over traits, a row per (`at`, `level`,
    `part`): `MEASURES`, each with `…_low`, `…_high`; the same of part "inside − outside", of sides
    where both are known, of the random direction's, and of the one less the other; `sides`, and in
    how many of the `clusters` the mean `gain` and `both` are above 0 (`…_above`).

    rows  of `matched`
    """
    keys = [name for name in _SIDE if name != "part"]
    found = []
    for (at, level), own in rows.groupby(["at", "level"], sort=False):
        wide = own.pivot(index=keys, columns="part", values=list(MEASURES))
        named = [(part, own[own["part"] == part]) for part in PARTS]
        for begins in ("", "random "):
            gap = {n: wide[n][f"{begins}inside"] - wide[n][f"{begins}outside"] for n in MEASURES}
            named.append((f"{begins}inside − outside", pd.DataFrame(gap).reset_index()))
        beyond = {
            n: (wide[n]["inside"] - wide[n]["outside"])
            - (wide[n]["random inside"] - wide[n]["random outside"])
            for n in MEASURES
        }
        named.append((BEYOND, pd.DataFrame(beyond).reset_index()))
        for part, mine in named:
            row: dict[str, object] = {"at": at, "level": level, "part": part}
            for name in MEASURES:
                mean = of_clusters(mine[name], mine[cluster])
                row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
            means = mine.groupby(cluster)[["gain", "both"]].mean().dropna()
            row |= {f"{name}_above": int((means[name] > 0).sum()) for name in means}
            row["clusters"] = len(means)
            row["sides"] = int(mine["gain"].notna().sum())
            found.append(row)
    return pd.DataFrame(found)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The comparison in words, at the middle norm and the middle KL."""
    middle = {"norm": NORMS[1], "kl": NATS[1]}
    table = table[np.isclose(table["level"], table["at"].map(middle))]
    units = {"norm": "{:.2g} norms", "kl": "KL {:g} nats"}
    return pd.DataFrame(
        {
            "at": [
                units[at].format(level)
                for at, level in zip(table["at"], table["level"], strict=True)
            ],
            "part": [PARTS.get(part, part) for part in table["part"]],
            "gain": [estimate(row, "gain", "+.1f") for _, row in table.iterrows()],
            "cost": [estimate(row, "cost", "+.1f") for _, row in table.iterrows()],
            "both": [estimate(row, "both", "+.1f") for _, row in table.iterrows()],
            "signs": [
                f"{row['gain_above']}, {row['both_above']} of {row['clusters']}"
                for _, row in table.iterrows()
            ],
            "norms": [
                f"{row['level']:.2f}" if row["at"] == "norm" else estimate(row, "size", ".2f")
                for _, row in table.iterrows()
            ],
            "sides": table["sides"].to_numpy(),
        }
    )


def verdict(table: pd.DataFrame) -> str:
    """In words, what the part along the tangent gains and costs beyond the part off it, at equal
    norm and at equal KL, and what of that a random direction's parts show too."""
    said = []
    for at, words, unit in (("norm", "norm", "norms"), ("kl", "KL", "nats")):
        rows = table[table["at"] == at]
        if rows.empty:
            continue
        gap, chance, own = (
            rows[rows["part"] == part]
            for part in ("inside − outside", "random inside − outside", BEYOND)
        )
        levels = listed([f"{level:.2g}" for level in gap["level"]])
        signs = listed([str(count) for count in gap["gain_above"]])
        said.append(
            f"At equal {words} ({levels} {unit}) the part along the tangent gains more preference "
            f"than the part off it in {signs} of {gap['clusters'].max()} traits "
            f"({_each(gap, 'gain')} nats), and costs the two answers {_each(gap, 'both')} nats "
            f"more; of a random direction the parts differ by {_each(chance, 'both')}, which "
            f"leaves {_each(own, 'both')}."
        )
    return " ".join(said)


def _each(rows: pd.DataFrame, name: str) -> str:
    return listed([estimate(row, name, "+.1f") for _, row in rows.iterrows()])
