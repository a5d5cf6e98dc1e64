"""Where a curve first reaches a level."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.statistics.curves import reaching

GRID = np.array([0.0, 1.0, 2.0, 4.0])


def test_on_a_line_between_points_and_the_first_time() -> None:
    curve = np.array([0.0, 1.0, 3.0, 0.0])
    assert reaching(GRID, curve, 2.0) == pytest.approx(1.5)
    assert reaching(GRID, curve, 1.0) == 1.0
    assert reaching(GRID, curve, -1.0) == 0.0
    assert reaching(GRID, curve, 3.1) == math.inf
