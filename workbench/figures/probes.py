"""What probes read at each layer and token, as a map of colours."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import redrawable
from workbench.figures.maps import heat
from workbench.support.wording import number

# What can be shown of probes: in words, and what no reading at all gives (None: the chance).
_READ = {
    "accuracy": ("Held-out accuracy", None),
    "auc": ("Held-out AUC", 0.5),
    "selectivity": ("Selectivity", 0.0),
    "beyond_words": ("Accuracy beyond words", 0.0),
}
# Behind cells without a value.
_BLANK = "#E6E6E6"


@redrawable
def probe_map(frame: pd.DataFrame, *, value: str = "accuracy", title: str = "") -> go.Figure:
    """What probes read at each layer and token: white at chance and below it, grey where there are
    too few texts.

    Args:
        frame: the table of `probes.probe`: one row per layer and position.
        value: "accuracy", "auc", "selectivity" (accuracy less that on shuffled labels), or
            "beyond_words" (less that of words alone, where the table has it).
        title: above the figure.

    The hover has the value's interval, the chance, the shuffled labels' accuracy and the number of
    texts of a cell.
    """
    known_values = [each for each in _READ if each in frame]
    if value not in known_values:
        raise ValueError(f"no map of {value!r}; choose one of {', '.join(map(repr, known_values))}")
    known = frame.dropna(subset=value)
    if known.empty:
        raise ValueError("no cell has a value: give probes a smaller `fewest`, or more texts")
    words, least = _READ[value]
    chance = f"{least:g}" if least is not None else ""
    if least is None:
        least = float(known["chance"].min())
        shares = (f"{each:.0%}" for each in (least, known["chance"].max()))
        chance = " to ".join(dict.fromkeys(shares))
    spec = ".2f" if value == "auc" else ".0%"
    positions = list(dict.fromkeys(frame["position"]))
    said = frame.assign(said=[_cell_words(row, value) for _, row in frame.iterrows()])
    wide, hover = (
        said.pivot(index="layer", columns="position", values=column).reindex(columns=positions)
        for column in (value, "said")
    )
    names = [each if isinstance(each, str) else number(each, "d") for each in positions]
    figure = heat(wide, names, words, title, "", spec=spec, note=f"chance: {chance}")
    figure.update_traces(
        zmin=least,
        zmax=1 - float(known["chance"].min()) if least == 0 else 1,
        colorscale="Blues",
        colorbar_tickformat=spec,
        customdata=hover.to_numpy().tolist(),
        hovertemplate="layer %{y}, token %{x}: %{customdata}<extra></extra>",
    )
    figure.update_xaxes(title_text=_counted_from(positions))
    figure.update_yaxes(title_text="Layer (output of the block)")
    return figure.update_layout(plot_bgcolor=_BLANK if wide.isna().any(axis=None) else "white")


def _cell_words(row: pd.Series, value: str) -> str:
    """A cell's value with all that stands behind it."""
    count = f"{int(row['texts'])} texts in {int(row['groups'])} groups"
    if row[value] != row[value]:
        return f"too few, {count}"
    spec = ".2f" if value == "auc" else ".1%"
    found, low, high = (number(row[f"{value}{end}"], spec) for end in ("", "_low", "_high"))
    return (
        f"{found} [{low}, {high}]<br>chance {row['chance']:.1%}, "
        f"shuffled labels {row['control']:.1%}<br>{count}"
    )


def _counted_from(positions: Sequence[int | str]) -> str:
    """What the tokens are counted from, in words."""
    numbers = [each for each in positions if not isinstance(each, str)]
    if not numbers:
        return "Tokens whose mean is read"
    if max(numbers) < 0:
        return "Token, counted from the end of the text (−1: its last)"
    if min(numbers) >= 0:
        return "Token, counted from the start of the text (0: its first)"
    return "Token, counted from the start of the text (0: its first) or its end (−1: its last)"
