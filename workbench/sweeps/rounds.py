"""Several sweeps over other coefficients of the same vector and prompts, as one."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workbench.sweeps.slopes import slope_records


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rounds of a sweep in one frame, one after the other, with attrs that cover all."""
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs = {
        **frames[0].attrs,
        "coefficients": sorted(tried for part in frames for tried in part.attrs["coefficients"]),
        "complete": all(part.attrs["complete"] for part in frames),
        "rows_planned": sum(part.attrs["rows_planned"] for part in frames),
        "missing": [record for part in frames for record in part.attrs["missing"]],
    }
    frame.attrs["slopes"] = slope_records(frame)
    return frame


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows as one call of `sweep` would order them: by vector, prompt and coefficient."""
    kinds = {name: place for place, name in enumerate(frame["vector"].unique())}
    ordered = (
        frame.assign(kind=frame["vector"].map(kinds))
        .sort_values(["kind", "prompt_index", "coefficient"], ignore_index=True, kind="stable")
        .drop(columns="kind")
    )
    ordered.attrs = frame.attrs
    return ordered
