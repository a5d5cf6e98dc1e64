"""Laws over the coefficient: known numbers come back, a law that does not hold is told."""

import math
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.preference import law_comparison, law_quantities, laws
from workbench.preference.law_quantities import curves, means
from workbench.preference.law_shapes import KINDS, LAWS, Kind, validity, wells
from workbench.studies import law_findings

M = np.linspace(-0.7, 0.7, 33)
# m+, L+, p+, m-, L-; p- follows from continuity.
WELLS = (0.05, 0.04, 0.8, 0.08, 0.02)


def paper_validity(m: np.ndarray, numbers: tuple[float, ...] = WELLS) -> np.ndarray:
    """The formula as the paper has it."""
    m_plus, l_plus, p_plus, m_minus, l_minus = numbers
    p_minus = p_plus * np.log1p(m_plus**2 / l_plus) / np.log1p(m_minus**2 / l_minus)
    right = (1 + (m - m_plus) ** 2 / l_plus) ** -p_plus
    return np.where(m >= 0, right, (1 + (m - m_minus) ** 2 / l_minus) ** -p_minus)


def paper_curve(kind: Kind, m: np.ndarray = M) -> np.ndarray:
    d = paper_validity(m)
    return (20 * m + 1) * d + 2 if kind == "preference" else 30 * d - 60


def odds_frame(pairs: int = 6, noise: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """As `odds.odds` gives it, pairs that follow the law but for a slow drift of their own."""
    rng = np.random.default_rng(seed)
    rows = []
    for pair in range(pairs):
        drift = noise * (rng.normal() + rng.normal() * M)
        rows.append(
            pd.DataFrame(
                {
                    "pair": pair,
                    "m": M,
                    "preference": paper_curve("preference") + drift,
                    "utility": paper_curve("utility") + drift + noise * 0.2 * rng.normal(size=33),
                    "likelihood": -0.5 - M**2,
                    "unrelated": 0.5 + M**2,
                }
            )
        )
    frame = pd.concat(rows, ignore_index=True)
    frame.attrs = {"model": "made up", "unit": "norm"}
    return frame


@pytest.mark.parametrize("kind", KINDS)
def test_known_parameters_come_back(kind: Kind) -> None:
    found = laws.fit(M, paper_curve(kind), kind)
    assert found.r2 > 1 - 1e-9
    assert not found.at_bound
    told = found.parameters
    names = ("m_plus", "L_plus", "p_plus", "m_minus", "L_minus")
    assert [told[name] for name in names] == pytest.approx(WELLS, rel=1e-3)
    weights = {"alpha": 20, "beta": 1, "b": 2} if kind == "preference" else {"beta": 30, "b": -60}
    assert {name: told[name] for name in weights} == pytest.approx(weights, rel=1e-3)
    # The parameters, put into the paper's formula, are the curve.
    fine = np.linspace(-0.7, 0.7, 201)
    d = paper_validity(fine, tuple(told[name] for name in names))
    line = (told.get("alpha", 0) * fine + told["beta"]) * d + told["b"]
    assert found(fine) == pytest.approx(line, abs=1e-6 * np.ptp(line))


@pytest.mark.parametrize("kind", KINDS)
def test_noise_moves_the_curve_little(kind: Kind) -> None:
    truth = paper_curve(kind)
    noisy = truth + 0.02 * truth.std() * np.random.default_rng(0).normal(size=len(M))
    found = laws.fit(M, noisy, kind)
    assert laws.r2(truth, found(M)) > 0.9995
    told, known = (
        law_quantities.quantities(each, kind) for each in (found, laws.fit(M, truth, kind))
    )
    for name in ("slope", "half_life_plus", "half_life_minus"):
        if name in known:
            assert told[name] == pytest.approx(known[name], rel=0.08, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_read_off_beyond_the_range(kind: Kind) -> None:
    """Of a grid that reaches four times as far to one side: 3 m / (1 + m^2) has its trough at -1,
    which nobody measured."""
    m = np.linspace(-0.5, 2, 33)
    m[np.abs(m).argmin()] = 0
    curve = 3 * m / (1 + m**2) if kind == "preference" else -3 * m**2
    found = laws.fit(m, curve, kind)
    told = law_quantities.quantities(found, kind)
    assert (found.low, found.high) == (-0.5, 2)
    if kind == "preference":
        assert told["trough"] == -0.5
        assert np.isnan(told["half_life_minus"])
        assert told["half_life_plus"] == pytest.approx(1, abs=0.05)
    else:  # half of the fall to either end
        assert told["half_life_minus"] == pytest.approx(-0.5 / np.sqrt(2), abs=0.02)
        assert told["half_life_plus"] == pytest.approx(2 / np.sqrt(2), abs=0.03)
    assert ("m_minus outside" in found.at_bound) == (found.parameters["m_minus"] < -0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_choice_of_numbers_is_continuous(kind: Kind) -> None:
    law = LAWS[kind]["paper"]
    drawn = np.random.default_rng(0).uniform(law.low, law.high, (200, len(law.bounds)))
    numbers = np.column_stack([drawn, np.where(np.arange(200) % 2, 1.0, -1.0)])
    ends = validity(np.array([-1e-12, 0.0, 1e-12]), numbers)
    assert np.abs(ends - 1).max() < 1e-6
    (m_plus, s_plus, p_plus), (m_minus, s_minus, p_minus) = wells(numbers)
    kappas = [
        p * np.log1p((m / s) ** 2)
        for m, s, p in ((m_plus, s_plus, p_plus), (m_minus, s_minus, p_minus))
    ]
    assert kappas[0] == pytest.approx(kappas[1], rel=1e-6, abs=1e-9)


def test_a_fit_takes_a_fraction_of_a_second() -> None:
    laws.fit(M, paper_curve("preference"), "preference")  # the starts are made once
    begun = time.process_time()
    laws.fit(M, paper_curve("preference") + M**3, "preference")
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("law", [name for name in LAWS["preference"] if name not in ("paper",)])
def test_a_law_that_does_not_hold_is_told(law: str) -> None:
    """A wave that no law has, in place; the paper's own curve beyond the range, by the others."""
    wave = np.sin(25 * M)
    assert laws.fit(M, wave, "preference", law).r2 < 0.9
    assert laws.fit(M, wave, "preference").r2 < 0.9
    if law == "one top":  # the curve has one top
        return
    truth = paper_curve("preference")
    own = law_comparison.extrapolate(M, truth, "preference", "paper")[0]
    assert own > 0.999 > law_comparison.extrapolate(M, truth, "preference", law)[0]


def test_a_step_is_logistic_and_a_parabola_quadratic() -> None:
    step = 3 / (1 + np.exp(-(M - 0.1) / 0.08)) - 1
    assert laws.fit(M, step, "preference", "logistic").r2 > 1 - 1e-8
    assert laws.fit(M, 2 * M**2 - M, "utility", "quadratic").r2 > 1 - 1e-12
    with pytest.raises(ValueError, match="'quartic' is unknown; use one of"):
        laws.fit(M, step, "preference", "quartic")


def test_bounds_that_are_hit_are_flagged() -> None:
    """In the Gaussian limit p has no end; a straight line has no well at all."""
    bell = np.exp(-(M**2) / 0.05)
    found = laws.fit(M, bell, "utility")
    assert found.r2 > 0.9999
    assert {"p_plus high", "p_minus high"} & set(found.at_bound)
    assert laws.fit(M, paper_curve("utility"), "utility").at_bound == ()
    one = laws.fit(M, bell, "utility", "one well")
    assert "p high" in one.at_bound


def test_a_top_outside_and_a_validity_that_rises_are_flagged() -> None:
    found = laws.fit(M, -(M**2) + 0.05 * np.abs(M) ** 3, "utility")
    assert found.rises == (found.weights[0] < 0)
    assert not laws.fit(M, paper_curve("utility"), "utility").rises
    far = -np.exp(-((np.abs(M) - 1.2) ** 2) / 0.3)
    outside = laws.fit(M, far, "utility")
    assert outside.rises
    assert {"m_plus outside", "m_minus outside"} <= set(outside.at_bound)


def test_akaike_prefers_the_law_that_made_the_curve() -> None:
    rng = np.random.default_rng(1)
    truth = paper_curve("preference")
    noisy = truth + 0.02 * truth.std() * rng.normal(size=len(M))
    scores = {name: laws.fit(M, noisy, "preference", name).aicc for name in LAWS["preference"]}
    assert min(scores, key=lambda name: scores[name]) in ("paper", "one top", "one well")
    assert scores["paper"] < scores["polynomial"] < scores["quadratic"]
    parabola = 3 * M**2 - M + 0.02 * rng.normal(size=len(M))
    plain = {name: laws.fit(M, parabola, "utility", name).aicc for name in LAWS["utility"]}
    assert plain["quadratic"] < plain["paper"]


# ---- over pairs ---------------------------------------------------------------------------------


def test_intervals_hold_the_truth() -> None:
    frame = odds_frame(noise=0.5)
    for kind in KINDS:
        truth = law_quantities.quantities(laws.fit(M, paper_curve(kind), kind), kind)
        table = law_quantities.intervals(frame, kind, size=40).set_index("quantity")
        for name in ("slope", "half_life_plus", "half_life_minus"):
            if name in table.index and np.isfinite(truth[name]):
                row = table.loc[name]
                assert row["low"] <= row["value"] <= row["high"]
                width = row["high"] - row["low"]
                assert row["low"] - width <= truth[name] <= row["high"] + width
    one = frame[frame["pair"] == 0]
    with pytest.raises(ValueError, match="one pair is too few"):
        law_quantities.intervals(one, "utility")


def test_the_slope_at_0_is_the_curves_own() -> None:
    """Of lines between points the slope at 0 is theirs, whatever the ends do; a law may miss it."""
    slopes, grid = np.array([1.0, 2.0, 6.0]), np.array([-0.7, -0.1, 0.0, 0.1, 0.7])
    rows = [
        (pair, m, 0.5 + slope * m + (9 if abs(m) > 0.5 else 0))
        for pair, slope in enumerate(slopes)
        for m in grid
    ]
    frame = pd.DataFrame(rows, columns=["pair", "m", "preference"])
    found = law_quantities.slope_at_0(frame)
    assert (found.value, found.count) == (pytest.approx(3), 3)
    assert 0.99 < found.low < 2 < 5 < found.high < 6.01
    law = pd.DataFrame([{"kind": "preference", "quantity": "slope", "value": 0.5, "low": 0.2}])
    said = law_findings.slope_missed(law.assign(high=0.9), found)
    assert "the paper's law, fitted to the whole range, by +0.50 [+0.20, +0.90]: it misses" in said
    assert "not told apart" in law_findings.slope_missed(law.assign(high=1.5), found)
    with pytest.raises(ValueError, match=r"a grid from 0\.1 to 0\.7: give points on both sides"):
        law_quantities.slope_at_0(frame[frame["m"] > 0])


def test_a_place_that_every_resample_has_is_said_to_be_one() -> None:
    rows = [("utility", "peak", 0.0, 1.0), ("utility", "height", -0.0, 1.0),
            ("utility", "half_life_plus", 0.5, 0.1)]  # fmt: skip
    found = pd.DataFrame(rows, columns=["kind", "quantity", "value", "alike"])
    found = found.assign(low=found["value"], high=found["value"] + 0.2, found=1.0)
    told = law_findings.marks(found, law_quantities.Interval(2.25, 1.7, 2.8, 16), 0.7)
    assert told["value [95 %]"].tolist() == [
        "+2.25 [+1.70, +2.80]", "every resample has its top at 0", "0 in every resample",
        "+0.50 [+0.50, +0.70]",
    ]  # fmt: skip
    own = law_quantities.intervals(odds_frame(noise=0.5), "utility", size=20)
    assert own["alike"].between(0, 1).all()


def test_pairs_that_are_undefined_are_left_out_of_the_mean() -> None:
    frame = odds_frame()
    frame.loc[(frame["pair"] == 3) & (frame["m"] > 0.5), "utility"] = np.nan
    grid, table = law_quantities.curves(frame, "utility")
    mean = law_quantities.means(table)
    assert np.isfinite(mean).all()
    assert mean[-1] == pytest.approx(np.nanmean(table[:, -1]))
    assert np.array_equal(grid, M)
    with pytest.raises(ValueError, match="no pair is defined at point 32"):
        law_quantities.means(np.where(grid > 0.69, np.nan, table))
    with pytest.raises(ValueError, match="no column 'use'"):
        law_quantities.curves(frame, "use")


def test_comparison_has_a_row_for_every_law() -> None:
    frame = odds_frame(noise=0.3)
    some = {"splits": 1, "random": 1, "seed": 1}
    table = law_comparison.compare(frame, kinds=("preference",), **some)
    assert table["law"].tolist() == list(LAWS["preference"])
    table = law_comparison.compare(frame, laws=("paper", "polynomial", "quadratic"), **some)
    assert len(table) == 6
    best = table[table["law"] == "paper"].set_index("kind")
    assert (best["in_place"] > 0.999).all()
    assert (best["held_out"] > 0.98).all()
    assert best.loc["preference", "extrapolated"] > 0.9
    assert (table.groupby("kind")["aicc"].min() == 0).all()
    assert table["random"].between(0, 1).all()
    assert table.attrs["model"] == "made up"
    again = law_comparison.compare(frame, laws=("paper", "polynomial", "quadratic"), **some)
    pd.testing.assert_frame_equal(table, again)
    with pytest.raises(ValueError, match="3 pairs cannot be halved"):
        law_comparison.compare(frame[frame["pair"] < 3])


def test_random_curves_are_as_smooth() -> None:
    for curve in (paper_curve("preference"), np.sin(20 * M)):
        drawn = law_comparison.smooth_like(M, curve, 200)
        assert drawn.shape == (200, 33)
        assert np.allclose(drawn.mean(axis=1), curve.mean())
        assert np.allclose(drawn.std(axis=1), curve.std())
        rough = np.mean(np.diff(drawn, axis=1) ** 2) / np.var(curve)
        assert 0.5 < rough / (np.mean(np.diff(curve) ** 2) / np.var(curve)) < 2


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("m", "curve", "message"),
    [
        (M, np.where(M[4] == M, np.nan, M), "the curve is nan at point 4: leave such points out"),
        (np.where(M[4] == M, np.nan, M), M, "m is nan at point 4"),
        (M[:-1], M, "give .M,. for both"),
        (np.abs(M) + np.arange(33), M, "on one side of 0"),
        (M[12:20], M[12:20], "8 points for the 8 free numbers of 'paper'"),
        (M, np.ones(33), "curve 0 is 1 throughout"),
        (np.where(np.arange(33) == 1, M[0], M), M, "has a value twice"),
    ],
)
def test_curves_that_are_refused(m: np.ndarray, curve: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        laws.fit(m, curve, "preference")
    with pytest.raises(ValueError, match="kind 'trust' is unknown"):
        laws.fit(M, M, "trust")  # type: ignore[arg-type]


# ---- figures ------------------------------------------------------------------------------------


def test_curves_are_drawn_with_their_law_and_marks() -> None:
    frame = odds_frame()
    marks = pd.concat(
        law_quantities.intervals(frame, kind, size=10).assign(kind=kind) for kind in KINDS
    )
    figure = figures.odds_curves(frame, quantities=marks)  # type: ignore[arg-type]
    names = [trace.name for trace in figure.data if trace.name]
    assert {"preference", "utility", "the two answers", "unrelated text"} <= set(names)
    laws_named = [name.split(", R²")[0] for name in names if "R²" in name]
    assert laws_named == ["law of preference", "law of utility"]
    points = [trace for trace in figure.data if trace.mode == "markers+text"]
    assert {each.text[0] for each in points} == {"peak", "half-life"}
    assert all(each.error_x.array is not None for each in points)
    assert figure.layout.meta["function"] == "odds_curves"
    bare = figures.odds_curves(frame.drop(columns="unrelated"))
    assert "unrelated text" not in [trace.name for trace in bare.data]


def test_scores_below_the_panel_are_drawn_at_its_edge() -> None:
    table = law_comparison.compare(odds_frame(), laws=("paper", "quadratic"), splits=1, random=1)
    table.loc[0, "extrapolated"] = -300.0
    figure = figures.law_scores(table)
    values = np.concatenate([trace.x for trace in figure.data if trace.name == "cases"])
    assert values.min() == -1
    words = [text for trace in figure.data if trace.mode == "text" for text in trace.text]
    assert "−300" in words
    assert all(math.isfinite(float(value)) for value in values)
    assert figure.layout.meta["function"] == "law_scores"


def test_a_fit_is_a_plain_value() -> None:
    found = laws.fit(M, paper_curve("utility"), "utility", follow=2)
    assert replace(found, low=-1.4, high=1.4)(np.array([1.4])) == pytest.approx(
        found(np.array([0.7]))
    )


def test_a_frame_of_odds_is_told_how_its_curve_is_made() -> None:
    frame = pd.DataFrame({"pair": 0, "m": M, "preference": np.tanh(M) + M / 9})
    with pytest.raises(ValueError, match=r"m is a frame.*curves\(frame, 'preference'\)") as told:
        laws.fit(frame)  # type: ignore[arg-type]
    line = str(told.value).split("law_quantities: ")[1]
    m, table = curves(frame, "preference")
    assert line.endswith("fit(m, means(table), 'preference')")
    assert laws.fit(m, means(table), "preference").points == len(M)
    with pytest.raises(ValueError, match="lacks its kind: give m"):
        laws.fit(M, M)
