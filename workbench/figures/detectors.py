"""Rules that look for the ceiling against where it truly is: a panel a rule."""

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import COLORS, GREY, TEMPLATE, WIDTH, redrawable

_SYMBOLS = ("circle", "square-open", "diamond-open", "triangle-up-open", "x")
_ACROSS = 3
_TICKS = (0.05, 0.1, 0.2, 0.5, 1.0)
_PANEL = 165  # pixels, of width and height


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

    On the line a rule is right. Under each name stands its mean distance, |log(predicted / true)|.
    """
    chosen = list(rules or frame["rule"].unique())
    traits, models = list(frame["trait"].unique()), list(frame["model"].unique())
    if len(traits) > len(COLORS) or len(models) > len(_SYMBOLS):
        raise ValueError(
            f"{len(traits)} traits and {len(models)} models: there are {len(COLORS)} colours and "
            f"{len(_SYMBOLS)} shapes; draw fewer at a time"
        )
    rows = -(-len(chosen) // _ACROSS)
    names = []
    for rule in chosen:
        mine = frame[frame["rule"] == rule]
        error = np.abs(np.log(mine["predicted"] / mine["true"])).mean()
        names.append(f"{html.escape(rule)}<br>off by {error:.3f}")
    figure = make_subplots(
        rows=rows,
        cols=_ACROSS,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=names,
        horizontal_spacing=0.04,
        vertical_spacing=0.17 / max(rows - 1, 1) if rows > 1 else 0,
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
        for trait, color in zip(traits, COLORS, strict=False):
            for model, symbol in zip(models, _SYMBOLS, strict=False):
                part = frame[
                    (frame["rule"] == rule) & (frame["trait"] == trait) & (frame["model"] == model)
                ]
                name = html.escape(f"{trait}, {model}")
                figure.add_scatter(
                    x=part["true"],
                    y=part["predicted"],
                    mode="markers",
                    showlegend=False,
                    marker={"color": color, "symbol": symbol, "size": 5, "opacity": 0.7},
                    hovertemplate=f"true %{{x:.3f}}, predicted %{{y:.3f}}<extra>{name}</extra>",
                    **place,
                )
    shapes = [*zip(models, _SYMBOLS, strict=False)] if len(models) > 1 else []
    entries = [(trait, "circle", color) for trait, color in zip(traits, COLORS, strict=False)]
    for name, symbol, color in [*entries, *((model, shape, GREY) for model, shape in shapes)]:
        marker = {"color": color, "symbol": symbol, "size": 7}
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=html.escape(name), marker=marker
        )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=120 + rows * (_PANEL + 44) + 20 * -(-(len(entries) + len(shapes)) // 5),
        margin={"t": 52 + (30 if title else 0), "b": 60},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": -0.13, "x": 0, "font": {"size": 12}},
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
