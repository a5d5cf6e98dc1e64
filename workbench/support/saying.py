"""Numbers as people read them, with their intervals."""

from __future__ import annotations

import math

from workbench.statistics.intervals import Interval


def percent(found: Interval) -> str:
    """ "96 [92, 99] %", a share with its interval; below a tenth with one digit more."""
    if math.isnan(found.value):
        return "–"
    digits = 1 if found.value < 0.1 else 0
    value, low, high = (f"{100 * each:.{digits}f}" for each in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}] %"


def points(found: Interval) -> str:
    """ "+4 [-1, +9]", in points of a hundred."""
    return f"{100 * found.value:+.0f} [{100 * found.low:+.0f}, {100 * found.high:+.0f}]"
