"""What sampling of pairs does to a mean curve: known variances come back, and so does their R²."""

import numpy as np
import pandas as pd
import pytest

from workbench.preference import law_sampling
from workbench.preference.law_sampling import carried, halves, no_law, spread

M = np.linspace(-1, 1, 33)
MEAN = 10 * np.tanh(2 * M)


def made_up(
    pairs: int, *, level: float = 0.0, size: float = 0.0, other: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Curves (N, 33) about MEAN, and tokens that the level follows exactly."""
    rng = np.random.default_rng(seed)
    levels, sizes, others = rng.normal(size=(3, pairs, 1))
    wave = np.cos(3 * np.pi * M)
    wave = wave - wave.mean() - MEAN * (wave @ MEAN) / (MEAN @ MEAN)
    return MEAN * (1 + size * sizes) + level * levels + other * others * wave, 100 - 20 * levels[
        :, 0
    ]


def test_halves_share_no_pair_and_match_in_length() -> None:
    tokens = np.random.default_rng(1).integers(20, 200, 41)
    for dealing in law_sampling.DEALINGS:
        dealt = halves(tokens, 30, dealing=dealing, seed=3)
        assert all(len(one) == len(other) == 20 for one, other in dealt)
        assert all(not set(one) & set(other) for one, other in dealt)
        assert len({tuple(sorted(one)) for one, _ in dealt}) > 25
    apart = {
        dealing: np.mean(
            [
                abs(tokens[one].mean() - tokens[other].mean())
                for one, other in halves(tokens, 200, dealing=dealing, size=10)
            ]
        )
        for dealing in law_sampling.DEALINGS
    }
    assert apart["matched"] < 0.3 * apart["random"]
    again = halves(tokens, 2, dealing="matched", seed=5)
    for (a, b), (c, d) in zip(again, halves(tokens, 2, dealing="matched", seed=5), strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)
    with pytest.raises(ValueError, match="dealing 'sorted' is unknown"):
        halves(tokens, 1, dealing="sorted")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size 21: give a whole number from 1 to 20"):
        halves(tokens, 1, size=21)


def test_carried_tells_level_and_size_from_shape() -> None:
    assert carried(MEAN, MEAN) == (1, 1, 1)
    plain, level, size = carried(MEAN, 2 * MEAN + 3)
    assert plain < level < size == pytest.approx(1)
    assert carried(MEAN, MEAN + 3)[1] == pytest.approx(1)
    assert carried(MEAN, np.cos(3 * np.pi * M))[2] < 0.1


@pytest.mark.parametrize(("what", "value"), [("level", 8.0), ("size", 0.8), ("other", 6.0)])
def test_variance_between_pairs_goes_to_its_cause(what: str, value: float) -> None:
    table, tokens = made_up(400, **{what: value})
    found = spread(table, tokens)
    shares = {"level": found.level, "size": found.size, "other": found.other}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[what] > 0.97
    assert found.signal == pytest.approx(np.var(MEAN), rel=0.1)
    assert (found.length > 0.99) == (what == "level")
    assert (found.matched < 0.1 * found.between) == (what == "level")


@pytest.mark.parametrize("dealing", law_sampling.DEALINGS)
def test_expected_r2_is_that_of_fresh_pairs(dealing: law_sampling.Dealing) -> None:
    """Known from many pairs, seen on few."""
    table, tokens = made_up(2000, level=4, size=0.5, other=3)
    found = spread(table, tokens)
    for size in (8, 32, 128):
        seen = no_law(table, halves(tokens, 400, dealing=dealing, size=size, seed=1))
        assert found.expected(size, dealing) == pytest.approx(seen.mean(), abs=0.6 / size)
    needed = found.needed(0.97, dealing)
    assert found.expected(needed, dealing) >= 0.97 > found.expected(needed - 1, dealing)


def test_of_a_curve_that_does_not_move_no_number_of_pairs_is_enough() -> None:
    drift = np.random.default_rng(0).normal(size=(40, 1)) * np.linspace(-1, 1, 9)
    found = spread(drift - drift.mean(axis=0), np.ones(40))
    assert found.signal == 0
    assert found.needed(0.97) == np.inf
    assert found.expected(8) < 0


def test_lengths_are_of_both_answers() -> None:
    frame = pd.DataFrame(
        {"pair": [0, 0, 1, 1], "tokens_positive": [3, 3, 5, 5], "tokens_negative": [4, 4, 9, 9]}
    )
    assert law_sampling.lengths(frame).tolist() == [7, 14]
    with pytest.raises(ValueError, match="has no"):
        law_sampling.lengths(frame[["pair"]])
    with pytest.raises(ValueError, match="3 pairs are defined"):
        spread(np.ones((3, 4)), np.ones(3))
