"""How every figure looks: colours, type, panels, bands, and text made safe.

Knows nothing of what is drawn. Colours are those of Okabe and Ito (2008), which readers with any
common colour vision can tell apart. Sizes are chosen for one column of a paper: 560 pixels printed
85 mm wide give letters of 6 to 7 pt.
"""

import html
import json
import textwrap
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, INK, GREY = "#E69F00", "#56B4E9", "#222222", "#8C8C8C"
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)
WIDTH = 560
Arguments = ParamSpec("Arguments")
PANEL, GAP, BELOW = 135, 38, 58  # heights in pixels: of a panel, between two, under the last

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


def interval(
    frame: pd.DataFrame, column: str, *, resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Mean of a column over prompts at every coefficient, with its 95 % bootstrap interval.

    Prompts are resampled whole, the same ones at every coefficient, because texts of one prompt
    are not independent. Several rows of one prompt at one coefficient are averaged first.

    Returns a frame with the columns x (the coefficient in residual norms), mean, low and high, in
    the column's own unit; coefficients at which no prompt has a value are left out.
    """
    table = frame.pivot_table(
        index="prompt_index", columns="coefficient_norm", values=column, aggfunc="mean"
    ).sort_index(axis=1)
    values = table.to_numpy(dtype=float)  # (prompts, coefficients)
    prompts = len(values)
    if prompts == 0:
        return pd.DataFrame(columns=["x", "mean", "low", "high"], dtype=float)
    weights = np.random.default_rng(seed).multinomial(
        prompts, np.full(prompts, 1 / prompts), size=resamples
    )  # (resamples, prompts)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        sums = weights @ np.where(known, values, 0)  # (resamples, coefficients)
        means = sums / (weights @ known)
    low, high = np.nanpercentile(means, [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {"x": table.columns, "mean": np.nanmean(values, axis=0), "low": low, "high": high}
    )


def band(
    figure: go.Figure,
    row: int,
    line: pd.DataFrame,
    name: str,
    color: str,
    *,
    shade: float = 0.2,
    named: bool = True,
) -> None:
    """A line of `interval` with its interval shaded; `named` says whether the legend has it."""
    name = html.escape(name)
    x = [*line["x"], *line["x"][::-1]]
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(
        x=x,
        y=[*line["high"], *line["low"][::-1]],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},{shade})",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=f"{row} {name}",
        row=row,
        col=1,
    )
    figure.add_scatter(
        x=line["x"],
        y=line["mean"],
        mode="lines",
        name=name,
        showlegend=named,
        line={"color": color, "width": 2},
        legendgroup=f"{row} {name}",
        legend=legend(row),
        hovertemplate=f"%{{y:.3g}} at %{{x:.3g}}<extra>{name}</extra>",
        row=row,
        col=1,
    )


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
