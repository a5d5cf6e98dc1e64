"""Heat maps: a table as colours; of how alike vectors are."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import INK, TEMPLATE, WIDTH, redrawable
from workbench.support.wording import number

# Height of a cell, and the room around all of them, in pixels.
_CELL, _AROUND = 26, 90
# As many cells as have their number written in them.
WRITTEN = 120
_GREYED = "#E6E6E6"
_DARK = 0.5  # of cosines: on the cells of larger ones white is read better than black


def heat(
    wide: pd.DataFrame,
    names: Sequence[str],
    unit: str,
    title: str,
    where: str,
    *,
    size: float | None = None,
    within: float = 0.0,
    spec: str = ".2g",
    unsure: pd.DataFrame | None = None,
    said: pd.DataFrame | None = None,
    note: str = "",
) -> go.Figure:
    """A table as colours: white is 0, and red and blue are as strong on both sides of it; from
    white to blue where nothing is below 0.

    names   of its columns
    where   plotly's words for a cell's place, such as "layer %{y}, %{x}"
    size    the end of the scale on both sides of 0 (default: as the values need)
    within  values of at most this size are grey; only with `size`
    spec    Python's format of the numbers in the cells
    unsure  bool, the cells that are grey, their number in parentheses, and that the scale leaves
            out
    said    words for each cell's label, after its number
    note    a line below
    """
    values = wide.to_numpy(dtype=float)
    marked = np.zeros(values.shape, dtype=bool) if unsure is None else unsure.to_numpy(dtype=bool)
    sure = np.isfinite(values) & ~marked
    known = values[sure if sure.any() else np.isfinite(values)]
    largest = max(float(np.abs(known).max(initial=0)), 1e-12)
    scale: str | list[tuple[float, str]]
    if size is not None:
        ends, scale = (-size, size), _greyed(within / size)
    elif (known < 0).any():
        ends, scale = (-largest, largest), "RdBu_r"
    else:
        ends, scale = (0.0, largest), "Blues"
    few = values.size <= WRITTEN
    text = [[number(each, spec) if each == each else "" for each in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            z=np.where(marked, np.nan, values),
            text=np.where(marked, "", text),
            zmin=ends[0],
            zmax=ends[1],
            colorscale=scale,
            colorbar={
                "title": {"text": html.escape(unit), "side": "right", "font": {"size": 13}},
                "thickness": 12,
                "outlinewidth": 0,
            },
        )
    )
    if marked.any():
        figure.add_heatmap(
            z=np.where(marked, values, np.nan),
            text=np.where(marked, [[f"({each})" for each in row] for row in text], ""),
            colorscale=[(0.0, _GREYED), (1.0, _GREYED)],
            showscale=False,
        )
    words = "" if said is None else "%{customdata}"
    figure.update_traces(
        x=list(names),
        y=[html.escape(str(name)) for name in wide.index],
        texttemplate="%{text}" if few else None,
        textfont={"size": 11},
        customdata=None if said is None else said.to_numpy(dtype=object),
        hovertemplate=f"{where}: %{{z:.3g}}{words}<extra></extra>",
        hoverongaps=not marked.any(),
        xgap=1,
        ygap=1,
    )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=_AROUND + _CELL * len(wide) + (30 if title else 0) + (6 if note else 0),
        margin={"t": 20 + (30 if title else 0), "b": 70 + (6 if note else 0), "r": 20},
        title={"text": html.escape(title)},
    )
    if note:
        figure.add_annotation(
            text=html.escape(note),
            xref="paper",
            yref="paper",
            x=0,
            y=0,
            xshift=-62,
            yshift=-74,
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 12},
        )
    # Plotly would read some of the labels as numbers.
    figure.update_xaxes(type="category", showgrid=False, ticks="")
    figure.update_yaxes(type="category", showgrid=False, ticks="")
    return figure


@redrawable
def cosine_map(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Cosines between vectors, or between the directions of layers; grey within chance.

    Args:
        frame: rows of `cosines.cosines` (names downwards and across) or of
            `cosines.cosines_across_layers` (layers upwards and across), one per cell, with
            `first`, `second`, `cosine` and `chance`, the size below which a cell is grey.
        title: above the figure.
    """
    if frame.empty:
        raise ValueError("no cosine to draw: the frame has no rows")
    wide = frame.pivot(index="first", columns="second", values="cosine")
    wide = wide.reindex(index=frame["first"].unique(), columns=frame["second"].unique())
    chance = float(frame["chance"].iloc[0])
    names = [html.escape(str(name)) for name in wide.columns]
    place = "%{y} and %{x}"
    figure = heat(
        wide, names, "Cosine", title, place, size=1.0, within=chance, spec="z.2f"
    )  # no minus before 0.00
    layers = "layer" not in frame.columns
    if layers:
        # One vector with itself needs no word on which of two an axis is of.
        one = np.allclose(wide, wide.T) if len(wide) == len(wide.columns) else False
        figure.update_xaxes(title_text="Layer" if one else "Layer of the second vector")
        figure.update_yaxes(title_text="Layer" if one else "Layer of the first vector")
    else:
        figure.update_yaxes(autorange="reversed")
    figure.add_annotation(
        text=f"grey: within ±{chance:.2g}, as 95 % of random directions are",
        x=1,
        xref="paper",
        xanchor="right",
        y=1,
        yref="paper",
        yanchor="bottom",
        showarrow=False,
        font={"size": 12},
    )
    dark = wide.abs().to_numpy() > max(_DARK, chance)
    text = np.array(figure.data[0].text, dtype=object)
    white = np.vectorize('<span style="color:white">{}</span>'.format)(text)
    figure.update_traces(text=np.where(dark, white, text), textfont_color=INK)
    figure.update_traces(colorbar={"tickvals": [-1, 0, 1], "ticktext": ["−1", "0", "1"]})
    # A line more above the cells, and none below them where no axis has a name.
    unnamed = 0 if layers else 34
    figure.update_layout(
        margin={"t": 30 + (30 if title else 0), "b": 70 - unnamed},
        height=figure.layout.height + 10 - unnamed,
    )
    return figure


def _greyed(within: float) -> list[tuple[float, str]]:
    """Blue to red over -1 … 1, grey where the size is at most `within`."""
    cold, warm = ("#0B3C6F", "#92C5DE"), ("#F4A582", "#7A0F20")
    low, high = (1 - min(within, 0.999)) / 2, (1 + min(within, 0.999)) / 2
    return [
        (0.0, cold[0]), (low, cold[1]), (low, _GREYED),
        (high, _GREYED), (high, warm[0]), (1.0, warm[1]),
    ]  # fmt: skip
