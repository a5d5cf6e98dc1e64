"""Rules that look for the ceiling against where it truly is: a panel a rule."""

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import COLORS, GREY, INK, TEMPLATE, WIDTH, redrawable

_SYMBOLS = ("circle", "square-open", "diamond-open", "triangle-up-open", "x")
_ACROSS = 3
_TICKS = (0.05, 0.1, 0.2, 0.5, 1.0)
_PANEL, _HEAD = 165, 56  # pixels: of a panel, and between two


@redrawable
def predicted_ceilings(
    frame: pd.DataFrame, *, rules: Sequence[str] | None = None, title: str = ""
) -> go.Figure:
    """Predicted against true ceilings on logarithmic axes: colour is the trait, shape the model.

    Args:
        frame: one row per rule and side of a sweep, with `rule`, `model`, `trait`, and `true` and
            `predicted` in residual norms.
        rules: which of them, in this order; all by default.
        title: above the figure.

    On the line a rule is right. Under each name stands its mean distance, |ln(predicted / true)|.
    Points are drawn in an order by lot, so that no trait hides the others.
    """
    chosen = list(rules or frame["rule"].unique())
    traits, models = list(frame["trait"].unique()), list(frame["model"].unique())
    if len(traits) > len(COLORS) or len(models) > len(_SYMBOLS):
        raise ValueError(
            f"{len(traits)} traits and {len(models)} models: there are {len(COLORS)} colours and "
            f"{len(_SYMBOLS)} shapes; draw fewer at a time"
        )
    colors = dict(zip(traits, COLORS, strict=False))
    shapes = dict(zip(models, _SYMBOLS, strict=False))
    rows = -(-len(chosen) // _ACROSS)
    names = []
    for rule in chosen:
        mine = frame[frame["rule"] == rule]
        error = np.abs(np.log(mine["predicted"] / mine["true"])).mean()
        names.append(f"{html.escape(rule)}<br>mean |ln ratio| {error:.3f}")
    figure = make_subplots(
        rows=rows,
        cols=_ACROSS,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=names,
        horizontal_spacing=0.04,
        vertical_spacing=_HEAD / (rows * _PANEL + (rows - 1) * _HEAD) if rows > 1 else 0,
    )
    low, high = frame["true"].min() * 0.6, max(frame["true"].max(), frame["predicted"].max()) * 1.3
    for index, rule in enumerate(chosen):
        row, column = divmod(index, _ACROSS)
        place = {"row": row + 1, "col": column + 1}
        figure.add_scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            line={"color": GREY, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
            **place,
        )
        part = frame[frame["rule"] == rule].sample(frac=1, random_state=0)
        figure.add_scatter(
            x=part["true"],
            y=part["predicted"],
            mode="markers",
            showlegend=False,
            marker={
                "color": part["trait"].map(colors),
                "symbol": part["model"].map(shapes),
                "size": 5,
                "opacity": 0.35,
            },
            text=[
                html.escape(f"{t}, {m}") for t, m in zip(part["trait"], part["model"], strict=True)
            ],
            hovertemplate="true %{x:.3f}, predicted %{y:.3f}<extra>%{text}</extra>",
            **place,
        )
    entries = [(trait, "circle", color, "trait") for trait, color in colors.items()]
    if len(models) > 1:
        entries += [(model, shape, INK, "model") for model, shape in shapes.items()]
    for name, symbol, color, group in entries:
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=html.escape(name),
            marker={"color": color, "symbol": symbol, "size": 7},
            legend="legend" if group == "trait" else "legend2",
        )
    above, plot = 52 + (30 if title else 0), rows * _PANEL + (rows - 1) * _HEAD
    below = 56 + 46 * (2 if len(models) > 1 else 1)
    legends = {
        name: {
            "title": {"text": f"{words}:  ", "font": {"size": 12}},
            "orientation": "h",
            "x": 0,
            "y": -(54 + 46 * index) / plot,
            "yanchor": "top",
            "font": {"size": 12},
        }
        for index, (name, words) in enumerate((("legend", "Trait"), ("legend2", "Model")))
    }
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + plot + below,
        margin={"t": above, "b": below},
        title={"text": html.escape(title)},
        **legends,
    )
    figure.update_annotations(font={"size": 12})
    axis = {"type": "log", "tickvals": _TICKS, "tickfont": {"size": 11}}
    ends = [float(np.log10(low)), float(np.log10(high))]
    figure.update_xaxes(**axis, range=ends)
    figure.update_yaxes(**axis, range=ends)
    for column in range(1, _ACROSS + 1):
        words = "True ceiling (residual-stream norms)" if column == 2 else ""
        figure.update_xaxes(title_text=words, title_font={"size": 13}, row=rows, col=column)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text="Predicted (norms)", title_font={"size": 13}, row=row, col=1)
    return figure
