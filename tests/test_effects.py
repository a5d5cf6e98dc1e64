"""effects: a test that errs as often as it says, and an onset that does not depend on how many
prompts there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from workbench.statistics.effects import judge_effect, onset_estimate, place_among, sign_flip

GRID = np.linspace(0, 1, 9)
ROUNDS = 300


def test_p_is_exact_where_all_prompts_agree() -> None:
    """8 of 8 agree in 1 of 256 flips; a tie counts, whatever its rounding."""
    rng = np.random.default_rng(0)
    moved = np.tile(0.1 + 0.2 * GRID, (8, 1))
    p = sign_flip(GRID, moved, rng, flips=25_599)
    assert p == pytest.approx(1 / 256, rel=0.4)
    assert sign_flip(GRID, -moved, rng) == 1.0
    assert sign_flip(GRID, np.zeros((8, 9)), rng) == 1.0


def test_a_prompt_counts_with_the_texts_that_it_has() -> None:
    """Seven of eight agree, as in 2 of 256 flips; the eighth breaks at once, and cannot outweigh
    them however far it moved there."""
    rng = np.random.default_rng(0)
    moved = np.tile(GRID, (8, 1))
    moved[7] = np.nan
    moved[7, :2] = [0, -2.0]
    p = sign_flip(GRID, moved, rng, flips=25_599)
    assert p == pytest.approx(2 / 256, rel=0.3)
    assert sign_flip(GRID, np.full((8, 9), np.nan), rng) == 1.0


def test_chance_is_called_an_effect_no_more_often_than_said() -> None:
    """5 % each way at a level of 90 %; more than the 99th percentile would be a fault."""
    rng = np.random.default_rng(1)
    said = []
    for _ in range(ROUNDS):
        moved = np.cumsum(rng.normal(size=(8, 9)), axis=1)
        said.append(judge_effect(GRID, moved - moved[:, :1], None, rng, 0.9)[0])
    for way in ("effect", "wrong way"):
        assert said.count(way) <= binom.ppf(0.99, ROUNDS, 0.05)


def test_an_effect_goes_the_way_of_its_sign_and_beats_the_control() -> None:
    rng = np.random.default_rng(2)
    moved = np.abs(rng.normal(1.0, 0.1, (8, 9))) * GRID
    assert judge_effect(GRID, moved, None, rng, 0.9)[0] == "effect"
    assert judge_effect(GRID, moved, moved, rng, 0.9)[0] == "effect"
    assert (
        judge_effect(GRID, moved, 0 * moved, rng, 0.9)[0] == "no effect"
    )  # a random vector does it too
    assert judge_effect(GRID, -moved, moved, rng, 0.9)[0] == "wrong way"
    assert (
        judge_effect(GRID, 0 * moved, moved, rng, 0.9)[0] == "no effect"
    )  # only the control moves
    assert judge_effect(GRID, moved[:4], None, rng, 0.9)[0] == "unknown"
    assert judge_effect(GRID, moved[:5], None, rng, 0.9)[0] == "effect"
    # Prompts at the end of the scale cannot move: where nearly all are, nothing can be told.
    assert judge_effect(GRID, 0 * moved, moved, rng, 0.9, able=4)[0] == "unknown"
    assert judge_effect(GRID, moved, None, rng, 0.9, able=5)[0] == "effect"


@pytest.mark.parametrize("prompts", [8, 32, 128])
def test_onset_does_not_depend_on_the_number_of_prompts(prompts: int) -> None:
    """M(c) = c**2 reaches a quarter of its greatest at a half, with noise or many prompts."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(100):
        moved = GRID**2 + rng.normal(0, 0.15, (prompts, 9))
        found.append(onset_estimate(GRID, np.where(GRID > 0, moved, 0), 0.9, 20, rng)[0])
    assert 0.5 <= np.mean(found) <= 0.5 + GRID[1]


@pytest.mark.parametrize("prompts", [8, 16])
def test_onsets_are_covered(prompts: int) -> None:
    """Prompts answer more or less strongly and their texts are noisy; the truth is anywhere
    within a cell of the grid."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(ROUNDS):
        bend = rng.uniform(1, 3)
        moved = GRID**bend * rng.normal(1, 0.4, (prompts, 1)) + rng.normal(0, 0.1, (prompts, 9))
        moved[:, 0] = 0
        _, low, high = onset_estimate(GRID, moved, 0.9, 200, rng)
        covered += low <= 0.25 ** (1 / bend) <= high
    assert covered >= binom.ppf(0.01, ROUNDS, 0.9)


def test_onset_knows_its_cell_and_its_limits() -> None:
    rng = np.random.default_rng(5)
    step = np.tile(np.where(GRID >= 0.5, 1.0, 0.0), (6, 1))
    assert onset_estimate(GRID, step, 0.9, 50, rng) == (0.5, 0.375, 0.5)
    value, low, high = onset_estimate(GRID, step[:4], 0.9, 50, rng)
    assert value == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    assert onset_estimate(GRID, -step, 0.9, 50, rng)[0] == math.inf


def test_a_place_among_draws_counts_ties_against_the_value() -> None:
    draws = np.array([0.1, 0.2, 0.1 + 0.2, math.nan])
    assert place_among(0.31, draws) == (1, 4)
    assert place_among(0.3, draws) == (2, 4)  # equal but for rounding
    assert place_among(-1.0, draws) == (4, 4)


def test_chance_has_the_first_place_of_twenty_once_in_twenty() -> None:
    drawn = np.random.default_rng(5).normal(size=(4000, 20))
    first = sum(place_among(row[0], row[1:])[0] == 1 for row in drawn)
    assert binom.ppf(0.001, 4000, 0.05) <= first <= binom.ppf(0.999, 4000, 0.05)
