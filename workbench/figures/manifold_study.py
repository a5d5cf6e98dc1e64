"""What distance from ordinary text tells: spoiled texts, and which vectors break early."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    INK,
    PURPLE,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    error_bars,
    redrawable,
)
from workbench.statistics.rank_correlation import rank_correlation
from workbench.studies.manifold_findings import in_words

_KINDS = {"principal": BLUE, "neighbours": VERMILLION, "clusters": GREEN, "raw": PURPLE}
_SYMBOLS = ("circle", "square-open", "diamond-open", "triangle-up-open", "x")


@redrawable
def distance_sensitivity(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How well distance tells spoiled texts from ordinary ones, by layer: a panel a way to spoil.

    Args:
        frame: rows of `manifold_checks.sensitivity`.
        title: above the figure.

    Points are areas under the curve of whole texts with 95 % intervals; at 0.5 nothing is told.
    """
    ways = list(frame["spoiled"].unique())
    figure = make_subplots(
        rows=1, cols=len(ways), shared_yaxes=True, subplot_titles=ways, horizontal_spacing=0.03
    )
    kinds = list(frame["kind"].unique())
    for column, way in enumerate(ways, start=1):
        for index, kind in enumerate(kinds):
            mine = frame[(frame["spoiled"] == way) & (frame["kind"] == kind)]
            color = _KINDS.get(kind, GREY)
            figure.add_scatter(
                x=mine["layer"] + 0.16 * (index - (len(kinds) - 1) / 2),
                y=mine["auc"],
                mode="markers",
                name=kind,
                legendgroup=kind,
                showlegend=column == 1,
                marker={"color": color, "size": 7},
                error_y=error_bars(mine, "auc", color, low="low", high="high"),
                hovertemplate="%{y:.2f} at layer %{x:.0f}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_hline(y=0.5, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=column)  # type: ignore[arg-type]
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 100,
        height=330 + (30 if title else 0),
        margin={"t": 70 + (30 if title else 0)},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.1, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(dtick=1)
    figure.update_xaxes(title_text="Layer", row=1, col=(len(ways) + 1) // 2)
    figure.update_yaxes(title_text="Area under the curve", range=[-0.03, 1.03], row=1, col=1)
    return figure


@redrawable
def across_vectors(
    frame: pd.DataFrame,
    *,
    predictors: Sequence[str] = (
        "norm:kl",
        "norm:principal steered",
        "norm:neighbours steered",
        "norm:raw steered",
        "norm:raw last",
        "cos_top",
    ),
    title: str = "",
) -> go.Figure:
    """True ceilings of many vectors against what is known of each at one norm: a panel a predictor.

    Args:
        frame: rows of `manifold_findings.sides`.
        predictors: columns of it.
        title: above the figure.

    Both axes show ranks within the layer of a model, from 0 to 1. Colour is the trait, shape the
    model, grey a random or shuffled-label direction. ρ with its interval over traits and models.
    """
    strata = ["model", "layer"]
    names = []
    for name in predictors:
        found = rank_correlation(frame, "ceiling", name, strata=strata)
        ends = f"[{found.low:+.2f}, {found.high:+.2f}]"
        words = in_words(name.split(":")[-1]).replace(", ", ",<br>")
        words = words if "<br>" in words else f"{words}<br>"
        names.append(f"{words}<br>ρ = {found.value:+.2f} {ends}".replace("-", "−"))
    rows = -(-len(predictors) // 2)
    figure = make_subplots(
        rows=rows,
        cols=2,
        subplot_titles=names,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.06,
        vertical_spacing=0.33 / rows,
    )
    ranks = frame.groupby(strata)[["ceiling", *predictors]].rank(pct=True)
    control = frame["method"].isin(["random", "shuffled"])
    traits, models = list(frame["trait"].unique()), list(frame["model"].unique())
    groups = [
        (t, COLORS[i % len(COLORS)], (frame["trait"] == t) & ~control) for i, t in enumerate(traits)
    ]
    groups.append(("random or shuffled", GREY, control))
    looks = dict(zip(models, _SYMBOLS * len(models), strict=False))
    for index, name in enumerate(predictors):
        row, column = divmod(index, 2)
        for words, color, chosen in groups:
            mine = ranks[chosen]
            shapes = frame.loc[chosen, "model"].map(looks)
            figure.add_scatter(
                x=mine[name],
                y=mine["ceiling"],
                mode="markers",
                name=html.escape(words),
                legendgroup=words,
                showlegend=index == 0,
                marker={"color": color, "symbol": shapes, "size": 5, "opacity": 0.75},
                hoverinfo="skip",
                row=row + 1,
                col=column + 1,
            )
    for name, symbol in looks.items():  # nothing but an entry of the legend
        marker = {"color": INK, "symbol": symbol, "size": 7}
        entry = html.escape(str(name))
        figure.add_scatter(x=[None], y=[None], mode="markers", name=entry, marker=marker)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 40,
        height=180 + rows * 270 + (30 if title else 0),
        margin={"t": 88 + (30 if title else 0), "b": 120},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": -0.11, "yanchor": "top", "font": {"size": 12}},
    )
    figure.update_annotations(font={"size": 12})
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text="True ceiling (rank)", row=row, col=1)
    for column in (1, 2):
        figure.update_xaxes(title_text="Predictor at 0.4 norms (rank)", row=rows, col=column)
    figure.update_xaxes(title_font={"size": 13})
    return figure
