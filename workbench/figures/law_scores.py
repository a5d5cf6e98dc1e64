"""How well laws fit: R² of every law, in place, on other pairs, and beyond the fitted range."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import GREEN, GREY, INK, PURPLE, TEMPLATE, VERMILLION, WIDTH, redrawable
from workbench.preference.law_shapes import KINDS, Kind
from workbench.support.wording import number

COLORS: Mapping[Kind, str] = {"preference": PURPLE, "utility": GREEN}
_SCORES = {
    "in_place": "same pairs",
    "held_out": "other pairs",
    "held_out_matched": "other pairs,<br>matched length",
    "extrapolated": "beyond the<br>fitted range",
}
# What is missing of R² = 1 is drawn on a logarithmic axis, as most laws miss little: from 1, at the
# left end, to this. Where laws are read beyond their range R² itself is drawn, from -1.
_LEAST = {"in_place": 1e-4, "held_out": 1e-3, "held_out_matched": 1e-3}
_WORST = -1.0
# What a score is held against: its column, in words, its symbol.
_LEVELS = {
    "in_place": ("random", "random curves", "x-thin"),
    "held_out": ("no_law", "without a law", "line-ns"),
    "held_out_matched": ("no_law_matched", "without a law", "line-ns"),
    "extrapolated": ("random_extrapolated", "random curves", "x-thin"),
}


@redrawable
def law_scores(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """R² of every law, small multiples: on the pairs that it was fitted to, on other pairs, and
    beyond the fitted range.

    Args:
        frame: rows of `law_comparison.compare`, of one case or of several one after the other;
            a panel for halves matched in length where it has them.
        title: above the figure.

    Dots are cases, bars their medians, in words at the right; crosses the median of random curves
    that are as smooth; the red line that of one half's mean curve for the other's, which no law can
    pass. What lies beyond an end of a panel is drawn there. But for the last panel, axes are of
    1 - R² on a logarithmic scale.
    """
    names = list(dict.fromkeys(frame["law"]))
    panels = [score for score in _SCORES if score in frame.columns]
    figure = make_subplots(
        rows=2,
        cols=len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.025,
        vertical_spacing=0.09,
        column_titles=[_SCORES[score] for score in panels],
    )
    for row, kind in enumerate(KINDS, 1):
        part = frame[frame["kind"] == kind]
        for column, score in enumerate(panels, 1):
            _score_panel(figure, part, score, COLORS[kind], row, column, names)
        figure.update_yaxes(title_text=kind.capitalize(), row=row, col=1)
    above = 84 + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60 + 120 * (len(panels) - 3),
        height=above + 60 + 2 * (40 + 25 * len(names)),
        margin={"t": above, "r": 14, "l": 90, "b": 60},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.1, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13}, yshift=-2)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    for column, score in enumerate(panels, 1):
        ticks = _ticks(score)
        left, right = _drawn(pd.Series([-np.inf, 1.0]), score)
        figure.update_xaxes(
            range=[left - 0.06 * (right - left), right + 0.46 * (right - left)],
            tickvals=_drawn(pd.Series(list(ticks)), score).tolist(),
            ticktext=list(ticks.values()),
            tickangle=0,
            tickfont={"size": 11},
            zeroline=score not in _LEAST,
            col=column,
        )
    figure.update_xaxes(title_text="R²", row=2)
    return figure


def _drawn(values: pd.Series, score: str) -> pd.Series:
    """Where values of a score are drawn along its axis."""
    if score not in _LEAST:
        return values.clip(lower=_WORST)
    return -np.log10((1 - values).clip(_LEAST[score], 1))


def _ticks(score: str) -> dict[float, str]:
    """The values that a score's axis is marked at, with their words."""
    if score not in _LEAST:
        return {_WORST: f"≤ {number(_WORST, 'g')}", 0: "0", 1: "1"}
    end = 1 - _LEAST[score]
    return {0: "≤ 0", 0.9: ".9", 0.99: ".99", end: f"≥ {end:g}".replace("0.", ".")}


def _score_panel(
    figure: go.Figure,
    part: pd.DataFrame,
    score: str,
    color: str,
    row: int,
    column: int,
    names: Sequence[str],
) -> None:
    medians = part.groupby("law")[score].median().reindex(list(names))
    first = row == 1 and column == 1
    where: dict[str, Any] = {"row": row, "col": column}
    figure.add_scatter(
        x=_drawn(part[score], score),
        y=part["law"],
        mode="markers",
        name="cases",
        marker={"size": 6, "color": color, "opacity": 0.6 if len(part) < 100 else 0.35},
        hovertext=[f"{value:.4f}" for value in part[score]],
        hoverinfo="text",
        showlegend=first,
        **where,
    )
    figure.add_scatter(
        x=_drawn(medians, score),
        y=medians.index,
        mode="markers",
        name="median of cases",
        marker={"symbol": "line-ns", "size": 15, "line": {"color": INK, "width": 2.5}},
        hoverinfo="skip",
        showlegend=first,
        **where,
    )
    _level(figure, part, score, names, row == 1 and column <= 2, where)
    left, right = _drawn(pd.Series([-np.inf, 1.0]), score)
    figure.add_scatter(
        x=[right + 0.06 * (right - left)] * len(medians),
        y=medians.index,
        mode="text",
        text=[short(value) for value in medians],
        textposition="middle right",
        textfont={"size": 11, "color": GREY},
        hoverinfo="skip",
        showlegend=False,
        **where,
    )


def _level(
    figure: go.Figure,
    part: pd.DataFrame,
    score: str,
    names: Sequence[str],
    named: bool,
    where: dict[str, Any],
) -> None:
    """What a score is held against, in red: random curves, or no law at all."""
    column, words, symbol = _LEVELS[score]
    if column not in part.columns:
        return
    level = part.groupby("law")[column].median().reindex(list(names))
    figure.add_scatter(
        x=_drawn(level, score),
        y=level.index,
        mode="markers" if symbol == "x-thin" else "lines",
        name=words,
        marker={"symbol": symbol, "size": 8, "line": {"color": VERMILLION, "width": 2}},
        line={"color": VERMILLION, "width": 1.6},
        hovertext=[f"{value:.3f}" for value in level],
        hoverinfo="text",
        showlegend=named,
        **where,
    )


def short(value: float) -> str:
    """An R² in few letters: three decimals, fewer below -1, never rounded up to 1."""
    if not np.isfinite(value):
        return "–"
    if value > 0.9995:
        return ">.999" if value < 1 else "1"
    digits = 3 if value > -1 else 1 if value > -10 else 0
    return f"{value:.{digits}f}".replace("-", "−").replace("0.", ".")
