"""Preference and utility over the coefficient with the laws that fit them, and what they hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.figures.law_scores import COLORS, short
from workbench.figures.look import (
    BLUE,
    INK,
    LEGEND_ROW,
    ORANGE,
    align_legend,
    band,
    legend,
    legend_rows,
    redrawable,
    stack,
)
from workbench.preference.law_quantities import curves, means, quantities
from workbench.preference.law_shapes import KINDS, Kind
from workbench.preference.laws import fit
from workbench.sweeps.bands import band_over_prompts
from workbench.sweeps.frames import axis_title


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
    laws, grid = {}, np.zeros(0)
    for kind in KINDS:
        grid, values = curves(frame, kind)
        laws[kind] = fit(grid, means(values), kind, law)
    fine = np.linspace(grid[0], grid[-1], 401)
    words = {kind: f"law of {kind}, R² {short(found.r2)}" for kind, found in laws.items()}
    names = [name for kind in KINDS for name in (kind, words[kind])]
    figure = stack(2, above=LEGEND_ROW * legend_rows(names), title=title, panel=230)
    align_legend(figure, 1, names)
    marks: list[Mapping[str, Any]] = []
    for kind, found in laws.items():
        color = COLORS[kind]
        band(figure, 1, band_over_prompts(table, kind, axis="m"), kind, color)
        figure.add_scatter(
            x=fine,
            y=found(fine),
            mode="lines",
            name=words[kind],
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
    axis = axis_title("norm") if unit == "norm" else "Coefficient m"
    figure.update_xaxes(title_text=axis, row=2, col=1)
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
    peak, color = mark["quantity"] == "peak", COLORS[mark["kind"]]
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
