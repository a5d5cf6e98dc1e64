"""How the frame of a sweep is read: its axis, and which of its rows are draws of chance."""

from __future__ import annotations

import pandas as pd


def coefficient_axis(frame: pd.DataFrame) -> tuple[str, str]:
    """The column that holds the coefficient, and its unit: "norm" where norms are known."""
    known = "coefficient_norm" in frame.columns and bool(frame["coefficient_norm"].notna().all())
    return ("coefficient_norm", "norm") if known else ("coefficient", "raw")


def is_random(kind: object) -> bool:
    """Whether a kind of rows is a draw of a random vector: "random", "random 2", ..."""
    return str(kind).startswith("random")
