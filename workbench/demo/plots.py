"""Figures that live in a page: they take on a new picture in place, in the theme of the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as ipw
import plotly.graph_objects as go

from workbench import figures
from workbench.demo import page
from workbench.look import INK
from workbench.vectors import SteeringVector

_LIGHT_INK, _DARK_GRID = "#E0E0E0", "#3A3A3A"


class LivePlot:
    """One plotly widget that shows figure after figure; `clicked` gets the place of a dot.

    Where there is no figure the words `empty` stand in its place, not an empty grid.
    `box` holds it: a figure that fits its width to the page takes the height from there too,
    whatever a page's own style says of figures.
    """

    def __init__(
        self, height: int, empty: str, clicked: Callable[[float], None] | None = None
    ) -> None:
        self.widget = go.FigureWidget()
        self.height = height
        self._clicked = clicked
        self._figure: go.Figure | None = None
        self._dark = False
        self.widget.update_layout(height=height, autosize=True)
        self.widget._config = {"displayModeBar": False, "responsive": True}
        size = f"{height}px"
        self.empty = ipw.HTML(_instead(empty))
        self.box = ipw.Box(
            [self.empty],
            layout=ipw.Layout(height=size, min_height=size, width="100%", overflow="hidden"),
        )
        self.box.add_class("wb-plot")

    def show(self, figure: go.Figure | None, why: str = "") -> None:
        """Take on a figure; None: there is none, and `why`."""
        if why:
            self.empty.value = _instead(why)
        self._figure = figure
        self._draw()
        shown = (self.empty if figure is None else self.widget,)
        if self.box.children != shown:
            size = None if figure is None else f"{self.height}px"
            self.box.layout.height = self.box.layout.min_height = size
            self.box.children = shown

    def recolor(self, dark: bool) -> None:
        """Draw for a dark page or a light one."""
        if dark != self._dark:
            self._dark = dark
            self._draw()

    def _draw(self) -> None:
        figure = go.Figure() if self._figure is None else go.Figure(self._figure)
        figure.update_layout(width=None, height=self.height, autosize=True, meta=None)
        themed(figure, dark=self._dark)
        widget = self.widget
        same = [trace.type for trace in widget.data] == [trace.type for trace in figure.data]
        with widget.batch_update():
            widget.layout.update(figure.layout.to_plotly_json(), overwrite=True)
            if same:
                for mine, new in zip(widget.data, figure.data, strict=True):
                    mine.update(new.to_plotly_json(), overwrite=True)
        if not same:
            widget.data = ()
            widget.add_traces(list(figure.data))
        if self._clicked is not None:
            for trace in widget.data:
                if getattr(trace, "mode", None) == "markers":
                    trace.on_click(self._on_click)

    def _on_click(self, trace: Any, points: Any, state: Any) -> None:
        if points.xs and self._clicked is not None:
            self._clicked(float(points.xs[0]))


def _instead(words: str) -> str:
    return f'<div class="wb-say wb-empty">{page.plain(words)}</div>'


def separation(vector: SteeringVector) -> go.Figure | None:
    """How well each layer tells held-out pairs apart, where the vector steers, and why there; None
    where no pairs were held out."""
    if vector.separation is None:
        return None
    figure = figures.separation(vector.separation)
    figure.add_vline(x=vector.layer, line={"color": INK, "width": 1.2, "dash": "dash"})
    # What chose the layer need not be what is drawn; its numbers are in the vector's provenance.
    why = str(vector.provenance.get("layer_choice") or "the vector steers here").split(" (")[0]
    figure.update_xaxes(title_text=f"Layer (dashed: {why})", row=2, col=1)
    return figure


def themed(figure: go.Figure, *, dark: bool) -> None:
    """Let the page shine through; on a dark one, light letters and axes."""
    figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)")
    if not dark:
        return
    axis = {"linecolor": _LIGHT_INK, "tickcolor": _LIGHT_INK, "gridcolor": _DARK_GRID}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(
        font={"color": _LIGHT_INK}, hoverlabel={"bgcolor": "#222222", "font": {"color": "#EEEEEE"}}
    )
    for shape in figure.layout.shapes:
        if shape.line.color == INK:
            shape.line.color = _LIGHT_INK
