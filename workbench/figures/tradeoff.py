"""Trait against coherence: a panel a trait, a curve a way of steering."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    SYMBOLS,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    error_bars,
    redrawable,
    widths,
)
from workbench.sweeps.tradeoff import BOTH, PROMPTED, RANDOM

_METHODS = (BLUE, VERMILLION, GREEN, ORANGE, SKY)
_OTHERS = {BOTH: "triangle-down", RANDOM: "x", PROMPTED: "star"}  # symbols
_PANEL = 215  # pixels of height


@redrawable
def trait_against_coherence(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """What steering gives against what it costs, traced by the coefficient.

    Args:
        frame: rows of `tradeoff.tradeoff` for each trait, with its name as `trait_name`; a panel
            each, three a row.
        title: above the figure.

    Large points, with 95 % intervals over prompts both ways, are the recommended coefficients,
    chosen on other prompts. The open square is the unsteered model. Each method has its symbol, and
    a thinner line than the one before, so that one that lies on another is seen.
    """
    chosen = list(dict.fromkeys(frame["trait_name"]))
    across = min(len(chosen), 3)
    rows = -(-len(chosen) // across)
    figure = make_subplots(
        rows=rows,
        cols=across,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=[html.escape(trait) for trait in chosen],
        horizontal_spacing=0.04,
        vertical_spacing=0.14 / max(rows - 1, 1) if rows > 1 else 0,
    )
    methods = list(dict.fromkeys(frame["method"]))
    own = [name for name in methods if name not in (RANDOM, PROMPTED, BOTH)]
    looks: dict[str, tuple[str, str]] = {
        **{name: (_METHODS[i % len(_METHODS)], "solid") for i, name in enumerate(own)},
        BOTH: (PURPLE, "dash"),
        RANDOM: (GREY, "solid"),
        PROMPTED: (INK, "solid"),
    }
    thick = dict(zip(own, widths(len(own)), strict=True))
    for index, trait in enumerate(chosen):
        place = {"row": index // across + 1, "col": index % across + 1}
        mine = frame[frame["trait_name"] == trait]
        for name in sorted(methods, key=list(looks).index):
            part = mine[mine["method"] == name].sort_values("coefficient", key=abs)
            symbol = SYMBOLS[own.index(name) % len(SYMBOLS)] if name in own else _OTHERS[name]
            width = thick.get(name, 1.6)
            look = {"color": looks[name][0], "dash": looks[name][1], "width": width}
            _curve(figure, part, name, look, symbol, first=index == 0, place=place)
    _said(figure)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=168 + rows * (_PANEL + 30) + (30 if title else 0),
        margin={"t": 34 + (30 if title else 0), "b": 122},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": -0.2 / rows, "x": 0, "yanchor": "top"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(range=[-0.5, 1.75])
    figure.update_yaxes(range=[-0.04, 1.08])
    middle = (across + 1) // 2
    figure.update_xaxes(title_text="Gain in trait (0 where the text broke)", row=rows, col=middle)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text="Coherence (0 to 1)", row=row, col=1)
    return figure


def _curve(
    figure: go.Figure,
    part: pd.DataFrame,
    name: str,
    line: dict[str, Any],
    symbol: str,
    *,
    first: bool,
    place: dict[str, Any],
) -> None:
    color = line["color"]
    group = {"legendgroup": name, "name": html.escape(name)}
    if name != PROMPTED:
        figure.add_scatter(
            x=part["gain"],
            y=part["coherence"],
            mode="lines+markers",
            line=line,
            marker={"size": 3 + line["width"], "color": color, "symbol": symbol},
            customdata=part[["coefficient"]],
            hovertemplate=(
                "gain %{x:.2f}, coherence %{y:.2f} at %{customdata[0]:.2f} norms"
                f"<extra>{html.escape(name)}</extra>"
            ),
            showlegend=first,
            **group,
            **place,
        )
    marked = part if name == PROMPTED else part[part["recommended"]]
    if len(marked):
        figure.add_scatter(
            x=marked["gain"],
            y=marked["coherence"],
            mode="markers",
            marker={
                "size": 12,
                "color": color,
                "symbol": symbol,
                "line": {"color": "white", "width": 1},
            },
            error_x=error_bars(marked, "gain", color, width=3),
            error_y=error_bars(marked, "coherence", color, width=3),
            hovertemplate="gain %{x:.2f}, coherence %{y:.2f}"
            f"<extra>{html.escape(name)}{'' if name == PROMPTED else ', recommended'}</extra>",
            showlegend=first and name == PROMPTED,
            **group,
            **place,
        )
    if name == RANDOM:
        start = part[part["coefficient"] == 0]
        figure.add_scatter(
            x=start["gain"],
            y=start["coherence"],
            mode="markers",
            marker={"size": 8, "symbol": "square-open", "color": INK, "line": {"width": 2}},
            name="unsteered",
            legendgroup="unsteered",
            showlegend=first,
            hovertemplate="unsteered: gain %{x:.2f}, coherence %{y:.2f}<extra></extra>",
            **place,
        )


def _said(figure: go.Figure) -> None:
    """What a large point is, in the legend."""
    marker = {"size": 12, "color": GREY, "line": {"color": "white", "width": 1}}
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name="large: recommended")
