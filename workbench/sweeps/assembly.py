"""The frame of a sweep, put together from its chunks, and what to do where some are missing.

A sweep that was stopped is told by its attrs: `complete`, and `missing`, a list of records with
`vector`, `coefficient` (as it was asked for, in `attrs["unit"]`) and `prompts`, the indices of the
prompts that have no text there. A frame without these attrs counts as complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.sweeps.planning import OWN, Rows


def assemble(
    rows: Rows, parts: Sequence[pd.DataFrame | None], about: Mapping[str, Any]
) -> pd.DataFrame:
    """The frames of the chunks (None where one is missing) as one, in the order of the plan.

    Every row of the plan is there once at most; which are not, the attrs say beside `about`.
    Raises ValueError for rows that the plan does not have, or that stand twice.
    """
    finished = [part for part in parts if part is not None]
    columns = [name for name in OWN if name != "kl" or about.get("kl")]
    frame = pd.concat(finished or [pd.DataFrame(columns=columns)], ignore_index=True)
    done = np.asarray(frame["row"], dtype=int)
    foreign = sorted(set(done.tolist()) - set(rows.row.tolist()))
    if foreign or len(set(done.tolist())) < len(done):
        twice = frame.loc[frame["row"].duplicated(), "row"].tolist()
        raise ValueError(
            f"the chunks hold rows twice ({twice[:5]}) or that are not in the plan "
            f"({foreign[:5]}): remove the directory of the sweep and run it again"
        )
    frame = frame.sort_values("row", ignore_index=True).drop(columns="row")
    lacking = _lacking(rows, done)
    frame.attrs = {
        **about,
        "complete": not lacking,
        "rows_planned": len(rows),
        "missing": lacking,
    }
    return frame


def is_complete(frame: pd.DataFrame) -> bool:
    """Whether every text that the sweep planned is in the frame."""
    return bool(frame.attrs.get("complete", True))


def missing(frame: pd.DataFrame) -> pd.DataFrame:
    """Which texts a stopped sweep lacks: `vector`, `coefficient`, `prompts` (their indices)."""
    records = frame.attrs.get("missing", [])
    return pd.DataFrame(records, columns=["vector", "coefficient", "prompts"])


def require_complete(frame: pd.DataFrame, purpose: str) -> None:
    """Raise ValueError where the sweep was stopped, saying what lacks and what to do.

    purpose  what needs all of it, as the message begins: "a ceiling"
    """
    if is_complete(frame):
        return
    planned = frame.attrs.get("rows_planned", "?")
    gaps = missing(frame)
    own = gaps.loc[gaps["vector"] == "vector", "coefficient"].tolist()
    shown = ", ".join(f"{value:+.3g}" for value in own[:6]) + (", …" if len(own) > 6 else "")
    where = f"; coefficients without all prompts: {shown}" if own else ""
    raise ValueError(
        f"{purpose} needs a whole sweep, but this one was stopped: {len(frame)} of {planned} "
        f"texts{where}. Run the sweep again with the same directory to finish it, or take "
        "assembly.whole_prompts(frame)"
    )


def whole_prompts(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of those prompts that have a text at every coefficient, for each vector by itself.

    So what is left of a stopped sweep is a smaller whole one: `complete` is True, and
    `attrs["left_out"]` has the indices of the prompts left out, by vector. They are not left out
    by chance: chunks begin with the longest prompts.
    """
    gaps = {
        kind: sorted({int(index) for found in part["prompts"] for index in found})
        for kind, part in missing(frame).groupby("vector", sort=False)
    }
    left = [
        index in gaps.get(kind, ())
        for kind, index in zip(frame["vector"], frame["prompt_index"], strict=True)
    ]
    kept = frame[~np.array(left, dtype=bool)].reset_index(drop=True)
    kept.attrs = {
        **frame.attrs,
        "complete": True,
        "rows_planned": len(kept),
        "missing": [],
        "left_out": gaps,
    }
    return kept


def _lacking(rows: Rows, done: np.ndarray) -> list[dict[str, Any]]:
    """The planned rows that are not done, as JSON values."""
    gone = rows.take(np.flatnonzero(~np.isin(rows.row, done)))
    found: dict[tuple[str, float], list[int]] = {}
    for kind, value, index in zip(gone.kind, gone.value, gone.index, strict=True):
        found.setdefault((str(kind), float(value)), []).append(int(index))
    return [
        {"vector": kind, "coefficient": value, "prompts": prompts}
        for (kind, value), prompts in found.items()
    ]
