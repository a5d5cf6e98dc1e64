"""How far judges agree, and what worse judges do to a ceiling."""

from __future__ import annotations

import html
import math

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import (
    BELOW,
    COLORS,
    GREEN,
    GREY,
    INK,
    LEGEND_ROW,
    PURPLE,
    TEMPLATE,
    WIDTH,
    align_legend,
    error_bars,
    legend_rows,
    redrawable,
    stack,
)
from workbench.support.wording import FIND_CEILING

_MEASURES = {"trait": (PURPLE, "diamond", -0.16), "coherence": (GREEN, "circle", 0.16)}
_ROW = 44  # pixels of a pair of judges
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x")
_TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LEAST = 0.005  # an error that is drawn at the lower edge, as it may be 0
_PANELS = (
    ("error", "|ln(found / true)|,<br>bound of a half"),
    ("own_error", "|ln(found / true)|,<br>the judge's own bound"),
)


@redrawable
def judge_agreement(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Quadratic weighted kappa of every pair of judges, with its interval.

    Args:
        frame: the table of `grading.agreements`: `judge`, `other`, `measure` ("trait" or
            "coherence"), `kappa`, `low`, `high`. A pair of which nothing can be compared keeps its
            row without a point.
        title: above the figure.
    """
    pairs = frame[["judge", "other"]].drop_duplicates().itertuples(index=False)
    places = {(one, other): place for place, (one, other) in enumerate(pairs)}
    figure = go.Figure()
    for measure, (color, symbol, offset) in _MEASURES.items():
        own = frame[(frame["measure"] == measure) & frame["kappa"].notna()]
        figure.add_scatter(
            x=own["kappa"],
            y=[places[pair] + offset for pair in zip(own["judge"], own["other"], strict=True)],
            error_x=error_bars(own, "kappa", color, low="low", high="high"),
            mode="markers",
            name=measure,
            marker={"color": color, "symbol": symbol, "size": 8},
            customdata=own[["low", "high"]],
            hovertemplate="%{x:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}]"
            f"<extra>{measure}</extra>",
            showlegend=True,
        )
    above = 36 + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + _ROW * max(len(places), 1) + 16 + BELOW,
        margin={"t": above, "b": BELOW},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    words = [f"{html.escape(one)},<br>{html.escape(other)}" for one, other in places]
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=words,
        tickfont={"size": 12},
        range=[len(places) - 0.5, -0.5],
    )
    low = min(-0.1, float(frame["low"].min(skipna=True)) - 0.05) if len(frame) else -0.1
    figure.update_xaxes(
        title_text="Agreement (quadratic weighted kappa)", range=[low, 1.04], dtick=0.2
    )
    figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"})
    return figure


@redrawable
def error_by_agreement(
    frame: pd.DataFrame,
    *,
    alone: float | None = None,
    noise: float | None = None,
    enough: float | None = None,
    title: str = "",
) -> go.Figure:
    """Error of the ceiling against the agreement of the judge that it was read off.

    Args:
        frame: the table of `faults.measure_all`, one row per fault and strength: `fault`,
            `strength`, and `kappa`, `error` and `own_error`, each with its interval in columns of
            that name with "_low" and "_high". Each fault is a line from mild to severe; the row of
            the exact judge ("none") is not drawn.
        alone: the error of `find_ceiling`, which asks no judge, a dashed line.
        noise: how far resampled prompts move the true ceiling, a dotted line.
        enough: a kappa to mark, a vertical line.
        title: above the figure.

    Errors are mean |ln(found / true)|, on a logarithmic axis; those below 0.005 are drawn at its
    lower edge.
    """
    own = frame[frame["fault"] != "none"]
    names = [str(name) for name in own["fault"].unique()]
    figure = stack(2, above=8 + LEGEND_ROW * legend_rows(names), title=title, panel=210)
    align_legend(figure, 1, names)
    for row, (column, words) in enumerate(_PANELS, start=1):
        for index, name in enumerate(names):
            part = own[own["fault"] == name].sort_values("kappa", ascending=False)
            ends = (column, f"{column}_low", f"{column}_high")
            part = part.assign(**{end: part[end].clip(lower=_LEAST) for end in ends})
            color, label = COLORS[index % len(COLORS)], html.escape(name)
            figure.add_scatter(
                x=part["kappa"],
                y=part[column],
                error_x=error_bars(part, "kappa", color),
                error_y=error_bars(part, column, color),
                customdata=part[["strength"]],
                mode="lines+markers",
                name=label,
                legendgroup=label,
                showlegend=row == 1,
                line={"color": color, "width": 1.6},
                marker={"size": 7, "symbol": _SYMBOLS[index % len(_SYMBOLS)]},
                hovertemplate="strength %{customdata[0]:.2g}: kappa %{x:.3f}, off by %{y:.3f}"
                f"<extra>{label}</extra>",
                row=row,
                col=1,
            )
        if alone is not None:
            _level(figure, row, alone, "dash", FIND_CEILING, "bottom")
        if noise is not None:
            _level(figure, row, noise, "dot", "noise of the prompts", "top")
        if enough is not None:
            line = {"color": GREY, "width": 1, "dash": "dot"}
            figure.add_vline(x=enough, line=line, row=row, col=1)  # type: ignore[arg-type]
        figure.update_yaxes(
            title_text=words, type="log", tickvals=_TICKS, range=[-2.35, 0.4], row=row, col=1
        )
    figure.update_xaxes(range=[0.17, 1.03], dtick=0.1)
    figure.update_xaxes(
        title_text="Agreement with the exact judge (quadratic weighted kappa)", row=2, col=1
    )
    return figure


def _level(figure: go.Figure, row: int, value: float, dash: str, words: str, yanchor: str) -> None:
    """A horizontal line, its name at its left end."""
    line = {"color": INK, "width": 1, "dash": dash}
    figure.add_hline(y=value, line=line, row=row, col=1)  # type: ignore[arg-type]
    figure.add_annotation(
        x=0,
        xref="x domain",
        xanchor="left",
        y=math.log10(value),
        yanchor=yanchor,
        text=words,
        showarrow=False,
        font={"size": 11},
        row=row,
        col=1,
    )
