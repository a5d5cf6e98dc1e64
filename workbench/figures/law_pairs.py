"""How many pairs a mean curve takes, and what pairs differ in: of the study of laws."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.law_scores import COLORS
from workbench.figures.look import BLUE, INK, ORANGE, SKY, TEMPLATE, WIDTH, redrawable
from workbench.preference.law_shapes import KINDS
from workbench.studies.law_tables import FORMS

_DASHES = {"random": "dot", "matched": "solid"}
_WORDS = {"random": "dealt at random", "matched": "matched in length"}
_CAUSES = (
    ("level", "level", BLUE),
    ("size", "size of the effect", ORANGE),
    ("other", "shape", SKY),
)


@redrawable
def pairs_needed(frame: pd.DataFrame, *, aim: float = 0.97, title: str = "") -> go.Figure:
    """R² of one mean curve for another, without a law, by the number of pairs behind each.

    Args:
        frame: rows of `law_tables.samples`.
        aim: a level to mark.
        title: above the figure.

    Points are medians over cases, bars the middle half of them; lines are what the variance between
    pairs lets expect, dotted where pairs are dealt at random, solid where matched in length. The
    vertical axis shows 1 - R² on a logarithmic scale, upside down.
    """
    figure = go.Figure()
    for kind in KINDS:
        for dealing, dash in _DASHES.items():
            part = frame[(frame["kind"] == kind) & (frame["dealing"] == dealing)]
            if part.empty:
                continue
            color, name = COLORS[kind], f"{kind}, {_WORDS[dealing]}"
            # Numbers of which not all cases have so many pairs are a line of their own.
            for _, own in part.groupby("cases", sort=False):
                _expected(figure, own, name, color, dash)
            _seen(figure, part, name, color, filled=dealing == "matched")
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="lines",
        name="expected from the variance",
        line={"color": INK, "width": 1.6},
    )
    figure.add_hline(y=1 - aim, line={"color": INK, "width": 1, "dash": "dash"})  # type: ignore[arg-type]
    figure.add_annotation(
        text=f"aim {aim:g}",
        x=0.01,
        xref="paper",
        xanchor="left",
        y=np.log10(1 - aim),
        yanchor="bottom",
        showarrow=False,
        font={"size": 12},
    )
    ticks = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99, 0.995]
    counts = sorted(frame["pairs"].unique())
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=436 + (30 if title else 0),
        margin={"t": 96 + (30 if title else 0)},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "font": {"size": 12}},
    )
    figure.update_yaxes(
        type="log",
        autorange="reversed",
        tickvals=[1 - tick for tick in ticks],
        ticktext=[f"{tick:g}" for tick in ticks],
        title_text="R² of one mean curve for another<br>(median and middle half of cases)",
    )
    figure.update_xaxes(
        type="log",
        tickvals=counts,
        ticktext=[str(count) for count in counts],
        title_text="Pairs behind each mean",
    )
    return figure


def _expected(figure: go.Figure, part: pd.DataFrame, name: str, color: str, dash: str) -> None:
    figure.add_scatter(
        x=part["pairs"],
        y=1 - part["expected"],
        mode="lines",
        line={"color": color, "width": 1.6, "dash": dash},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
    )


def _seen(figure: go.Figure, part: pd.DataFrame, name: str, color: str, *, filled: bool) -> None:
    missing = 1 - part["r2"]
    figure.add_scatter(
        x=part["pairs"] * (1.03 if filled else 0.97),
        y=missing,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (1 - part["low"]) - missing,
            "arrayminus": missing - (1 - part["high"]),
            "color": color,
            "thickness": 1,
            "width": 0,
        },
        mode="markers",
        name=name,
        legendgroup=name,
        marker={
            "size": 7,
            "color": color if filled else "white",
            "line": {"color": color, "width": 1.6},
        },
        customdata=part[["r2", "cases"]],
        hovertemplate="R² %{customdata[0]:.3f} with %{x:.0f} pairs, %{customdata[1]} cases"
        f"<extra>{html.escape(name)}</extra>",
    )


@redrawable
def pair_spread(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """What pairs differ in: shares of the variance between them, a bar a case.

    Args:
        frame: rows of `law_tables.spreads`.
        title: above the figure.

    *Level*: the pair's curve lies higher or lower throughout; *size of the effect*: it has more or
    less of the mean curve; *shape*: all else. Diamonds: what a line in the length of the answers
    explains.
    """
    traits = list(frame["trait"].unique())
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.12, column_titles=list(KINDS)
    )
    ordered = frame.assign(
        rank=frame["form"].map({form: index for index, form in enumerate(FORMS)}),
        turn=frame["trait"].map({trait: index for index, trait in enumerate(traits)}),
    ).sort_values(["turn", "rank", "layer"])
    for column, kind in enumerate(KINDS, 1):
        part = ordered[ordered["kind"] == kind]
        means = part.groupby(["turn", "trait", "rank", "form"], sort=True)[
            [name for name, _, _ in _CAUSES] + ["length"]
        ].mean()
        labels = _labels(means.index)
        for rank, (name, words, color) in enumerate(_CAUSES):
            figure.add_bar(
                y=labels,
                x=means[name],
                orientation="h",
                name=words,
                legendrank=rank,
                marker={"color": color},
                showlegend=column == 1,
                hovertemplate=f"{words}: %{{x:.0%}}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_scatter(
            y=labels,
            x=means["length"],
            mode="markers",
            name="explained by length",
            legendrank=len(_CAUSES),
            # White edges: seen on every colour of the bars.
            marker={"symbol": "diamond", "size": 8, "color": INK}
            | {"line": {"color": "white", "width": 1}},
            showlegend=column == 1,
            hovertemplate="by length: %{x:.0%}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_layout(
        template=TEMPLATE,
        barmode="stack",
        bargap=0.25,
        width=WIDTH + 60,
        height=150 + (30 if title else 0) + 22 * len(means),
        margin={"t": 70 + (30 if title else 0), "l": 190, "b": 76},
        title={"text": html.escape(title)},
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "x": 1,
            "xanchor": "right",
            "y": 1 + 26 / (22 * len(means)),
            "yanchor": "bottom",
        },
    )
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", tickfont={"size": 11})
    figure.update_xaxes(range=[0, 1], tickformat=".0%", dtick=0.25, tickfont={"size": 12})
    figure.update_xaxes(title_text="Share of the variance<br>between pairs")
    return figure


def _labels(index: Any) -> Sequence[str]:
    return [f"{trait}: {FORMS[form]}" for _, trait, _, form in index]
