"""seek: the coefficients that it asks for, and that its frame is one sweep's."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from workbench import seek as seek_function
from workbench.loading.models import LM
from workbench.sweeps.ceiling import find_ceiling
from workbench.sweeps.seek import next_sizes, refinements
from workbench.sweeps.sweep import sweep
from workbench.vectors.steering_vector import SteeringVector

PROMPTS = ["The fox", "A girl and her dog", "One day"]


def breaking_at(sizes: list[float], breaks: np.ndarray) -> np.ndarray:
    """Whether the text of each prompt is intact at each size: up to its own break."""
    return np.array(sizes)[None, :] <= breaks[:, None]


def sought(breaks: np.ndarray, reach: float, tolerance: float) -> list[float]:
    """All sizes of one side that are tried, from 0 outwards."""
    tried = [0.0, reach / 4]
    while True:
        grid = np.array(sorted(tried))
        more = next_sizes(grid, breaking_at(sorted(tried), breaks), reach, tolerance)
        if not more:
            return sorted(tried)
        assert not more & set(tried)
        tried += more


@pytest.mark.parametrize("middle", [0.05, 0.3, 0.9, 1.7])
def test_the_cells_of_both_marks_are_narrow_in_the_end(middle: float) -> None:
    """Wherever prompts break: between the last size that keeps half (nine tenths) of them and the
    next one lies no more than the tolerance."""
    breaks = middle * np.exp(np.linspace(-0.2, 0.2, 21))
    tried = sought(breaks, 2.0, 0.1)
    for share in (0.5, 0.9):
        cell = float(np.quantile(breaks, 1 - share, method="higher"))
        inner = max(size for size in tried if size < cell)
        outer = min(size for size in tried if size >= cell)
        assert inner > 0
        assert outer <= inner * 1.1 * 1.05  # the bound may lie in the next cell
    assert len(tried) < 20


def test_a_side_that_holds_is_followed_to_the_reach_and_no_further() -> None:
    assert sought(np.full(5, 9.0), 2.0, 0.1) == [0.0, 0.5, 1.0, 2.0]
    assert sought(np.full(5, 9.0), 1.5, 0.1) == [0.0, 0.375, 0.75, 1.5]


def test_a_side_that_breaks_at_once_is_given_up() -> None:
    tried = sought(np.full(5, 1e-9), 2.0, 0.1)
    assert 2 / 128 < tried[1] <= 2 / 64
    assert next_sizes(np.array([0.0, 0.5]), np.zeros((0, 2), dtype=bool), 2.0, 0.1) == set()


def vector_for(lm: LM) -> SteeringVector:
    direction = torch.randn(lm.width, generator=torch.Generator().manual_seed(1))
    return SteeringVector({1: direction}, {1: 5.0}, lm.name, lm.fingerprint, "hand", 1)


def test_the_frame_is_that_of_one_sweep_over_what_was_tried(tiny: LM, tmp_path: Path) -> None:
    vector = vector_for(tiny)
    same = {"new_tokens": 6, "temperature": 1.0, "seed": 3, "progress": False, "kl": False}
    frame = seek_function(
        tiny, vector, PROMPTS, reach=4.0, tolerance=0.5, directory=tmp_path, prompted=["Be"], **same
    )
    tried = frame.attrs["coefficients"]
    assert tried == sorted(value for each in frame.attrs["rounds"] for value in each)
    assert len(frame.attrs["rounds"]) > 1
    assert refinements(frame, 4.0, 0.5) == []
    once = sweep(tiny, vector, PROMPTS, tried, prompted=["Be"], **same)
    order = ["vector", "prompt_index", "coefficient"]
    pd.testing.assert_frame_equal(
        frame.sort_values(order, ignore_index=True),
        once.sort_values(order, ignore_index=True),
        atol=1e-4,
        check_exact=False,
    )
    assert find_ceiling(frame, bootstrap=20).sides.keys() == {1, -1}
    again = seek_function(
        tiny, vector, PROMPTS, reach=4.0, tolerance=0.5, directory=tmp_path, prompted=["Be"], **same
    )
    pd.testing.assert_frame_equal(frame, again)


def test_a_stopped_search_says_so(tiny: LM) -> None:
    stop = threading.Event()
    stop.set()
    frame = seek_function(tiny, vector_for(tiny), PROMPTS, new_tokens=4, progress=False, stop=stop)
    assert not frame.attrs["complete"]
    with pytest.raises(ValueError, match=r"incomplete|stopped"):
        find_ceiling(frame)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reach": 0.0}, "reach 0.0: give a positive number"),
        ({"reach": math.inf}, "reach inf"),
        ({"tolerance": -1}, "tolerance -1"),
        ({"coefficients": [1.0]}, "seek chooses the coefficients itself"),
    ],
)
def test_bad_input_is_named_before_any_work(tiny: LM, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seek_function(tiny, vector_for(tiny), PROMPTS, **options)
