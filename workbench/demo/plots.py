"""Figures that live in a page: they take on a new picture in place, in the theme of the page."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as ipw
import plotly.graph_objects as go

from workbench import figures
from workbench.demo import page
from workbench.demo.chart import Chart, Library
from workbench.figures.look import INK, TEMPLATE
from workbench.vectors.steering_vector import SteeringVector

_LIGHT_INK, _DARK_GRID = "#E0E0E0", "#3A3A3A"


class LivePlot:
    """A place on the page that shows figure after figure; `clicked` gets the place of a dot.

    Where there is no figure the words `empty` stand there, not an empty grid. `chart` draws, `box`
    holds chart or words: a figure that fits its width to the page takes the height from there too,
    whatever a page's own style says of figures.
    """

    def __init__(
        self,
        label: str,
        height: int,
        empty: str,
        library: Library,
        clicked: Callable[[float], None] | None = None,
    ) -> None:
        self.height = height
        self.figure: go.Figure | None = None
        self.chart = Chart(label, library, clicked)
        self._dark = False
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
        self.figure = figure
        self._draw()
        shown = (self.empty if figure is None else self.chart,)
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
        if self.figure is None:
            return
        figure = go.Figure(self.figure)
        fit_height(figure, self.height)
        figure.update_layout(width=None, autosize=True, meta=None)
        themed(figure, dark=self._dark)
        self.chart.show(figure)


def fit_height(figure: go.Figure, height: int) -> None:
    """Draw as high as that; a legend above all panels stays as many pixels above them, or it would
    sink into the names that stand between."""
    own, usual = figure.layout.margin, TEMPLATE.layout.margin
    edges = sum(usual[side] if own[side] is None else own[side] for side in "tb")
    before, above = figure.layout.height, figure.layout.legend.y
    if before is not None and above is not None and above > 1:
        figure.layout.legend.y = 1 + (above - 1) * (before - edges) / (height - edges)
    figure.layout.height = height


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
