"""What distance from ordinary text tells: spoiled texts, and which vectors break early."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
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
from workbench.studies.manifold_findings import KINDS, PLACES, in_words

_KINDS = {"principal": BLUE, "neighbours": VERMILLION, "clusters": GREEN, "raw": PURPLE}


@redrawable
def distance_sensitivity(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """How well distance tells spoiled texts from ordinary ones, by layer: a panel a way to spoil.

    Args:
        frame: rows of `manifold_checks.sensitivity`.
        title: above the figure.

    Points are areas under the curve of whole texts with 95 % intervals; at 0.5 nothing is told,
    below it a spoiled text looks more ordinary than ordinary ones.
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
                name=html.escape(in_words(kind)),
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
        legend={"orientation": "h", "x": 0, "y": 1.1, "yanchor": "bottom", "font": {"size": 12}},
    )
    figure.update_annotations(font={"size": 13})
    figure.add_annotation(
        text="below 0.5: looks more ordinary",
        x=0.03,
        xref="x domain",
        xanchor="left",
        y=0.03,
        showarrow=False,
        font={"size": 12, "color": GREY},
        row=1,
        col=1,
    )
    figure.update_xaxes(dtick=1)
    figure.update_xaxes(title_text="Layer", row=1, col=(len(ways) + 1) // 2)
    figure.update_yaxes(title_text="Area under the curve", range=[-0.03, 1.03], row=1, col=1)
    return figure


@redrawable
def across_vectors(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """What tells of a vector, at one norm and at one KL, how far it may be pushed: its rank
    correlation with the true ceiling over many vectors, a row a predictor.

    Args:
        frame: rows of `manifold_findings.sides`.
        title: above the figure.

    Ranks are within the layer of a model, 95 % intervals over traits and models. Filled: the
    predictor alone; open: given what needs no distance, which is KL or norm, and |cos|. To the left
    of 0, a vector of which more is seen breaks earlier.
    """
    known = {"norm": "norm:kl", "kl": "kl:norm"}
    distances = [f"{kind} {place}" for place in PLACES for kind in KINDS]
    every = ["kl", "norm", "kl_fixed", "cos_top", *distances]
    columns = {
        matched: {name: name if name == "cos_top" else f"{matched}:{name}" for name in every}
        for matched in known
    }
    names = [name for name in every if any(own[name] in frame for own in columns.values())]
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        subplot_titles=["Vectors at one norm", "Vectors at one KL"],
        horizontal_spacing=0.04,
    )
    heights = {name: height for height, name in enumerate(names)}
    for column, (matched, own) in enumerate(columns.items(), start=1):
        where = {"row": 1, "col": column}
        for name in names:
            if own[name] not in frame:
                continue
            others = [known[matched]] if name in ("cos_top", *distances) else []
            others += ["cos_top"] if name != "cos_top" else []
            color = _KINDS.get(name.split(" ")[0], INK)
            for given, shift, fill in (([], -0.14, color), (others, 0.14, "white")):
                given = [each for each in given if each in frame]
                if fill == "white" and not given:
                    continue
                found = rank_correlation(
                    frame, "ceiling", own[name], strata=["model", "layer"], given=given
                )
                bar = pd.DataFrame([{"rho": found.value, "low": found.low, "high": found.high}])
                figure.add_scatter(
                    x=bar["rho"],
                    y=[heights[name] + shift],
                    error_x=error_bars(bar, "rho", color, low="low", high="high"),
                    mode="markers",
                    marker={"color": fill, "size": 8, "line": {"color": color, "width": 1.6}},
                    name=own[name],
                    showlegend=False,
                    hovertemplate=f"ρ %{{x:+.2f}} [{found.low:+.2f}, {found.high:+.2f}]"
                    "<extra></extra>",
                    **where,
                )
    for words, fill in (("alone", INK), ("given KL or norm, and |cos|", "white")):
        marker = {"color": fill, "size": 8, "line": {"color": INK, "width": 1.6}}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=words, marker=marker)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 160,
        height=150 + 36 * len(names) + (30 if title else 0),
        margin={"t": 76 + (30 if title else 0), "b": 66},
        title={"text": html.escape(title)},
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1 + 26 / (36 * len(names)),
            "yanchor": "bottom",
        },
    )
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(
        tickvals=list(heights.values()),
        ticktext=[html.escape(in_words(name)) for name in names],
        tickfont={"size": 12},
        range=[len(names) - 0.5, -0.5],
    )
    figure.update_xaxes(range=[-1, 1], tickvals=[-0.5, 0, 0.5])
    figure.update_xaxes(zeroline=True, zerolinecolor=GREY, zerolinewidth=1.5)
    figure.add_annotation(
        text="Rank correlation ρ with the true ceiling",
        x=0.5,
        y=0,
        yshift=-38,
        xref="paper",
        yref="paper",
        yanchor="top",
        showarrow=False,
        font={"size": 14},
    )
    return figure
