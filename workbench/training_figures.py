"""Losses of training, when it is done and while it runs."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.look import BLUE, GREEN, TEMPLATE, VERMILLION, WIDTH, redrawable

# Columns of `trained.loss_history` below the objective: name, words, colour.
_SIDES = (
    ("winning", "winning", GREEN),
    ("losing", "losing", VERMILLION),
)
_SMOOTH = 7  # steps of the running median that is drawn over the single steps


@redrawable
def loss_curves(frame: pd.DataFrame, *, title: str = "") -> go.Figure:
    """What training minimises, step by step, and the loss per token of both sides under it.

    Args:
        frame: rows of `trained.loss_history`; with a column `run`, a column of panels for each.
        title: above the figure.

    Dots are steps, lines their running medians, diamonds the objective on the held-out pairs.
    """
    runs = frame["run"] if "run" in frame.columns else pd.Series("", index=frame.index)
    names = list(dict.fromkeys(runs))
    figure = make_subplots(
        rows=2,
        cols=len(names),
        shared_xaxes="columns",
        shared_yaxes="rows",
        horizontal_spacing=0.03,
        vertical_spacing=0.07,
        column_titles=[html.escape(str(name)) for name in names],
    )
    for column, name in enumerate(names, 1):
        own = frame[runs == name]
        place = {"col": column, "showlegend": column == 1}
        _steps(figure, own, "loss", "objective", BLUE, {**place, "row": 1})
        held = own[own["held_out"].notna()]
        figure.add_scatter(
            x=held["step"],
            y=held["held_out"],
            mode="markers",
            name="held-out pairs",
            legendgroup="held out",
            marker={"symbol": "diamond", "size": 9, "color": "white", "line": {"width": 2}},
            marker_line_color=BLUE,
            hovertemplate="%{y:.3g} after step %{x}<extra>held out</extra>",
            **{**place, "row": 1, "showlegend": column == 1 and len(held) > 0},
        )
        for side, words, color in _SIDES:
            if own[side].notna().any():
                _steps(figure, own, side, words, color, {**place, "row": 2})
    above = 66 + (30 if title else 0)
    figure.update_layout(
        template=TEMPLATE,
        width=WIDTH,
        height=above + 370,
        margin={"t": above},
        title={"text": html.escape(title)},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.09, "yanchor": "bottom"},
    )
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(title_text="Objective (nats)", row=1, col=1)
    figure.update_yaxes(title_text="Loss (nats per token)", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="Step", row=2, col=(len(names) + 1) // 2)
    return figure


def _steps(
    figure: go.Figure,
    frame: pd.DataFrame,
    column: str,
    name: str,
    color: str,
    place: dict[str, Any],
) -> None:
    """Single steps, faint, and a running median over them."""
    figure.add_scatter(
        x=frame["step"],
        y=frame[column],
        mode="markers",
        marker={"size": 4, "color": color, "opacity": 0.3},
        legendgroup=column,
        hovertemplate="%{y:.3g} in step %{x}<extra></extra>",
        **{**place, "showlegend": False},
    )
    figure.add_scatter(
        x=frame["step"],
        y=frame[column].rolling(_SMOOTH, center=True, min_periods=1).median(),
        mode="lines",
        name=name,
        legendgroup=column,
        line={"color": color, "width": 2},
        hoverinfo="skip",
        **place,
    )


class LiveLosses:
    """Shows the losses while training runs: `train(..., watch=LiveLosses())`.

    A notebook's figure is drawn anew every so many steps and after every epoch; outside of a
    notebook nothing is shown. `frame` has what came so far, as `trained.loss_history` would.

    every  steps between two drawings
    title  above the figure

    Raises ValueError for fewer than one step.
    """

    def __init__(self, every: int = 10, *, title: str = "") -> None:
        if every < 1:
            raise ValueError(f"every {every!r}: give at least one step between two drawings")
        self.every, self.title = every, title
        self._rows: list[dict[str, float]] = []
        self._place: Any = None

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows)

    def __call__(self, row: dict[str, float]) -> None:
        """Take a row of the loss history."""
        self._rows.append(row)
        if len(self._rows) % self.every == 1 % self.every or np.isfinite(row["held_out"]):
            self._draw()

    def clear(self) -> None:
        """Take the figure off the page, when one of the whole training is to stand there."""
        if self._place is not None:
            self._place.update({"text/plain": ""}, raw=True)

    def _draw(self) -> None:
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        if get_ipython() is None:
            return
        figure = loss_curves(self.frame, title=self.title)
        bundle = {"application/vnd.plotly.v1+json": figure.to_plotly_json()}
        if self._place is None:
            self._place = display(bundle, raw=True, display_id=True)
        else:
            self._place.update(bundle, raw=True)
