"""Tokens that a vector favours and hinders, or is most like and unlike, as bars."""

from __future__ import annotations

import html
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from workbench.figures.look import (
    BELOW,
    BLUE,
    GREY,
    INK,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    redrawable,
    visible,
)

# Of a column of values: what the axis calls it, and what the bars to the right and left are.
_SAID = {
    "logit": ("Change of the token's logit", "favoured", "hindered"),
    "cosine": ("Cosine with the token's input embedding", "nearest", "opposite"),
}

_PALE = 0.4


@redrawable
def token_bars(
    frame: pd.DataFrame,
    *,
    count: int = 10,
    value: Literal["logit", "cosine"] = "logit",
    unit: str = "per unit of the vector, without the final norm's division",
    chance: float | None = None,
    title: str = "",
) -> go.Figure:
    """What a vector says: the tokens that it favours and those it hinders, or is most like and
    unlike.

    Args:
        frame: one row per token, with `token` (its text) and `logit` (what the vector adds to
            that token's logit, `lens.top_tokens`) or `cosine` (`lens.nearest_tokens`); the largest
            and the smallest are drawn.
        count: how many of either kind at most.
        value: the column.
        unit: of logits, in words.
        chance: what the largest stays within under 95 % of random directions
            (`lens.largest_by_chance`, `lens.nearest_by_chance`); shaded. A bar that ends within it
            is pale: a random direction may well have it, and it is no sign of what the vector says.
        title: above the figure.
    """
    if value not in _SAID:
        raise ValueError(f"value {value!r} is unknown; choose one of {', '.join(_SAID)}")
    axis, right, left = _SAID[value]
    ranked = frame.sort_values(value, ascending=False, kind="stable")
    boosted = ranked[ranked[value] > 0].head(count)
    suppressed = ranked[ranked[value] < 0].tail(count)
    shown = pd.concat([boosted, suppressed])
    if shown.empty:
        raise ValueError(f"no token to draw: every value of the column {value!r} is 0 or missing")
    names = [html.escape(visible(token)) for token in shown["token"]]
    above = 56 if title else 30
    figure = go.Figure()
    parts = ((boosted, right, BLUE, 0), (suppressed, left, VERMILLION, len(boosted)))
    for part, name, color, first in parts:
        figure.add_bar(
            x=part[value],
            y=list(range(first, first + len(part))),
            orientation="h",
            marker={"color": color, "opacity": _opacity(part[value], chance)},
            name=name,
            hovertext=[
                f"{html.escape(visible(token))}: {size:+.3g}"
                for token, size in zip(part["token"], part[value], strict=True)
            ],
            hoverinfo="text",
        )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + BELOW + (18 if value == "logit" else 0) + 21 * len(shown),
        margin={"t": above, "b": BELOW + (18 if value == "logit" else 0)},
        title={"text": html.escape(title)},
        bargap=0.25,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )
    if chance is not None:
        figure.add_vrect(
            x0=-chance,
            x1=chance,
            fillcolor=GREY,
            opacity=0.25,
            line_width=0,
            layer="below",
            name="all tokens of 95 % of random directions",
            showlegend=True,
        )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(shown))),
        ticktext=names,
        autorange="reversed",
        showgrid=False,
        ticks="",
    )
    figure.update_xaxes(
        title_text=f"{axis}<br>({html.escape(unit)})" if value == "logit" else axis,
        zeroline=True,
        zerolinecolor=INK,
        zerolinewidth=1,
    )
    return figure


def _opacity(values: pd.Series, chance: float | None) -> list[float]:
    """Of each bar: pale where it ends within what random directions reach."""
    return [1.0 if chance is None or abs(each) > chance else _PALE for each in values]
