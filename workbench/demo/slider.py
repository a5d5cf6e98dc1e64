"""The slider of a coefficient: one labelled range control, its track coloured by zones.

A widget of its own (slider.js, slider.css), because ipywidgets' slider can neither show zones nor
say them to a screen reader. It also reports whether the page is dark, which figures need to know.
"""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from workbench.demo import page, zones
from workbench.demo.scripts import HERE, script
from workbench.sweeps.marks import Ceiling

STEPS = 150  # of the slider, on either side of 0


class ZoneSlider(anywidget.AnyWidget):
    """A coefficient in residual norms, from -reach to reach."""

    _esm = script("slider.js")
    _css = (HERE / "slider.css").read_text(encoding="utf-8")
    label = traitlets.Unicode("").tag(sync=True)
    value = traitlets.Float(0.0).tag(sync=True)
    min = traitlets.Float(-1.0).tag(sync=True)
    max = traitlets.Float(1.0).tag(sync=True)
    step = traitlets.Float(0.005).tag(sync=True)
    words = traitlets.Unicode("").tag(sync=True)
    reasons = traitlets.Unicode("").tag(sync=True)
    zones: Any = traitlets.List().tag(sync=True)
    marks: Any = traitlets.List().tag(sync=True)
    dark = traitlets.Bool(False).tag(sync=True)

    def show(
        self,
        ceiling: Ceiling | None,
        value: float,
        reach: float,
        *,
        words: str = "",
        conditions: str = "",
    ) -> None:
        """Stand at `value`, with the zones of a ceiling (None: not known).

        words       instead of those of the zone
        conditions  of the sweep, in words
        """
        found = zones.spans(ceiling, reach)
        with self.hold_sync():
            # Ends first: a page would clamp a value beyond the old ones.
            self.min, self.max, self.step = -reach, reach, reach / STEPS
            self.value = value
            self.words = words or zones.words(ceiling, value, conditions)
            self.reasons = page.visible(zones.reasons(ceiling, value))
            self.zones = page.gradient(found, reach)
            self.marks = _marks(ceiling, reach)


def _marks(ceiling: Ceiling | None, reach: float) -> list[dict[str, float | str]]:
    """Numbers under the track: 0, both ends and all marks between them, those too near to another
    one in a row below it."""
    places = [0.0, -reach, reach]
    if ceiling is not None:
        places += [
            abs(estimate.value) * sign
            for mark in ("ceiling", "recommended")
            for sign, side in ceiling.sides.items()
            for estimate in (getattr(side, mark),)
        ]
    rows: list[list[float]] = [[], [], []]
    shown: dict[str, dict[str, float | str]] = {}
    for place in places:
        text = f"{place:+.2f}".replace("-", "−") if place else "0"
        if not abs(place) <= reach or text in shown:
            continue
        free = (
            index
            for index, row in enumerate(rows)
            if all(abs(place - other) >= 0.15 * reach for other in row)
        )
        row = next(free, len(rows) - 1)
        rows[row].append(place)
        shown[text] = {"at": 50 + 50 * place / reach, "text": text, "row": row}
    return list(shown.values())
