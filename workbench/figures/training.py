"""Losses of training."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import BLUE, GREEN, GREY, TEMPLATE, VERMILLION, WIDTH, redrawable
from workbench.support.checks import require_columns

# Columns of `trained.loss_history` below the objective: name, words, colour.
_SIDES = (
    ("winning", "winning", GREEN),
    ("losing", "losing", VERMILLION),
)
_SMOOTH = 7  # steps of the running median that is drawn over the single steps


@redrawable
def loss_curves(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """What training minimises, step by step, and the loss per token of both sides under it.

    Args:
        frame: rows of `trained.loss_history`; with a column `run`, a column of panels for each.
        title: above the figure.

    Dots are steps, lines their running medians, diamonds the objective on the held-out pairs.

    Raises ValueError for what is no such frame.
    """
    require_columns(
        frame,
        ("step", "loss", "held_out"),
        "the losses of what was trained: loss_curves(loss_history(trained)), with loss_history "
        "from workbench.training.train",
    )
    runs = frame["run"] if "run" in frame.columns else pd.Series("", index=frame.index)
    names = list(dict.fromkeys(runs))
    figure = make_subplots(
        rows=2,
        cols=len(names),
        shared_xaxes="columns",
        shared_yaxes="rows",
        horizontal_spacing=0.03,
        vertical_spacing=0.07,
        column_titles=[html.escape(str(name)) for name in names],
    )
    for column, name in enumerate(names, 1):
        own = frame[runs == name]
        place = {"col": column, "showlegend": column == 1}
        _steps(figure, own, "loss", "objective", BLUE, {**place, "row": 1})
        held = own[own["held_out"].notna()]
        figure.add_scatter(
            x=held["step"],
            y=held["held_out"],
            mode="markers",
            name="held-out pairs",
            legendgroup="held out",
            marker={"symbol": "diamond", "size": 9, "color": "white", "line": {"width": 2}},
            marker_line_color=BLUE,
            hovertemplate="%{y:.3g} after step %{x}<extra>held out</extra>",
            **{**place, "row": 1, "showlegend": column == 1 and len(held) > 0},
        )
        for side, words, color in _SIDES:
            if own[side].notna().any():
                _steps(figure, own, side, words, color, {**place, "row": 2})
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="lines+markers",
        name="single steps and their running median",
        line={"color": GREY, "width": 2},
        marker={"size": 6},
    )
    above = 92 + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + 370,
        margin={"t": above},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.09, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(title_text="Objective (nats)", row=1, col=1)
    figure.update_yaxes(title_text="Loss (nats per token)", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="Step", row=2, col=(len(names) + 1) // 2)
    return figure


def _steps(
    figure: go.Figure,
    frame: pd.DataFrame,
    column: str,
    name: str,
    color: str,
    place: dict[str, Any],
) -> None:
    """Single steps, faint, and a running median over them."""
    figure.add_scatter(
        x=frame["step"],
        y=frame[column],
        mode="markers",
        marker={"size": 4, "color": color, "opacity": 0.3},
        legendgroup=column,
        hovertemplate="%{y:.3g} in step %{x}<extra></extra>",
        **{**place, "showlegend": False},
    )
    figure.add_scatter(
        x=frame["step"],
        y=frame[column].rolling(_SMOOTH, center=True, min_periods=1).median(),
        mode="lines",
        name=name,
        legendgroup=column,
        line={"color": color, "width": 2},
        hoverinfo="skip",
        **place,
    )
