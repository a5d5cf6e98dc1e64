"""Tokens that a vector favours and hinders, as bars."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from workbench.look import (
    BELOW,
    BLUE,
    GREY,
    INK,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    redrawable,
    visible,
)


@redrawable
def token_bars(
    frame: pd.DataFrame,
    *,
    count: int = 10,
    unit: str = "per unit of the vector",
    chance: float | None = None,
    title: str = "",
) -> go.Figure:
    """What a vector says through the unembedding: the tokens that it favours and those it hinders.

    Args:
        frame: one row per token, with `token` (its text) and `logit` (what the vector adds to
            that token's logit); the largest and the smallest are drawn.
        count: how many of either kind at most.
        unit: of the horizontal axis, in words.
        chance: how large the largest change is under a random direction (`lens.largest_by_chance`);
            shaded, as nothing within it is told by the vector.
        title: above the figure.
    """
    ranked = frame.sort_values("logit", ascending=False, kind="stable")
    boosted = ranked[ranked["logit"] > 0].head(count)
    suppressed = ranked[ranked["logit"] < 0].tail(count)
    shown = pd.concat([boosted, suppressed])
    if shown.empty:
        raise ValueError("no token to draw: every value of the column 'logit' is 0 or missing")
    names = [html.escape(visible(token)) for token in shown["token"]]
    above = 56 if title else 30
    figure = go.Figure()
    parts = ((boosted, "favoured", BLUE, 0), (suppressed, "hindered", VERMILLION, len(boosted)))
    for part, name, color, first in parts:
        figure.add_bar(
            x=part["logit"],
            y=list(range(first, first + len(part))),
            orientation="h",
            marker={"color": color},
            name=name,
            hovertext=[
                f"{html.escape(visible(token))}: {value:+.3g}"
                for token, value in zip(part["token"], part["logit"], strict=True)
            ],
            hoverinfo="text",
        )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + BELOW + 21 * len(shown),
        margin={"t": above},
        title={"text": html.escape(title)},
        bargap=0.25,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    if chance is not None:
        figure.add_vrect(
            x0=-chance, x1=chance, fillcolor=GREY, opacity=0.25, line_width=0, layer="below"
        )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(shown))),
        ticktext=names,
        autorange="reversed",
        showgrid=False,
        ticks="",
    )
    figure.update_xaxes(
        title_text=f"Change of the token's logit ({html.escape(unit)})",
        zeroline=True,
        zerolinecolor=INK,
        zerolinewidth=1,
    )
    return figure
