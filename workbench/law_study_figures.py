"""Figures of the study of laws: every case's curve, how many pairs it takes, why pairs differ."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.law_findings import CASE, FORMS
from workbench.law_shapes import KINDS, Kind
from workbench.laws import fit
from workbench.look import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    TEMPLATE,
    WIDTH,
    redrawable,
)

_COLORS: Mapping[Kind, str] = {"preference": PURPLE, "utility": GREEN}
_DASHES = {"random": "dot", "matched": "solid"}
_WORDS = {"random": "dealt at random", "matched": "matched in length"}
_CAUSES = (
    ("level", "level", BLUE),
    ("size", "size of the effect", ORANGE),
    ("other", "shape", SKY),
)


@redrawable
def law_curves(
    frame: pd.DataFrame, *, kind: Kind = "preference", law: str = "paper", title: str = ""
) -> go.Figure:
    """Mean curves of all cases, small multiples: a row a form, a column a layer, a line a trait.

    Args:
        frame: rows of `law_findings.relative_curves`.
        kind: which of the two curves.
        law: what is fitted to each mean and drawn, thin and dashed.
        title: above the figure.

    Curves are changes from m = 0 in shares of each case's largest, so that shapes can be compared;
    bands are 95 % intervals over pairs. Dotted: the true ceilings.
    """
    part = frame[frame["kind"] == kind]
    forms = [form for form in FORMS if form in set(part["form"])]
    layers, traits = sorted(part["layer"].unique()), list(part["trait"].unique())
    figure = make_subplots(
        rows=len(forms),
        cols=len(layers),
        shared_xaxes="all",
        shared_yaxes="all",
        column_titles=[f"after layer {layer}" for layer in layers],
        row_titles=[FORMS[form].replace(", ", ",<br>") for form in forms],
        horizontal_spacing=0.025,
        vertical_spacing=0.035,
    )
    for (trait, layer, form), own in part.groupby(CASE, sort=False):
        place = {"row": forms.index(str(form)) + 1, "col": layers.index(layer) + 1}
        color = COLORS[traits.index(trait) % len(COLORS)]
        _curve(figure, own.sort_values("ceilings"), str(trait), color, kind, law, place)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=110 + (30 if title else 0) + 150 * len(forms),
        margin={"t": 66 + (30 if title else 0), "l": 62, "r": 42, "b": 52},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.07, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    for end in (-1, 1):
        figure.add_vline(x=end, line={"color": GREY, "width": 1, "dash": "dot"})  # type: ignore[arg-type]
    span = [-1.25, 1.25] if kind == "preference" else [-1.25, 0.35]
    figure.update_yaxes(range=span, tickfont={"size": 11}, dtick=0.5)
    figure.update_xaxes(range=[-1.55, 1.55], dtick=1, tickfont={"size": 11})
    middle = (len(layers) + 1) // 2
    figure.update_xaxes(
        title_text="Coefficient (true ceilings of its side)", row=len(forms), col=middle
    )
    words = f"Change of {kind} (share of the largest)"
    figure.add_annotation(
        text=words,
        textangle=-90,
        x=-0.085,
        y=0.5,
        xref="paper",
        yref="paper",
        xanchor="center",
        yanchor="middle",
        showarrow=False,
        font={"size": 14},
    )
    return figure


def _curve(
    figure: go.Figure,
    own: pd.DataFrame,
    trait: str,
    color: str,
    kind: Kind,
    law: str,
    place: dict[str, int],
) -> None:
    name, first = html.escape(trait), place == {"row": 1, "col": 1}
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    x = own["ceilings"].to_numpy()
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*own["high"], *own["low"][::-1]],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.22)",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        **place,
    )
    figure.add_scatter(
        x=x,
        y=own["mean"],
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=first,
        line={"color": color, "width": 2},
        hovertemplate=f"%{{y:.2f}} at %{{x:.2f}} ceilings<extra>{name}</extra>",
        **place,
    )
    found = fit(own["m"].to_numpy(), own["mean"].to_numpy(), kind, law, follow=6)
    figure.add_scatter(
        x=x,
        y=found(own["m"].to_numpy()),
        mode="lines",
        name="law",
        legendgroup="law",
        showlegend=first and not any(trace.name == "law" for trace in figure.data),
        line={"color": INK, "width": 1, "dash": "dash"},
        hoverinfo="skip",
        **place,
    )


@redrawable
def pairs_needed(frame: pd.DataFrame, *, aim: float = 0.97, title: str = "") -> go.Figure:
    """R² of one mean curve for another, without a law, by the number of pairs behind each.

    Args:
        frame: rows of `law_findings.samples`.
        aim: a level to mark.
        title: above the figure.

    Points are medians over cases with the middle half of them; lines are what the variance between
    pairs lets expect, dotted where pairs are dealt at random, solid where matched in length. The
    vertical axis shows 1 - R² on a logarithmic scale, upside down.
    """
    figure = go.Figure()
    for kind in KINDS:
        for dealing, dash in _DASHES.items():
            part = frame[(frame["kind"] == kind) & (frame["dealing"] == dealing)]
            if part.empty:
                continue
            color, name = _COLORS[kind], f"{kind}, {_WORDS[dealing]}"
            spot = 1.03 if dealing == "matched" else 0.97
            figure.add_scatter(
                x=part["pairs"],
                y=1 - part["expected"],
                mode="lines",
                line={"color": color, "width": 1.6, "dash": dash},
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
            )
            missing = 1 - part["r2"]
            figure.add_scatter(
                x=part["pairs"] * spot,
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
                    "color": color if dealing == "matched" else "white",
                    "line": {"color": color, "width": 1.6},
                },
                customdata=part[["r2", "cases"]],
                hovertemplate="R² %{customdata[0]:.3f} with %{x:.0f} pairs, %{customdata[1]} cases"
                f"<extra>{html.escape(name)}</extra>",
            )
    figure.add_hline(y=1 - aim, line={"color": INK, "width": 1, "dash": "dash"})  # type: ignore[arg-type]
    figure.add_annotation(
        text=f"aim {aim:g}",
        x=1,
        xref="paper",
        xanchor="right",
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
        height=400 + (30 if title else 0),
        margin={"t": 64 + (30 if title else 0)},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "font": {"size": 12}},
    )
    figure.update_yaxes(
        type="log",
        autorange="reversed",
        tickvals=[1 - tick for tick in ticks],
        ticktext=[f"{tick:g}" for tick in ticks],
        title_text="R² of one mean curve for another",
    )
    figure.update_xaxes(
        type="log",
        tickvals=counts,
        ticktext=[str(count) for count in counts],
        title_text="Pairs behind each mean",
    )
    return figure


@redrawable
def pair_spread(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """What pairs differ in: shares of the variance between them, a bar a case.

    Args:
        frame: rows of `law_findings.spreads`.
        title: above the figure.

    *Level*: the pair's curve lies higher or lower throughout; *size of the effect*: it has more or
    less of the mean curve; *shape*: all else. Black ticks: what a line in the length of the answers
    explains.
    """
    traits = list(frame["trait"].unique())
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04, column_titles=list(KINDS)
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
        for name, words, color in _CAUSES:
            figure.add_bar(
                y=labels,
                x=means[name],
                orientation="h",
                name=words,
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
            marker={"symbol": "line-ns", "size": 11, "line": {"color": INK, "width": 2}},
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
        height=130 + (30 if title else 0) + 22 * len(means),
        margin={"t": 70 + (30 if title else 0), "l": 190, "b": 56},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.1, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", tickfont={"size": 11})
    figure.update_xaxes(range=[0, 1], tickformat=".0%", dtick=0.25)
    figure.update_xaxes(title_text="Share of the variance between pairs", row=1, col=1)
    return figure


def _labels(index: Any) -> Sequence[str]:
    return [f"{trait}: {FORMS[form]}" for _, trait, _, form in index]
