"""Distance from ordinary text over coefficients and layers."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
    COLORS,
    GREEN,
    GREY,
    INK,
    ORANGE,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    band,
    redrawable,
    shaded,
    stack,
)
from workbench.support.wording import number
from workbench.sweeps.bands import SCALES, band_over_prompts

NORMS = "Coefficient (residual-stream norms)"
_ROUTES = {
    "fixed": ("fixed texts, steered", BLUE),
    "own": ("own texts, steered", VERMILLION),
    "unread": ("own texts, read unsteered", ORANGE),
    "asked": ("asked in the prompt", INK),
}
_LINKED = {"utility": BLUE, "coherence": GREEN, "intact": GREEN, "distance": VERMILLION}
_PANEL, _ACROSS = 165, 3
_NEAR = 0.5  # where the colours of distances begin; they reach at least to the bound


@redrawable
def distance_by_layer(
    frame: pd.DataFrame, *, kind: str = "principal", title: str = ""
) -> go.Figure:
    """Distance from ordinary text over the coefficient, a panel a layer, a line a route.

    Args:
        frame: rows of `geometry.displacement`, `own_texts` and `asked`, with `relative_KIND`, the
            distance in shares of what 95 % of ordinary tokens keep within.
        kind: of manifold.
        title: above the figure.

    Means over texts with 95 % intervals; what was asked for in the prompt is a level. The dotted
    line is the bound that 95 % of ordinary tokens keep.
    """
    layers = sorted(frame["layer"].unique())
    across = min(_ACROSS, len(layers))
    rows = -(-len(layers) // across)
    figure = make_subplots(
        rows=rows,
        cols=across,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=[f"layer {layer}" for layer in layers],
        horizontal_spacing=0.035,
        vertical_spacing=0.16 / max(rows - 1, 1),
    )
    column = f"relative_{kind}"
    ends = frame["coefficient_norm"].agg(["min", "max"]).tolist()
    for index, layer in enumerate(layers):
        row, place = divmod(index, across)
        where = {"row": row + 1, "col": place + 1}
        for route, (name, color) in _ROUTES.items():
            mine = frame[(frame["route"] == route) & (frame["layer"] == layer)]
            if mine.empty:
                continue
            mine = mine.rename(columns={"text": "prompt_index"})
            line = band_over_prompts(mine, column, axis="coefficient_norm")
            if route == "asked":
                line = pd.concat([line.assign(x=end) for end in ends])
            shaded(figure, line, color, 0.2, legendgroup=route, **where)
            figure.add_scatter(
                x=line["x"],
                y=line["mean"],
                mode="lines",
                name=name,
                legendgroup=route,
                showlegend=index == 0,
                line={"color": color, "width": 2, "dash": "dash" if route == "asked" else "solid"},
                hovertemplate="%{y:.2f} at %{x:+.2f}<extra></extra>",
                **where,
            )
        figure.add_hline(y=1, line={"color": GREY, "width": 1, "dash": "dot"}, **where)  # type: ignore[arg-type]
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=150 + rows * (_PANEL + 30) + (30 if title else 0),
        margin={"t": 100 + (30 if title else 0), "b": 60},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1 + 34 / (rows * _PANEL), "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(title_text=NORMS, row=rows, col=(across + 1) // 2)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text="Distance<br>(95 % bound = 1)", row=row, col=1)
    return figure


@redrawable
def layer_maps(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Steered layer against coefficient: distance from ordinary text, beside utility.

    Args:
        frame: one row per layer and coefficient, with `layer`, `coefficient_norm`, `distance` (at
            the steered layer, in shares of the 95 % bound) and `utility`, log-odds in nats.
        title: above the figure.
    """
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.2,
        subplot_titles=["Distance (95 % bound = 1)", "Fall of utility (nats)"],
    )
    rest = frame[np.isclose(frame["coefficient_norm"], 0)].set_index("layer")["utility"]
    frame = frame.assign(fall=frame["layer"].map(rest) - frame["utility"])
    far = frame["distance"]
    ends = {"distance": (min(_NEAR, far.min()), max(1.0, far.max())), "fall": (None, None)}
    for column, (name, scale) in enumerate((("distance", "Blues"), ("fall", "Oranges")), 1):
        wide = frame.pivot(index="layer", columns="coefficient_norm", values=name)
        # Falls range over powers of ten: the colour is their square root's.
        shade = np.sqrt(wide.clip(lower=0)) if name == "fall" else wide
        bar = {"thickness": 11, "len": 0.9, "x": 0.405 if column == 1 else 1.01}
        if name == "fall":
            ticks = [t for t in (0, 10, 50, 100, 200, 400, 800) if t <= wide.max().max()]
            bar |= {"tickvals": np.sqrt(ticks).tolist(), "ticktext": [str(t) for t in ticks]}
        figure.add_heatmap(
            x=[number(c, "+.2g") if c else "0" for c in wide.columns],
            y=[str(layer) for layer in wide.index],
            z=shade,
            zmin=ends[name][0],
            zmax=ends[name][1],
            customdata=wide,
            colorscale=scale,
            colorbar=bar,
            hovertemplate="layer %{y}, %{x} norms: %{customdata:.2f}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 110,
        height=330 + (30 if title else 0),
        margin={"t": 44 + (30 if title else 0), "b": 84, "r": 60},
        title={"text": html.escape(title)},
    )
    figure.update_annotations(font={"size": 14})
    figure.update_xaxes(title_text=NORMS.replace(" (", "<br>("), tickangle=0, showgrid=False)
    # Plotly would read some of the labels as numbers.
    figure.update_xaxes(type="category")
    figure.update_xaxes(tickfont={"size": 11})
    figure.update_yaxes(showgrid=False)
    figure.update_yaxes(title_text="Steered layer", row=1, col=1)
    return figure


@redrawable
def distance_link(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Utility, coherence and distance of one vector over the same coefficients.

    Args:
        frame: long, one row per `measure` ("utility", "coherence" or "intact", "distance"),
            `prompt_index` (a pair, a prompt or a text) and `coefficient_norm`, with `value`.
        title: above the figure.

    Means with 95 % intervals over pairs, prompts and texts.
    """
    labels = {
        "utility": "Utility<br>(log-odds, nats)",
        "coherence": "Coherence<br>(0 to 1)",
        "intact": "Intact texts<br>(share)",
        "distance": "Distance<br>(95 % bound = 1)",
    }
    figure = stack(3, above=10, title=title)
    drawn = [measure for measure in _LINKED if (frame["measure"] == measure).any()]
    for row, measure in enumerate(drawn, start=1):
        mine, color = frame[frame["measure"] == measure], _LINKED[measure]
        mine = mine.rename(columns={"value": measure})  # whose scale may have ends
        line = band_over_prompts(mine, measure, axis="coefficient_norm")
        band(figure, row, line, measure, color, named=False)
        ends = [-0.04, 1.04] if measure in SCALES else None
        figure.update_yaxes(title_text=labels[measure], nticks=5, range=ends, row=row, col=1)
    figure.add_hline(y=1, line={"color": GREY, "width": 1, "dash": "dot"}, row=3, col=1)  # type: ignore[arg-type]
    figure.update_xaxes(title_text=NORMS, row=3, col=1)
    return figure


@redrawable
def distance_by_form(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Distance and the fall of utility over the KL of the next token: a line a way of steering.

    Args:
        frame: rows of `manifold_views.by_form`.
        title: above the figure.

    Distance at the steered layer, in shares of what 95 % of ordinary tokens keep within. Falls
    range over powers of ten: their axis is one of square roots, below 0 where utility rises.
    """
    here = frame[frame["steered"]]
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.14)
    for index, (name, mine) in enumerate(here.groupby("way", sort=False)):
        color = COLORS[index % len(COLORS)]
        for sign, dash in ((1, "solid"), (-1, "dot")):
            side = mine[sign * mine["m"] > 0].sort_values("m", key=abs)
            for column, measure in enumerate(("distance", "fall"), start=1):
                figure.add_scatter(
                    x=side["kl"],
                    y=side[measure] if measure == "distance" else _root(side[measure]),
                    customdata=side[measure],
                    mode="lines+markers",
                    name=html.escape(str(name)),
                    legendgroup=str(name),
                    showlegend=sign == 1 and column == 1,
                    line={"color": color, "width": 2, "dash": dash},
                    marker={"size": 5},
                    hovertemplate="%{customdata:.2f} at %{x:.3f} nats<extra></extra>",
                    row=1,
                    col=column,
                )
    for words, dash in (("coefficient > 0", "solid"), ("coefficient < 0", "dot")):
        line = {"color": INK, "width": 2, "dash": dash}
        figure.add_scatter(x=[None], y=[None], mode="lines", name=html.escape(words), line=line)
    figure.add_hline(y=1, line={"color": GREY, "width": 1, "dash": "dot"}, row=1, col=1)  # type: ignore[arg-type]
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 160,
        height=430 + (30 if title else 0),
        margin={"t": 76 + (30 if title else 0), "b": 70},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    figure.update_xaxes(type="log", title_text="KL of the next token (nats)", dtick=1)
    figure.update_yaxes(title_text="Distance (95 % bound = 1)", row=1, col=1)
    ticks = [
        t
        for t in (-50, -10, -1, 0, 1, 10, 50, 100, 200, 400, 800)
        if here["fall"].min() <= t <= here["fall"].max()
    ]
    figure.update_yaxes(
        title_text="Fall of utility (nats)",
        tickvals=_root(pd.Series(ticks, dtype=float)).tolist(),
        ticktext=[str(t).replace("-", "−") for t in ticks],
        row=1,
        col=2,
    )
    return figure


def _root(values: pd.Series) -> pd.Series:
    return np.sign(values) * np.sqrt(values.abs())
