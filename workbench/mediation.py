"""What the part of a vector along the manifold does to preference and to utility, beside the part
off it: at equal norm, and at equal KL of the next token.

    gain = ±(preference(±c) - preference(0))        cost = utility(0) - utility(±c)

Log-odds in nats. Reads the tables of benchmarks/study_parts.py; runs no model. A check in the
manner of a mediation analysis, not one: the two parts are steered by one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from workbench import tables
from workbench.curves import reaching
from workbench.intervals import Interval
from workbench.manifold_findings import CASE, side
from workbench.strata import of_clusters
from workbench.wording import interval

PARTS = {"whole": "whole vector", "inside": "along the tangent", "outside": "off the tangent"}
ABOUT = (
    "Each difference of means is cut into its part along the tangent of the manifold and the rest, "
    "and each part is steered by alone: at equal norm, and where it moves the next token's "
    "distribution as far. *Gain*: of preference in the direction steered; *cost*: the fall of "
    "utility; log-odds in nats, means over sides with Student's 95 % intervals over traits."
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
    """One row per side, part and size from 0 on: `size`, `gain`, `cost`, `kl`, `share`.

    table  rows of `studied`, or of one vector with the columns of `CASE`, `part`,
           `coefficient_norm`, `preference`, `utility`, `kl`
    """
    parts = []
    for _, own in table.groupby([*CASE, "part"], sort=False):
        for sign in (1, -1):
            half = side(own, sign).assign(sign=sign)
            half["gain"] = sign * (half["preference"] - half["preference"].iloc[0])
            half["cost"] = half["utility"].iloc[0] - half["utility"]
            parts.append(half)
    return pd.concat(parts, ignore_index=True)


def matched(
    found: pd.DataFrame, *, norms: Sequence[float] = NORMS, nats: Sequence[float] = NATS
) -> pd.DataFrame:
    """Gain and cost of every side and part at these norms, and where KL first reaches these nats.

    found  rows of `curves`

    Columns `at` ("norm" or "kl"), `level`, `size` (the norm it takes), `gain`, `cost`; NaN where
    a KL is not reached within the range.
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
                for name in ("gain", "cost"):
                    row[name] = float(np.interp(size, sizes, own[name])) if known else np.nan
                rows.append(row)
    return pd.DataFrame(rows)


def compared(rows: pd.DataFrame, *, cluster: str = "trait") -> pd.DataFrame:
    """Means over sides with Student's 95 % intervals over traits, a row per (`at`, `level`,
    `part`): `gain`, `cost` and `size`, each with `…_low`, `…_high`; and the same of part "inside −
    outside", of sides where both are known; `sides`.

    rows  of `matched`
    """
    keys = [name for name in _SIDE if name != "part"]
    found = []
    for (at, level), own in rows.groupby(["at", "level"], sort=False):
        wide = own.pivot(index=keys, columns="part", values=["gain", "cost", "size"])
        gap = pd.DataFrame(
            {n: wide[n]["inside"] - wide[n]["outside"] for n in ("gain", "cost", "size")}
        ).reset_index()
        named = [(part, own[own["part"] == part]) for part in PARTS]
        for part, mine in [*named, ("inside − outside", gap)]:
            row: dict[str, object] = {"at": at, "level": level, "part": part}
            for name in ("gain", "cost", "size"):
                mean = of_clusters(mine[name], mine[cluster])
                row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
            row["sides"] = int(mine["gain"].notna().sum())
            found.append(row)
    return pd.DataFrame(found)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The comparison in words."""

    def words(row: pd.Series, name: str, spec: str) -> str:
        ends = (row[name], row[f"{name}_low"], row[f"{name}_high"])
        return "–" if not np.isfinite(ends[0]) else interval(Interval(*ends, 2), spec)

    units = {"norm": "{:.2g} norms", "kl": "KL {:g} nats"}
    return pd.DataFrame(
        {
            "at": [
                units[at].format(level)
                for at, level in zip(table["at"], table["level"], strict=True)
            ],
            "part": [PARTS.get(part, part) for part in table["part"]],
            "gain in preference, nats": [words(row, "gain", "+.1f") for _, row in table.iterrows()],
            "cost in utility, nats": [words(row, "cost", "+.1f") for _, row in table.iterrows()],
            "norms": [
                f"{row['level']:.2f}" if row["at"] == "norm" else words(row, "size", ".2f")
                for _, row in table.iterrows()
            ],
            "sides": table["sides"].to_numpy(),
        }
    )


def verdict(table: pd.DataFrame) -> str:
    """In words, which part gains more and which costs more, at each level, where that is clear of
    zero."""
    said = []
    for _, row in table[table["part"] == "inside − outside"].iterrows():
        at = f"{row['level']:.2g} norms" if row["at"] == "norm" else f"a KL of {row['level']:g}"
        each = []
        for name, what in (("gain", "gains more preference"), ("cost", "costs more utility")):
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            if not np.isfinite(row[name]):
                each.append(f"which part {what} is not known")
            elif low > 0 or high < 0:
                part = "along" if row[name] > 0 else "off"
                each.append(f"the part {part} the tangent {what}")
            else:
                each.append(f"neither part clearly {what}")
        said.append(f"At {at} {each[0]}, and {each[1]}.")
    return " ".join(said)
