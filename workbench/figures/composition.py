"""Several properties at once: coefficients token by token, and deltas of every step."""

from __future__ import annotations

import html
from itertools import cycle, product

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures.look import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    TEMPLATE,
    VERMILLION,
    WIDTH,
    error_bars,
    printable,
    redrawable,
)

_COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
_DASHES = ("solid", "dash", "dot", "dashdot")
_PANEL, _SMALL = 190, 150  # pixels of height


@redrawable
def coefficients_over_text(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """The coefficient of every property at each token of a text, a panel a schedule.

    Args:
        frame: one row per `schedule`, `property` and `step`, with `text` (of the token) and
            `coefficient`, of either sign.
        title: above the figure.

    Under every panel stand the tokens that were written at these coefficients. Colors come by
    turns; from the second turn on lines are dashed.
    """
    schedules = list(dict.fromkeys(frame["schedule"]))
    properties, every = dict.fromkeys(frame["property"]), cycle(product(_DASHES, _COLORS))
    looks = dict(zip(properties, every, strict=False))
    figure = make_subplots(
        rows=len(schedules),
        cols=1,
        subplot_titles=[html.escape(each) for each in schedules],
        vertical_spacing=0.46 / len(schedules),
    )
    for row, schedule in enumerate(schedules, 1):
        mine = frame[frame["schedule"] == schedule]
        for place, (name, own) in enumerate(mine.groupby("property", sort=False)):
            thick = 3.2 if place == 0 else 1.2  # seen where the next lies upon it
            dash, color = looks[name]
            figure.add_scatter(
                x=own["step"],
                y=own["coefficient"],
                mode="lines+markers",
                line={"color": color, "width": thick, "shape": "hvh", "dash": dash},
                marker={"color": color, "size": 4 + thick},
                name=html.escape(str(name)),
                legendgroup=str(name),
                showlegend=row == 1,
                row=row,
                col=1,
            )
        words = mine.drop_duplicates("step")
        figure.update_xaxes(
            tickvals=words["step"].tolist(),
            ticktext=[_token(each) for each in words["text"]],
            tickangle=-90,
            tickfont={"size": 10},
            showgrid=False,
            range=[-0.7, frame["step"].max() + 0.7],
            row=row,
            col=1,
        )
        least, most = min(mine["coefficient"].min(), 0.0), max(mine["coefficient"].max(), 0.0)
        height = max(most - least, 0.1)
        below = 0.15 if least < 0 else 0.06
        ends = [least - below * height, max(most, least + height) + 0.15 * height]
        figure.update_yaxes(range=ends, nticks=4, row=row, col=1)
    figure.update_yaxes(title_text="Coefficient (times the delta)", row=(len(schedules) + 1) // 2)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=(_SMALL + 30) * len(schedules) + 120,
        margin={"t": 74 + (30 if title else 0), "b": 84},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": 1 + 42 / ((_SMALL + 30) * len(schedules)), "x": 0,
                "yanchor": "bottom"},
    )  # fmt: skip
    figure.update_annotations(font={"size": 13})
    return figure


@redrawable
def step_forms(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """Deltas of every step beside their average: both properties over the strength.

    Args:
        frame: one row per `panel` (a row of panels), `schedule` (a column), `form` ("per step" or
            "averaged") and `level`, with the share `both`, `both low` and `both high`.
        title: above the figure.
    """
    panels, schedules = (list(dict.fromkeys(frame[name])) for name in ("panel", "schedule"))
    figure = make_subplots(
        rows=len(panels), cols=len(schedules), shared_yaxes="all", shared_xaxes="columns",
        horizontal_spacing=0.03, vertical_spacing=0.07,
        column_titles=[html.escape(each) for each in schedules],
        row_titles=[html.escape(each) for each in panels],
    )  # fmt: skip
    for form, color, symbol in (("per step", BLUE, "circle"), ("averaged", VERMILLION, "diamond")):
        for row, panel in enumerate(panels, 1):
            for column, schedule in enumerate(schedules, 1):
                mine = frame[
                    (frame["panel"] == panel)
                    & (frame["schedule"] == schedule)
                    & (frame["form"] == form)
                ].sort_values("level")
                percent = mine.assign(
                    **{each: 100 * mine[each] for each in ("both", "both low", "both high")}
                )
                figure.add_scatter(
                    x=percent["level"],
                    y=percent["both"],
                    error_y=error_bars(percent, "both", color, low="both low", high="both high"),
                    mode="lines+markers",
                    line={"color": color, "width": 1.6},
                    marker={"color": color, "symbol": symbol, "size": 6},
                    name="a delta a step" if form == "per step" else "their average",
                    legendgroup=form,
                    showlegend=row == column == 1,
                    row=row,
                    col=column,
                )
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH + 60,
        height=_PANEL * len(panels) + 150 + (30 if title else 0),
        margin={"t": 70 + (30 if title else 0), "b": 60, "r": 40},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "y": 1 + 34 / (_PANEL * len(panels)), "x": 0,
                "yanchor": "bottom"},
    )  # fmt: skip
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(title_text="Strength", row=len(panels))
    figure.update_yaxes(range=[-6, 108], dtick=25)
    figure.update_yaxes(title_text="Both properties (percent of texts)", row=1, col=1)
    return figure


def _token(text: str) -> str:
    """A token as a label: its spaces are seen."""
    plain = "".join(map(printable, text.strip() or "␣"))
    return html.escape(plain if len(plain) <= 12 else plain[:11] + "…")
