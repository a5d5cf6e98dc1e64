"""What methods of steering give and cost: a panel a form, a point a method."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    error_bars,
    redrawable,
)
from workbench.studies.method_comparison import FORMS, METHODS

# Of each method: its colour and plotly's name of its point.
_LOOKS = {
    "vanilla": (INK, "square-open"),
    "prompting": (INK, "diamond"),
    "difference of means": (GREY, "circle"),
    "sft": (BLUE, "triangle-up"),
    "reps": (ORANGE, "triangle-down"),
    "split": (VERMILLION, "circle"),
}
_SAME = (0.5, 0.6, 0.7, 0.8, 0.9)  # harmonic means whose lines are drawn
_END = 1.06  # of the axes, so that points at 1 are whole
_PANEL, _ABOVE, _BELOW = 230, 40, 112  # pixels of height


@redrawable
def methods_compared(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How much of the trait each method gives, and how much coherence is left, with intervals.

    Args:
        frame: rows of `method_comparison.table`. What steers nothing stands in every panel.
        title: above the figure.

    Grey lines join points of one harmonic mean. Bars are 95 % intervals of means over traits, seeds
    being drawn. Raises ValueError for a frame without a form.
    """
    forms = [form for form in FORMS if form and (frame["form"] == form).any()]
    if not forms:
        raise ValueError("no form to draw: every row of the column 'form' is empty")
    figure = make_subplots(
        cols=len(forms),
        shared_yaxes=True,
        subplot_titles=[FORMS[form][:1].upper() + FORMS[form][1:] for form in forms],
        horizontal_spacing=0.03,
    )
    figure.update_annotations(font={"size": 13})
    corner = _corner(frame)
    for column, form in enumerate(forms, start=1):
        place = {"row": 1, "col": column}
        _lines(figure, corner, first=column == 1, place=place)
        for name, (color, symbol) in _LOOKS.items():
            part = frame[(frame["method"] == name) & frame["form"].isin(["", form])]
            if len(part):
                _point(figure, part, name, color, symbol, first=column == 1, place=place)
    above = _ABOVE + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + _PANEL + _BELOW,
        margin={"t": above, "b": _BELOW},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": -0.27, "yanchor": "top", "font": {"size": 12}},
    )
    figure.update_xaxes(range=[corner[0], _END], nticks=5)
    figure.update_yaxes(range=[corner[1], _END], nticks=6)
    middle = (len(forms) + 1) // 2
    figure.update_xaxes(title_text="Trait (0 to 1)", row=1, col=middle)
    figure.update_yaxes(title_text="Coherence (0 to 1)", row=1, col=1)
    return figure


def _corner(frame: pd.DataFrame) -> tuple[float, float]:
    """Where the axes of trait and coherence begin: a tenth below the least end of an interval."""
    least = [float(frame[f"{name}_low"].min()) for name in ("score", "coherence")]
    trait, coherence = (max(0.0, np.floor(10 * value) / 10 - 0.02) for value in least)
    return trait, coherence


def _lines(
    figure: go.Figure, corner: tuple[float, float], *, first: bool, place: dict[str, Any]
) -> None:
    """Lines of one harmonic mean H: coherence = H t / (2 t - H) at trait t, named above."""
    for number, same in enumerate(_SAME):
        trait = np.linspace(max(same / 2 + 0.01, corner[0]), 1, 200)
        coherence = same * trait / (2 * trait - same)
        shown = (coherence <= 1) & (coherence >= corner[1])
        figure.add_scatter(
            x=trait[shown],
            y=coherence[shown],
            mode="lines",
            line={"color": "#D0D0D0", "width": 1},
            hoverinfo="skip",
            name="equal harmonic mean",
            legendgroup="equal",
            showlegend=first and number == 0,
            legendrank=2000,
            **place,
        )
        if shown.any():
            figure.add_annotation(
                x=trait[shown][0],
                y=1,
                yshift=4,
                text=f"{same:g}",
                font={"size": 10, "color": GREY},
                showarrow=False,
                xanchor="center",
                yanchor="bottom",
                **place,
            )


def _point(
    figure: go.Figure,
    part: pd.DataFrame,
    name: str,
    color: str,
    symbol: str,
    *,
    first: bool,
    place: dict[str, Any],
) -> None:
    figure.add_scatter(
        x=part["score"],
        y=part["coherence"],
        mode="markers",
        marker={"size": 9, "color": color, "symbol": symbol, "line": {"width": 1.5}},
        error_x=error_bars(part, "score", color, width=3),
        error_y=error_bars(part, "coherence", color, width=3),
        customdata=part[["harmonic"]],
        hovertemplate="trait %{x:.2f}, coherence %{y:.2f}, harmonic mean %{customdata[0]:.2f}"
        f"<extra>{METHODS[name]}</extra>",
        name=METHODS[name],
        legendgroup=name,
        showlegend=first,
        **place,
    )
