"""Figures in a page, drawn by one copy of plotly.js that is loaded when the first of them appears.

plotly's own widget brings five megabytes of script with each figure, which a page must read within
two seconds (anywidget's limit): a busy machine takes longer, and then shows it empty for ever. Here
the widgets are small (chart.js, library.js), and however long the script takes, the figure follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import anywidget
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs

from workbench.demo.scripts import script


class Library(anywidget.AnyWidget):
    """Nothing to see: hands plotly.js to the charts of a page."""

    _esm = script("library.js")
    source = traitlets.Unicode("").tag(sync=True)

    def load(self) -> None:
        """Send it, once."""
        self.source = self.source or get_plotlyjs()


class Chart(anywidget.AnyWidget):
    """One figure, drawn anew in place; `label` says to screen readers what it is.

    `clicked` hears the place along the x axis of a marker that was clicked.
    """

    _esm = script("chart.js")
    label = traitlets.Unicode("").tag(sync=True)
    figure = traitlets.Unicode("").tag(sync=True)  # JSON, "" before the first one

    def __init__(
        self, label: str, library: Library, clicked: Callable[[float], None] | None = None
    ) -> None:
        super().__init__(label=label)
        self._library = library
        self._clicked = clicked
        self.on_msg(self._on_message)

    def show(self, figure: go.Figure) -> None:
        """Draw this one."""
        self._library.load()
        self.figure = str(figure.to_json())

    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        """From the page, so from anybody."""
        place = content.get("clicked") if isinstance(content, dict) else None
        if self._clicked is not None and isinstance(place, int | float) and math.isfinite(place):
            self._clicked(float(place))
