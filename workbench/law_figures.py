"""Preference and utility over the coefficient with the laws that fit them, and how well they do."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.bands import band_over_prompts
from workbench.frames import axis_title
from workbench.law_quantities import curves, means, quantities
from workbench.law_shapes import KINDS, Kind
from workbench.laws import fit
from workbench.look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    LEGEND_ROW,
    ORANGE,
    PURPLE,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    band,
    legend,
    redrawable,
    stack,
)

_COLORS: Mapping[Kind, str] = {"preference": PURPLE, "utility": GREEN}
# Score, in words, and what is drawn at the left end of its panel: that, and all below.
_SCORES = (
    ("in_place", "in place", 0.0),
    ("held_out", "on other pairs", 0.0),
    ("held_out_matched", "… matched in length", 0.0),
    ("extrapolated", "beyond the range", -1.0),
)
# What a score is held against: its column, in words, its symbol.
_LEVELS = {
    "in_place": ("random", "random curves", "x-thin"),
    "held_out": ("no_law", "without a law", "line-ns"),
    "held_out_matched": ("no_law_matched", "without a law", "line-ns"),
    "extrapolated": ("random_extrapolated", "random curves", "x-thin"),
}


@redrawable
def odds_curves(
    frame: pd.DataFrame,
    *,
    law: str = "paper",
    quantities: Sequence[Mapping[str, Any]] | None = None,
    title: str = "",
) -> go.Figure:
    """Preference and utility over m on one scale of log-odds, and under it what they hide: the
    log-probability per token of the answers and of unrelated text.

    Args:
        frame: one row per (pair, m), as `odds.odds` gives it.
        law: which law is fitted to the means and drawn, dashed.
        quantities: marks, as `law_quantities.intervals` gives them with a column `kind`; by default
            those of the fits, without intervals. The peak of utility, and where half of what the
            slope of preference promises, and half of the fall of utility, is lost.
        title: above the figure.

    Lines are means over pairs, bands 95 % bootstrap intervals over pairs.
    """
    table = frame.assign(prompt_index=frame["pair"])
    figure = stack(2, above=LEGEND_ROW, title=title, panel=230)
    marks: list[Mapping[str, Any]] = []
    for kind in KINDS:
        color = _COLORS[kind]
        band(figure, 1, band_over_prompts(table, kind, axis="m"), kind, color)
        grid, values = curves(frame, kind)
        found = fit(grid, means(values), kind, law)
        fine = np.linspace(grid[0], grid[-1], 401)
        figure.add_scatter(
            x=fine,
            y=found(fine),
            mode="lines",
            name=f"law, R² {_short(found.r2)}",
            line={"color": INK, "width": 1.4, "dash": "dash" if kind == "preference" else "dot"},
            legend=legend(1),
            hoverinfo="skip",
            row=1,
            col=1,
        )
        marks += _marks(quantities, kind, found)
    for mark in marks:
        _draw_mark(figure, mark)
    _hidden(figure, table)
    figure.update_yaxes(title_text="Log-odds (nats)", row=1, col=1)
    figure.update_yaxes(title_text="Log-probability<br>(nats per token)", row=2, col=1)
    unit = str(frame.attrs.get("unit", "norm"))
    words = axis_title("norm") if unit == "norm" else "Coefficient m"
    figure.update_xaxes(title_text=words, row=2, col=1)
    return figure


def _marks(
    given: Sequence[Mapping[str, Any]] | None, kind: Kind, found: Any
) -> list[Mapping[str, Any]]:
    """Records with `kind`, `quantity`, `value` and the curve's height there, `y`."""
    if given is None:
        rows = [{"quantity": name, "value": v} for name, v in quantities(found, kind).items()]
    else:
        rows = [dict(row) for row in given if row["kind"] == kind]
    shown = ("half_life_plus", "half_life_minus") + (("peak",) if kind == "utility" else ())
    kept = [row for row in rows if row["quantity"] in shown and pd.notna(row["value"])]
    return [{**row, "kind": kind, "y": float(found(row["value"])[0])} for row in kept]


def _draw_mark(figure: go.Figure, mark: Mapping[str, Any]) -> None:
    """A symbol on the curve, a diamond for a peak, a circle for a half-life, with its interval."""
    peak, color = mark["quantity"] == "peak", _COLORS[mark["kind"]]
    x, low, high = mark["value"], mark.get("low"), mark.get("high")
    spread = None
    if pd.notna(low) and pd.notna(high):
        spread = {
            "type": "data",
            "symmetric": False,
            "array": [max(high - x, 0)],
            "arrayminus": [max(x - low, 0)],
            "color": INK,
            "thickness": 1.4,
        }
    words = "peak" if peak else f"half-life of {mark['kind']}"
    figure.add_scatter(
        x=[x],
        y=[mark["y"]],
        error_x=spread,
        mode="markers+text",
        text=["peak" if peak else "half-life"],
        textposition="top center" if peak else "bottom right" if x < 0 else "bottom left",
        textfont={"size": 11, "color": INK},
        marker={
            "size": 10,
            "symbol": "diamond" if peak else "circle",
            "color": color,
            "line": {"color": INK, "width": 1.2},
        },
        hovertemplate=f"{words}: {x:+.3g}<extra></extra>",
        showlegend=False,
        row=1,
        col=1,
    )


def _hidden(figure: go.Figure, table: pd.DataFrame) -> None:
    band(figure, 2, band_over_prompts(table, "likelihood", axis="m"), "the two answers", BLUE)
    if "unrelated" in table.columns:
        line = table.groupby("m")["unrelated"].mean()
        figure.add_scatter(
            x=line.index,
            y=-line,
            mode="lines",
            name="unrelated text",
            line={"color": ORANGE, "width": 2},
            legend=legend(2),
            row=2,
            col=1,
        )


@redrawable
def law_scores(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """R² of every law, small multiples: in place, on held-out pairs, and beyond the fitted range.

    Args:
        frame: rows of `law_comparison.compare`, of one case or of several one after the other;
            a panel for halves matched in length where it has them.
        title: above the figure.

    Dots are cases, bars their medians, in words at the right; crosses the median of random curves
    that are as smooth; the red line that of one half's mean curve for the other's, which no law can
    pass. What lies below the left end of a panel is drawn there.
    """
    names = list(dict.fromkeys(frame["law"]))
    panels = [panel for panel in _SCORES if panel[0] in frame.columns]
    figure = make_subplots(
        rows=2,
        cols=len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.025,
        vertical_spacing=0.09,
        column_titles=[words for _, words, _ in panels],
    )
    for row, kind in enumerate(KINDS, 1):
        part = frame[frame["kind"] == kind]
        for column, (score, _, worst) in enumerate(panels, 1):
            _score_panel(figure, part, score, worst, _COLORS[kind], row, column, names)
        figure.update_yaxes(title_text=kind.capitalize(), row=row, col=1)
    above = 66 + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60 + 120 * (len(panels) - 3),
        height=above + 60 + 2 * (40 + 25 * len(names)),
        margin={"t": above, "r": 14, "l": 90, "b": 60},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.07, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13}, yshift=-2)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    for column, (_, _, worst) in enumerate(panels, 1):
        reach = 1 - worst
        figure.update_xaxes(
            range=[worst - 0.06 * reach, 1 + 0.36 * reach],
            tickvals=[worst, (1 + worst) / 2, 1],
            zeroline=worst < 0,
            col=column,
        )
    figure.update_xaxes(title_text="R²", row=2)
    return figure


def _score_panel(
    figure: go.Figure,
    part: pd.DataFrame,
    score: str,
    worst: float,
    color: str,
    row: int,
    column: int,
    names: Sequence[str],
) -> None:
    medians = part.groupby("law")[score].median().reindex(list(names))
    first = row == 1 and column == 1
    where: dict[str, Any] = {"row": row, "col": column}
    figure.add_scatter(
        x=part[score].clip(lower=worst),
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
        x=medians.clip(lower=worst),
        y=medians.index,
        mode="markers",
        name="median of cases",
        marker={"symbol": "line-ns", "size": 15, "line": {"color": INK, "width": 2.5}},
        hoverinfo="skip",
        showlegend=first,
        **where,
    )
    _level(figure, part, score, worst, names, row == 1 and column <= 2, where)
    figure.add_scatter(
        x=[1 + 0.1 * (1 - worst)] * len(medians),
        y=medians.index,
        mode="text",
        text=[_short(value) for value in medians],
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
    worst: float,
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
        x=level.clip(lower=worst),
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


def _short(value: float) -> str:
    """An R² in few letters: three decimals, fewer below -1, never rounded up to 1."""
    if not np.isfinite(value):
        return "–"
    if value > 0.9995:
        return ">.999" if value < 1 else "1"
    digits = 3 if value > -1 else 1 if value > -10 else 0
    return f"{value:.{digits}f}".replace("-", "−").replace("0.", ".")
