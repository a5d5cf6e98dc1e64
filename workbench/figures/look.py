"""How every figure looks: colours, type, panels, bands, and text made safe.

Knows nothing of what is drawn. Colours are those of Okabe and Ito (2008), which readers with any
common colour vision can tell apart. Sizes are chosen for one column of a paper: 560 pixels printed
85 mm wide give letters of 6 to 7 pt.
"""

import html
import json
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, INK, GREY = "#E69F00", "#56B4E9", "#222222", "#8C8C8C"
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x", "cross")
WIDTH = 560
Arguments = ParamSpec("Arguments")
# Heights in pixels: of a panel, between two, under the last, of a row of a legend.
PANEL, GAP, BELOW, LEGEND_ROW = 135, 38, 58, 29

_AXIS = {
    "showline": True,
    "linecolor": INK,
    "linewidth": 1,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": INK,
    "tickfont": {"size": 13},
    "title": {"font": {"size": 14}, "standoff": 8},
    "gridcolor": "#EAEAEA",
    "zeroline": False,
    "automargin": True,
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": "Arial, Liberation Sans, Helvetica, sans-serif",
            "size": 14,
            "color": INK,
        },
        "colorway": list(COLORS),
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "margin": {"l": 70, "r": 14, "t": 40, "b": 56},
        "title": {"font": {"size": 15}, "x": 0.01, "xanchor": "left", "yref": "container"},
        "legend": {"font": {"size": 13}, "bgcolor": "rgba(255,255,255,0)"},
        "hoverlabel": {"font": {"size": 12}, "align": "left", "bgcolor": "white"},
        "hovermode": "closest",
        # Beside the plot: above it lie the labels of the marks.
        "modebar": {"orientation": "v"},
    }
)


def redrawable(draw: Callable[Arguments, go.Figure]) -> Callable[Arguments, go.Figure]:
    """Note the function's name and keyword arguments, as JSON, in the figure's `layout.meta`."""

    @wraps(draw)
    def drawn(*frame: Arguments.args, **arguments: Arguments.kwargs) -> go.Figure:
        plain: Any = json.loads(json.dumps(arguments, default=_plain, sort_keys=True))
        figure = draw(*frame, **plain)  # pyright: ignore[reportCallIssue] - the same, through JSON
        return figure.update_layout(meta={"function": draw.__name__, "arguments": plain})

    return drawn


def _plain(value: Any) -> Any:
    """What JSON cannot say by itself: numpy numbers and arrays, frames, objects with `marks()`."""
    if hasattr(value, "marks"):
        return value.marks()
    if isinstance(value, pd.DataFrame):
        return value.to_dict("records")
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a figure's arguments are plain values, not {type(value).__name__}: {value!r}")


def safe(text: object, *, width: int = 64, limit: int = 400) -> str:
    """Text of a model, made safe and readable for a hover label.

    Escaped, so that nothing in it is read as markup; wrapped to `width` letters a line; cut at
    `limit` letters.
    """
    plain = "" if text is None or text is pd.NA or text != text else str(text)
    plain = "".join(map(printable, plain if len(plain) <= limit else plain[: limit - 1] + "…"))
    lines = [piece for line in plain.split("\n") for piece in textwrap.wrap(line, width) or [""]]
    return "<br>".join(html.escape(line) for line in lines)


def band(
    figure: go.Figure,
    row: int,
    line: pd.DataFrame,
    name: str,
    color: str,
    *,
    shade: float = 0.2,
    dash: str = "solid",
    named: bool = True,
) -> None:
    """A line (columns x, mean, low, high) with its interval shaded.

    `dash` is plotly's name of the line's pattern, `named` says whether the legend has the line.
    """
    name = html.escape(name)
    shaded(figure, line, color, shade, legendgroup=f"{row} {name}", row=row, col=1)
    figure.add_scatter(
        x=line["x"],
        y=line["mean"],
        mode="lines",
        name=name,
        showlegend=named,
        line={"color": color, "width": 2, "dash": dash},
        legendgroup=f"{row} {name}",
        legend=legend(row),
        hovertemplate=f"%{{y:.3g}} at %{{x:.3g}}<extra>{name}</extra>",
        row=row,
        col=1,
    )


def shaded(figure: go.Figure, line: pd.DataFrame, color: str, shade: float, **place: Any) -> None:
    """The area between two curves (columns x, low, high); `place` goes to plotly as it is."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(
        x=[*line["x"], *line["x"][::-1]],
        y=[*line["high"], *line["low"][::-1]],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},{shade})",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        **place,
    )


def error_bars(
    part: pd.DataFrame, column: str, color: str, *, low: str = "", high: str = "", width: int = 0
) -> dict[str, Any]:
    """Bars from `column` to the ends of its interval, the columns COLUMN_low and COLUMN_high unless
    they are named; `width` is that of the strokes across their tips, in pixels."""
    low, high = low or f"{column}_low", high or f"{column}_high"
    return {
        "type": "data",
        "symmetric": False,
        "array": part[high] - part[column],
        "arrayminus": part[column] - part[low],
        "color": color,
        "thickness": 1,
        "width": width,
    }


def widths(count: int, *, thinnest: float = 1.6, thickest: float = 4.4) -> list[float]:
    """Of the lines of a figure in the order in which they are drawn, in pixels: each is thinner
    than the one before, so that a line that lies on another does not hide it."""
    most = min(thickest, thinnest + 2 * (count - 1))
    return np.linspace(most, thinnest, count).tolist()


def growing(count: int, *, least: float = 4, most: float = 10) -> list[float]:
    """Sizes of the points along a curve, in pixels: they show which way it runs."""
    return np.linspace(least, most, count).tolist()


def stack(rows: int, above: int, title: str, panel: int = PANEL) -> go.Figure:
    """Empty panels above each other on one horizontal axis, each with a legend at its upper right.

    `above` is the room in pixels over the first panel, beside that of a title.
    """
    above += 30 if title else 0
    plot = rows * panel + (rows - 1) * GAP
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=GAP / plot)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + plot + BELOW,
        margin={"t": above},
        title={"text": html.escape(title)},
    )
    for row in range(1, rows + 1):
        figure.layout[legend(row)] = {
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1 - (row - 1) * (panel + GAP) / plot + 1 / plot,
            "yanchor": "bottom",
            "font": {"size": 12},
            "bgcolor": "rgba(255,255,255,0)",
            "itemwidth": 30,
        }
    return figure


def legend(row: int) -> str:
    """What plotly calls the legend of a panel, counted from 1."""
    return "legend" if row == 1 else f"legend{row}"


def legend_rows(names: Sequence[str]) -> int:
    """How many rows a panel's legend takes, as `LEGEND_ROW` pixels each, by its names' lengths."""
    room = WIDTH - 85
    used = [45 + 6.2 * len(name) for name in names]
    return max(1, -(-int(sum(used)) // room)) if used else 0


def align_legend(figure: go.Figure, row: int, names: Sequence[str]) -> None:
    """Give a legend of several rows columns of one width, so that the rows line up."""
    rows = legend_rows(names)
    if rows > 1:
        columns = -(-len(names) // rows)
        figure.layout[legend(row)].update(
            x=0, xanchor="left", entrywidthmode="pixels", entrywidth=(WIDTH - 130) / columns - 45
        )


def visible(token: object) -> str:
    """A token's text with its blanks to be seen: "␣" for a space, "↵" for a line's end.

    Other control characters, which no picture can hold, are named by their code.
    """
    text = str(token).replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    return "".join(printable(letter) for letter in text) or "(empty)"


def printable(letter: str) -> str:
    """The letter, or the code of one that has no shape, such as "\\x19"."""
    plain = letter.isprintable() or letter == "\n"
    return letter if plain else letter.encode("unicode_escape").decode("ascii")
