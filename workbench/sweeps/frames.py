"""How the frame of a sweep is read: its axis, and which of its rows are draws of chance."""

from __future__ import annotations

import pandas as pd


def coefficient_axis(frame: pd.DataFrame) -> tuple[str, str]:
    """The column that holds the coefficient, and its unit: "norm" where norms are known."""
    known = "coefficient_norm" in frame.columns and bool(frame["coefficient_norm"].notna().all())
    return ("coefficient_norm", "norm") if known else ("coefficient", "raw")


def axis_title(unit: str) -> str:
    """What a figure's axis of coefficients is called."""
    units = {"norm": "residual-stream norms", "raw": "raw: multiples of the change as it is"}
    return f"Steering coefficient ({units[unit]})"


def is_unsteered(frame: pd.DataFrame) -> pd.Series:
    """Which rows are texts of the unsteered model: at coefficient 0, or asked for in the prompt."""
    return (frame["coefficient"] == 0) & frame["vector"].isin(["vector", "prompted"])


def is_random(kind: object) -> bool:
    """Whether a kind of rows is a draw of a random vector: "random", "random 2", ..."""
    return str(kind).startswith("random")
