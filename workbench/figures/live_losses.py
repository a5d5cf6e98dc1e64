"""Losses of training in a notebook, while it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.figures.training import loss_curves


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
