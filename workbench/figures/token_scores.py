"""The log-probability of every token of one text, under several models."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    redrawable,
    visible,
)

_COLOURS = (GREY, BLUE, VERMILLION, GREEN, ORANGE)


@redrawable
def logprobs_over_text(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How likely each token of a text is under each model; below, the text.

    Args:
        frame: rows of `token_scores.token_scores`.
        title: above the figure.

    Lines get thinner from the first model to the last, so that one that lies on another is seen.
    """
    names = list(dict.fromkeys(frame["model"].astype(str)))
    figure = go.Figure()
    for index, name in enumerate(names):
        own = frame[frame["model"].astype(str) == name]
        thick = 1.4 + 2.2 * (len(names) - 1 - index)
        figure.add_scatter(
            x=own["step"],
            y=own["logprob"],
            mode="lines+markers",
            name=html.escape(name),
            line={"color": _COLOURS[index % len(_COLOURS)], "width": thick},
            marker={"size": 3 + thick},
            hovertemplate=f"{html.escape(name)}: %{{y:.3f}} nats<extra></extra>",
        )
    words = frame.drop_duplicates("step")
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=400 + (30 if title else 0),
        margin={"t": 60 + (30 if title else 0), "b": 110},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
    )
    figure.update_xaxes(
        title_text="Token of the text",
        tickvals=words["step"].tolist(),
        ticktext=[html.escape(visible(each)) for each in words["token"]],
        tickangle=-90,
        tickfont={"size": 10},
        showgrid=False,
    )
    figure.update_yaxes(title_text="Log-probability (nats)")
    return figure
