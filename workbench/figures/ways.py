"""Ways of steering held against each other: what each gives for what it costs."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import (
    COLORS,
    SYMBOLS,
    TEMPLATE,
    WIDTH,
    error_bars,
    growing,
    redrawable,
    widths,
)


@redrawable
def preference_against_cost(frame: pd.DataFrame, *, by: str = "way", title: str = "") -> go.Figure:
    """What ways of steering give for what they cost: up and to the left is better.

    Args:
        frame: rows of `gain_cost.paths`.
        by: the column that names the way.
        title: above the figure.

    A curve begins unsteered, at 0, and runs on with the multiple m: its points grow with it. Lines
    get thinner from the first way to the last, and points are open, so that one that lies on
    another is seen. Bars are 95 % intervals over pairs.
    """
    figure = go.Figure()
    names = list(dict.fromkeys(frame[by].astype(str)))
    for index, (name, width) in enumerate(zip(names, widths(len(names)), strict=True)):
        part = frame[frame[by].astype(str) == name].sort_values("m", key=abs)
        colour = COLORS[index % len(COLORS)]
        figure.add_scatter(
            x=part["cost"],
            y=part["gain"],
            mode="lines+markers",
            name=html.escape(name),
            line={"color": colour, "width": width},
            marker={
                "size": [1.4 * width + each for each in growing(len(part))],
                "color": colour,
                "symbol": SYMBOLS[index % len(SYMBOLS)] + ("-open" if index else ""),
                "opacity": 1,
                "line": {"width": 2, "color": colour},
            },
            error_y=error_bars(part, "gain", colour),
            customdata=part[["m"]],
            hovertemplate=(
                f"{html.escape(name)}, m = %{{customdata[0]:.3g}}: gain %{{y:.2f}} nats for "
                "%{x:.2f} nats a token<extra></extra>"
            ),
        )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=350 + 24 * (-(-len(names) // 2)) + (30 if title else 0),
        margin={"t": 20 + (30 if title else 0), "b": 90 + 24 * (-(-len(names) // 2))},
        title={"text": html.escape(title)},
        legend={
            "orientation": "h",
            "y": -0.22,
            "x": 0,
            "yanchor": "top",
            "title": {
                "text": "Larger points: larger multiples",
                "font": {"size": 13},
                "side": "top",
            },
        },
    )
    figure.update_xaxes(title_text="Cost: fall of log-probability (nats per token of both answers)")
    figure.update_yaxes(title_text="Gain in log-odds (nats per answer)")
    return figure
