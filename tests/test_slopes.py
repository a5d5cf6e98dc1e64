"""slopes: against slopes known beforehand, their intervals, and the control beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from scipy.stats import t as student

from workbench.statistics.intervals import wilson
from workbench.sweeps.slopes import slope_summary, slopes

GRID = np.linspace(-2, 2, 17)


def sweep(*, kinds: tuple[tuple[str, int], ...] = (("vector", 1), ("random", -1))) -> pd.DataFrame:
    """Four prompts whose trait rises by 2, -1, 0 and 0.5 up to |c| = 0.5, and no further."""
    rows = [
        {
            "prompt_index": p,
            "vector": kind,
            "coefficient_norm": c,
            "coefficient": 3 * c,
            "trait": p / 10 + slope * (c if abs(c) <= 0.5 else 0.5 * np.sign(c)),
        }
        for kind, turn in kinds
        for p, slope in enumerate((2.0 * turn, -1.0 * turn, 0.0, 0.5 * turn))
        for c in GRID
    ]
    return pd.DataFrame(rows)


def test_slopes_recover_known_ones_and_name_the_wrong_way() -> None:
    found = slopes(sweep())
    np.testing.assert_allclose(found["slope"], [2.0, -1.0, 0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(found["high"] - found["low"], 0, atol=1e-12)  # all on a line
    assert found["anti_steerable"].tolist() == [False, True, False, False]
    assert found.attrs["anti_steerable"] == pytest.approx(1 / 3)  # of those that are not flat
    assert found.attrs["flat"] == 0.25
    assert found.attrs["within"] == 0.5
    assert found.attrs["unit"] == "norm"


def test_intervals_of_the_share_and_the_mean() -> None:
    attrs = slopes(sweep()).attrs
    share, flat = wilson(1, 3), wilson(1, 4)
    assert (attrs["anti_steerable_low"], attrs["anti_steerable_high"]) == (share.low, share.high)
    assert (attrs["flat_low"], attrs["flat_high"]) == (flat.low, flat.high)
    assert attrs["mean"] == pytest.approx(0.375)
    assert -1 <= attrs["mean_low"] < 0.375 < attrs["mean_high"] <= 2
    narrow = slopes(sweep(), level=0.5).attrs
    assert narrow["anti_steerable_low"] > attrs["anti_steerable_low"]


def test_the_interval_of_a_slope_is_that_of_a_regression() -> None:
    frame = sweep()
    frame["trait"] += np.random.default_rng(0).normal(size=len(frame))
    found = slopes(frame, within=1.0, level=0.9)
    for row in found.itertuples():
        own = frame[(frame["vector"] == "vector") & (frame["prompt_index"] == row.prompt_index)]
        own = own[own["coefficient_norm"].abs() <= 1]
        line = linregress(own["coefficient_norm"], own["trait"])
        half = student.ppf(0.95, len(own) - 2) * line.stderr
        assert row.slope == pytest.approx(line.slope)
        assert (row.low, row.high) == pytest.approx((line.slope - half, line.slope + half))


def test_too_few_values_have_no_interval_or_no_slope() -> None:
    frame = sweep()
    frame.loc[(frame["prompt_index"] == 0) & (frame["coefficient_norm"].abs() > 0.1), "trait"] = 0
    frame.loc[
        (frame["prompt_index"] == 0) & ~frame["coefficient_norm"].isin([0, 0.25]), "trait"
    ] = np.nan
    frame.loc[(frame["prompt_index"] == 1) & (frame["coefficient_norm"] != 0), "trait"] = np.nan
    found = slopes(frame)
    assert np.isfinite(found["slope"]).tolist() == [True, False, True, True]
    assert np.isfinite(found["low"]).tolist() == [False, False, True, True]
    assert found.attrs["prompts"] == 3


def test_the_control_stands_beside_the_vector() -> None:
    table = slope_summary(sweep())
    assert table["vector"].tolist() == ["vector", "random"]
    assert table["anti_steerable"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert table["mean"].tolist() == pytest.approx([0.375, -0.375])
    assert slopes(sweep(), vector="random").attrs == table.iloc[1].to_dict()


def test_vectors_that_are_not_there_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"no \(whole\) prompts of 'shuffled'; .*'random', 'vector'"
    ):
        slopes(sweep(), vector="shuffled")
