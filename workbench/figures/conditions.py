"""Two classes of prompts as a condition sees them: planes, variance, similarities, curves.

The first class of a frame is that of the condition.
"""

from __future__ import annotations

import html
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
    COLORS,
    GREY,
    INK,
    LEGEND_ROW,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    align_legend,
    legend_rows,
    redrawable,
    stack,
)
from workbench.statistics.intervals import Floats
from workbench.support.wording import number

_SYMBOLS = (("circle", 6), ("square", 6), ("diamond-open", 11))
_CLASSES = ((VERMILLION, "circle"), (BLUE, "diamond-open"))
_DASHES = ("solid", "dash", "dot", "dashdot")
_ACROSS, _PANEL, _HEAD = 4, 130, 56  # panels in a row; pixels of one, and between two
_BINS = 36


@redrawable
def class_planes(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """The plane of greatest variance, a panel a layer: a point a text, a colour a class.

    Args:
        frame: rows of `condition_analysis.planes`: `layer`, `class`, `first` and `second`, the
            coordinates, `first_share` and `second_share`, shares of the variance.
        title: above the figure.

    Both axes of a panel are in the units of that layer's stream, to one scale; beside each stands
    its component's share of the variance.
    """
    layers = sorted(frame["layer"].unique())
    rows = -(-len(layers) // _ACROSS)
    across = -(-len(layers) // rows)
    plot = rows * _PANEL + (rows - 1) * _HEAD
    figure = make_subplots(
        rows=rows,
        cols=across,
        subplot_titles=[f"Layer {layer}" for layer in layers],
        horizontal_spacing=0.07,
        vertical_spacing=_HEAD / plot if rows > 1 else 0,
    )
    for index, layer in enumerate(layers):
        place = {"row": index // across + 1, "col": index % across + 1}
        here = frame[frame["layer"] == layer]
        for name, color, symbol in _classes(frame):
            mine = here[here["class"] == name]
            figure.add_scatter(
                x=mine["first"],
                y=mine["second"],
                mode="markers",
                name=html.escape(name),
                legendgroup=name,
                showlegend=index == 0,
                marker={"color": color, "symbol": symbol, "size": 4, "opacity": 0.55},
                hovertemplate=f"%{{x:.3g}}, %{{y:.3g}}<extra>{html.escape(name)}</extra>",
                **place,
            )
        first, second = here[["first_share", "second_share"]].iloc[0]
        figure.update_xaxes(title_text=f"PC 1 ({first:.0%})", **place)
        figure.update_yaxes(title_text=f"PC 2 ({second:.0%})", **place)
    above = 62 + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=above + plot + 34,
        margin={"t": above, "b": 34, "l": 34},
        title={"text": html.escape(title)},
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1 + 22 / plot,
            "yanchor": "bottom",
            "itemsizing": "constant",
        },
    )
    figure.update_annotations(font={"size": 13})
    # The units of a stream say nothing by themselves; that both axes have the same does.
    plain = {"showticklabels": False, "ticks": "", "showgrid": False, "mirror": True}
    figure.update_xaxes(title_font={"size": 12}, title_standoff=4, **plain)
    figure.update_yaxes(title_font={"size": 12}, title_standoff=4, scaleratio=1, **plain)
    for row in range(1, rows + 1):
        for column in range(1, across + 1):
            axis = figure.get_subplot(row, column).yaxis
            axis.scaleanchor = axis.anchor
    return figure


@redrawable
def variance_by_layer(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """The share of the variance that a component explains, over layers: a line a component.

    Args:
        frame: `layer`, `component`, its name, and `share`, in [0, 1].
        title: above the figure.
    """
    names = [str(name) for name in frame["component"].unique()]
    figure = stack(1, above=10 + LEGEND_ROW * legend_rows(names), title=title, panel=220)
    align_legend(figure, 1, names)
    for index, name in enumerate(names):
        mine = frame[frame["component"] == name].sort_values("layer")
        color = COLORS[index % len(COLORS)]
        symbol, size = _SYMBOLS[index % len(_SYMBOLS)]
        figure.add_scatter(
            x=mine["layer"],
            y=mine["share"],
            mode="lines+markers",
            name=html.escape(name),
            line={"color": color, "width": 2, "dash": _DASHES[index % len(_DASHES)]},
            marker={"symbol": symbol, "size": size},
            hovertemplate=f"layer %{{x}}: %{{y:.1%}}<extra>{html.escape(name)}</extra>",
        )
    figure.update_yaxes(
        title_text="Share of the variance", tickformat=".0%", range=[0, 1.04 * frame["share"].max()]
    )
    figure.update_xaxes(title_text="Layer")
    if frame["layer"].nunique() <= 16:
        figure.update_xaxes(dtick=1)
    return figure


@redrawable
def similarity_histograms(
    frame: pd.DataFrame,
    *,
    threshold: float,
    fires: Literal["above", "below"] = "above",
    words: str = "cosine similarity",
    title: str = "",
) -> go.Figure:
    """How the similarities of both classes lie about the threshold: a panel a layer.

    Args:
        frame: one row per text and layer that the condition reads: `layer`, `class`, `similarity`.
        threshold: of the condition; the dashed line.
        fires: on which side of it the condition is met, which is shaded.
        words: what the similarity is called.
        title: above the figure.
    """
    layers = sorted(frame["layer"].unique())
    names = [name for name, _, _ in _classes(frame)]
    figure = stack(len(layers), above=10 + LEGEND_ROW, title=title, panel=160)
    edges = _edges(frame["similarity"], threshold)
    tallest = 0.0
    for row, layer in enumerate(layers, 1):
        for name, color, _ in _classes(frame):
            own = frame[(frame["layer"] == layer) & (frame["class"] == name)]
            counts, _ = np.histogram(own["similarity"], bins=edges)
            share = counts / max(counts.sum(), 1)
            tallest = max(tallest, share.max())
            figure.add_bar(
                x=(edges[:-1] + edges[1:]) / 2,
                y=share,
                width=np.diff(edges),
                name=html.escape(name),
                legendgroup=name,
                showlegend=row == 1,
                marker={"color": _clear(color), "line": {"width": 0}},
                hovertemplate=f"%{{y:.1%}} at %{{x:.3g}}<extra>{html.escape(name)}</extra>",
                row=row,
                col=1,
            )
        side = (threshold, edges[-1]) if fires == "above" else (edges[0], threshold)
        place = {"row": row, "col": 1}
        figure.add_vrect(*side, fillcolor=GREY, opacity=0.13, line_width=0, layer="below", **place)
        figure.add_vline(x=threshold, line={"color": INK, "width": 1.2, "dash": "dash"}, **place)  # type: ignore[arg-type]
        figure.update_yaxes(
            title_text=f"Layer {layer}<br>(share of class)", tickformat=".0%", nticks=5, **place
        )
    figure.update_layout(barmode="overlay", bargap=0)
    figure.update_yaxes(range=[0, 1.06 * tallest])
    align_legend(figure, 1, names)
    figure.update_xaxes(range=[edges[0], edges[-1]])
    said = f"{html.escape(words[:1].upper() + words[1:])} (shaded: the condition is met"
    figure.update_xaxes(
        title_text=f"{said}; threshold {number(threshold, '.3g')})", row=len(layers), col=1
    )
    return figure


@redrawable
def gate_curves(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """What a gate tells at every threshold, beside what length and words alone do: the receiver
    operating characteristic, and precision over recall.

    Args:
        frame: rows of `condition_analysis.told`: `score`, its name, `curve` ("roc" or "precision"),
            `x`, `y`, and `auc`, the area under the first.
        title: above the figure.

    Dotted: a score that tells nothing. Areas under the first curve stand in the legend.
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.17)
    areas = frame.groupby("score", sort=False)["auc"].first()
    blind = {"color": GREY, "width": 1, "dash": "dot"}
    met = frame[(frame["curve"] == "precision") & (frame["x"] == 1)]
    base = float(met["y"].min())  # where everything fires
    for column, ends in ((1, [0, 1]), (2, [base, base])):
        figure.add_scatter(
            x=[0, 1],
            y=ends,
            mode="lines",
            line=blind,
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=column,
        )
    for index, (name, area) in reversed([*enumerate(areas.items())]):
        for column, curve in enumerate(("roc", "precision"), 1):
            mine = frame[(frame["score"] == name) & (frame["curve"] == curve)]
            if curve == "precision":  # where nothing is told there is none
                mine = mine[mine["x"] > 0]
            figure.add_scatter(
                x=mine["x"],
                y=mine["y"],
                mode="lines",
                name=f"{html.escape(str(name))} ({area:.3f})",
                legendgroup=str(name),
                legendrank=index,
                showlegend=column == 1,
                # Between two thresholds precision does not move on a line.
                line={
                    "color": COLORS[index % len(COLORS)],
                    "width": 2.4 if index == 0 else 1.6,
                    "dash": _DASHES[index % len(_DASHES)],
                    "shape": "linear" if curve == "roc" else "hv",
                },
                hovertemplate=f"%{{y:.3f}} at %{{x:.3f}}<extra>{html.escape(str(name))}</extra>",
                row=1,
                col=column,
            )
    above = 12 + 2 * LEGEND_ROW + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 20,
        height=above + 225 + 58,
        margin={"t": above, "b": 58},
        title={"text": html.escape(title)},
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.04,
            "yanchor": "bottom",
            "title": {"text": "Area under the left curve:  ", "font": {"size": 13}},
            "entrywidthmode": "pixels",
            "entrywidth": 130,
        },
    )
    share = {"range": [-0.02, 1.02], "dtick": 0.25, "tickformat": ".2~f"}
    figure.update_xaxes(**share)
    figure.update_yaxes(**share)
    figure.update_xaxes(title_text="False alarms (share)", row=1, col=1)
    figure.update_yaxes(title_text="Recall (share)", row=1, col=1)
    figure.update_xaxes(title_text="Recall (share)", row=1, col=2)
    figure.update_yaxes(title_text="Precision (share)", row=1, col=2)
    return figure


def _classes(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Name, colour and symbol of each class. Raises ValueError for more than two."""
    names = [str(name) for name in frame["class"].unique()]
    if len(names) > len(_CLASSES):
        raise ValueError(f"{len(names)} classes: {names}; a condition is drawn against one other")
    return [(name, *look) for name, look in zip(names, _CLASSES, strict=False)]


def _edges(values: pd.Series, threshold: float) -> Floats:
    """Of bins of one width over the values, none of which reaches across the threshold."""
    low, high = min(values.min(), threshold), max(values.max(), threshold)
    width = (high - low) / _BINS or 1.0
    first, last = np.floor((low - threshold) / width) - 1, np.ceil((high - threshold) / width) + 1
    return threshold + width * np.arange(first, last + 1)


def _clear(color: str) -> str:
    """A colour through which another is seen, in the legend as well."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.55)"
