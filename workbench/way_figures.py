"""Ways of steering held against each other: what each gives for what it costs."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from workbench.intervals import bootstrap_mean
from workbench.look import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    error_bars,
    redrawable,
)

_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY)


def paths(frame: pd.DataFrame, *, by: str = "way") -> pd.DataFrame:
    """What steering gives and costs along each way's multiples.

    frame  rows of `odds.odds`, with the name of the way in the column `by`; each way has m = 0

    One row per way and multiple: `by`, `m`, `gain` (mean over pairs of the change of preference
    log-odds from m = 0, nats) with `gain_low` and `gain_high`, its 95 % bootstrap interval over
    pairs, `cost` (mean fall of the log-probability per token of both answers, nats) and `pairs`.
    Raises ValueError for a frame without the column, a way without m = 0, or one that has a pair
    twice at one m.
    """
    if by not in frame.columns:
        raise ValueError(f"the frame has no column {by!r} that names the way")
    found = []
    for way, part in frame.groupby(by, sort=False):
        if part.duplicated(["pair", "m"]).any():
            raise ValueError(f"{way!r} has several rows of one pair and m: name each way apart")
        wide = part.pivot_table(index="pair", columns="m", values=["preference", "likelihood"])
        if 0 not in wide["preference"].columns:
            raise ValueError(f"{way!r} has no row of m = 0, from which the change is counted")
        gains = wide["preference"].sub(wide["preference"][0], axis=0)
        costs = wide["likelihood"].rsub(wide["likelihood"][0], axis=0)
        for m in gains.columns:
            gain = bootstrap_mean(gains[m].to_numpy())
            found.append(
                {
                    by: way,
                    "m": m,
                    "gain": gain.value,
                    "gain_low": gain.low,
                    "gain_high": gain.high,
                    "cost": float(costs[m].mean()),
                    "pairs": len(gains),
                }
            )
    return pd.DataFrame(found)


@redrawable
def preference_against_cost(frame: pd.DataFrame, *, by: str = "way", title: str = "") -> go.Figure:
    """What ways of steering give for what they cost: up and to the left is better.

    Args:
        frame: rows of `way_figures.paths`.
        by: the column that names the way.
        title: above the figure.

    A curve begins unsteered, at 0, and runs on with the multiple. Bars are 95 % intervals over
    pairs.
    """
    figure = go.Figure()
    names = list(dict.fromkeys(frame[by].astype(str)))
    for index, name in enumerate(names):
        part = frame[frame[by].astype(str) == name].sort_values("m", key=abs)
        colour = _COLOURS[index % len(_COLOURS)]
        figure.add_scatter(
            x=part["cost"],
            y=part["gain"],
            mode="lines+markers",
            name=html.escape(name),
            line={"color": colour, "width": 1.8},
            marker={"size": 6, "color": colour},
            error_y=error_bars(part, "gain", colour),
            customdata=part[["m"]],
            hovertemplate=(
                f"{html.escape(name)}, m = %{{customdata[0]:.3g}}: gain %{{y:.2f}} nats for "
                "%{x:.2f} nats a token<extra></extra>"
            ),
        )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=380 + (30 if title else 0),
        margin={"t": 20 + (30 if title else 0), "b": 60 + 24 * (-(-len(names) // 3))},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": -0.22, "x": 0, "yanchor": "top"},
    )
    figure.update_xaxes(title_text="Cost: fall of log-probability (nats per token of both answers)")
    figure.update_yaxes(title_text="Gain in log-odds (nats per answer)")
    return figure
