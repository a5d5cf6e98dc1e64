"""The study of laws in tables, words and figures, from made-up cases."""

import itertools

import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.preference.law_shapes import KINDS, LAWS
from workbench.studies import law_findings, law_study_curves, law_tables
from workbench.studies.law_tables import CASE, FORMS

TRAITS, LAYERS = ("power", "mood"), (0, 3)
SCORES = {
    "in_place": 0.999,
    "held_out": 0.95,
    "held_out_matched": 0.98,
    "no_law": 0.951,
    "no_law_matched": 0.981,
    "extrapolated": 0.4,
    "aicc": 3.0,
    "per_pair": 0.99,
    "random": 0.995,
    "random_extrapolated": -2.0,
}


def cases() -> list[dict[str, object]]:
    return [dict(zip(CASE, case, strict=True)) for case in itertools.product(TRAITS, LAYERS, FORMS)]


def laws(**changed: float) -> pd.DataFrame:
    """All cases alike, but that the cubic extrapolates better and the paper's law has less AICc."""
    rows = []
    for case, kind in itertools.product(cases(), KINDS):
        for law in LAWS[kind]:
            row = {**case, "kind": kind, "law": law, "numbers": LAWS[kind][law].size, **SCORES}
            row |= {"at_bound": "p_plus high" if law == "paper" else "", "rises": False}
            row |= changed if law == "paper" else {}
            row |= {"extrapolated": 0.8} if law == "cubic" else {}
            row |= {"aicc": 0.0} if law == "paper" else {}
            rows.append(row)
    return pd.DataFrame(rows)


def pairs() -> pd.DataFrame:
    shares = {"level": 0.7, "size": 0.2, "other": 0.1, "length": 0.6, "between": 9.0, "signal": 8.0}
    return pd.DataFrame(
        {
            **case,
            "kind": kind,
            "dealing": dealing,
            "pairs": count,
            "r2": 1 - (2 if dealing == "random" else 1) / count,
            "expected": 1 - 2 / count,
            "needed": 67 if dealing == "random" else 33,
            **shares,
        }
        for case, kind, dealing, count in itertools.product(
            cases(), KINDS, ("random", "matched"), (8, 16, 32)
        )
    )


def curves() -> pd.DataFrame:
    """A preference that is 10 m times what pairs are worth, on other grids above than below 0."""
    rng, shares = np.random.default_rng(0), np.linspace(-1.5, 1.5, 33)
    frames = []
    for case in cases():
        ends = np.where(shares < 0, 0.4, 0.6)
        for pair in range(6):
            worth = 1 + 0.3 * rng.normal()
            frame = {
                "pair": pair,
                "m": shares * ends,
                "ceilings": shares,
                "preference": 10 * worth * np.tanh(2 * shares) + rng.normal(),
                "utility": -20 * worth * shares**2 / (1 + shares**2) - 9 + 5 * rng.normal(),
                "likelihood": -0.5 - shares**2,
                "unrelated": 0.5 + shares**2,
                "tokens_positive": 20 + pair,
                "tokens_negative": 22,
            }
            frames.append(pd.DataFrame({**case, **frame}))
    return pd.concat(frames, ignore_index=True)


def test_claims_are_met_by_the_median() -> None:
    table = law_tables.claims(laws()).set_index(["R²", "curve"])
    assert len(table) == 6
    assert table.loc[("fitted in place", "utility"), "met"] == "yes"
    carried = table.loc[("carried to other pairs", "preference")]
    assert carried["met"] == "no"
    assert carried["median [95 %]"] == "0.950 (all equal)"
    assert carried["without a law"] == "0.951"
    assert carried["cases"] == len(cases())
    assert table.loc[("carried to other pairs, matched in length", "utility"), "met"] == "yes"
    assert (table["cases below 0.9"] == 0).all()


def test_every_miss_is_listed_with_its_reason() -> None:
    assert law_tables.misses(laws(), pairs()).empty
    table = laws()
    low = (table["law"] == "paper") & (table["trait"] == "mood") & (table["kind"] == "utility")
    table.loc[low & (table["form"] == "lora"), ["held_out", "no_law"]] = (0.7, 0.71)
    table.loc[low & (table["form"] == "vector"), "held_out_matched"] = 0.5
    table.loc[low & (table["form"] == "vector") & (table["layer"] == 3), "in_place"] = 0.8
    told = law_tables.misses(table, pairs())
    assert len(told) == 2 + 2 + 1
    reasons = told.groupby("form")["reason"].unique()
    assert reasons["LoRA, SPLIT"].tolist() == [
        "pairs differ: 70% in level (60% by length), 20% in size of the effect; "
        "67 pairs on a side for 0.97 on average"
    ]
    assert sorted(reason.split(":")[0] for reason in reasons["vector, SPLIT"]) == [
        "the law",
        "the law itself",
    ]
    assert "p_plus high" in told.loc[told["seen"] == "0.80", "reason"].iloc[0]


def test_summary_counts_the_best_law_of_each_case() -> None:
    table = law_tables.summary(laws()).set_index(["curve", "law"])
    assert table.loc[("preference", "paper"), "best by AICc"] == len(cases())
    assert table.loc[("utility", "cubic"), "best beyond"] == len(cases())
    assert table.loc[("utility", "paper"), "best beyond"] == 0
    assert table.loc[("utility", "quadratic"), "free numbers"] == 3


def test_the_papers_numbers_stand_beside_ours() -> None:
    table = law_tables.by_form(laws(held_out=-12.0))
    assert table["R² of"].tolist()[-1].startswith("the paper: Gemma-2-9B")
    assert len(table) == len(FORMS) + 1
    assert table["preference, carried"].tolist()[0] == "−12.00 (−12.00 to −12.00)"


def test_no_number_of_pairs_is_said_in_words() -> None:
    assert law_tables.fewest(67.0) == "67 pairs"
    assert law_tables.fewest(np.inf) == "no number of pairs"


def test_what_limits_the_laws_is_said() -> None:
    said = law_findings.limit(laws(), pairs())
    assert "median R² of 0.950, and one half's own mean curve, without any law, 0.951" in said
    assert "70% is level" in said
    assert "reaches 0.97 at no number of pairs on a side dealt at random" in said
    assert "and at no number of pairs matched in length" in said
    assert law_tables.reaching(pairs(), "utility", "matched", 0.9) == 16
    assert law_tables.reaching(pairs(), "utility", "random", 0.9) == 32
    told = law_findings.needed(laws())
    assert "the paper's law has a median R² of 0.40, the cubic 0.80" in told
    assert f"ahead in 0 of {len(cases())} cases" in told
    table = law_tables.samples(pairs())
    assert table.query("kind == 'utility' and dealing == 'matched'")["r2"].tolist() == [
        pytest.approx(1 - 1 / count) for count in (8, 16, 32)
    ]


def test_what_was_studied_is_counted() -> None:
    found = law_tables.studied(case_table(), curves())
    assert (found["cases"], found["traits"], found["layers"]) == (16, "power, mood", "0, 3")
    assert found["study_points"] == 33


def test_curves_are_shares_of_their_largest_change() -> None:
    table = law_study_curves.relative_curves(curves())
    assert len(table) == len(cases()) * 2 * 33
    grouped = table.groupby([*CASE, "kind"])["mean"]
    assert grouped.apply(lambda values: values.abs().max()).to_numpy() == pytest.approx(1)
    zero = table[table["ceilings"] == 0]
    assert (zero[["mean", "low", "high"]] == 0).all(axis=None)  # type: ignore[call-overload]
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()


def case_table() -> pd.DataFrame:
    ends = {"ceiling_plus": 0.4, "ceiling_minus": 0.6, "beyond_plus": False, "beyond_minus": False}
    losses = {"loss_first": 3.0, "loss_last": 2.0}
    none = dict.fromkeys(losses, np.nan)
    return pd.DataFrame(
        {**case, **ends, **(none if case["form"] == "mean_difference" else losses)}
        for case in cases()
    )


def test_shapes_are_read_off_the_curves() -> None:
    table = law_study_curves.shapes(law_study_curves.relative_curves(curves()))
    assert len(table) == len(cases()) * 2 * 2
    likes = table[table["kind"] == "preference"]
    assert likes["half"].to_numpy() == pytest.approx(np.tanh(0.9375) / np.tanh(1.875))
    assert likes["rightly"].all()
    assert (likes["turned"] == 0).all()
    assert (table.loc[table["kind"] == "utility", "top"] == 0).all()
    back = curves()
    back["preference"] = -back["preference"] * (2 - back["ceilings"].abs())
    turned = law_study_curves.shapes(law_study_curves.relative_curves(back)).query(
        "kind == 'preference'"
    )
    assert not turned["rightly"].any()


def test_everything_that_the_report_asks_for_is_said() -> None:
    relative = law_study_curves.relative_curves(curves())
    told = law_findings.said(
        case_table(), relative, law_study_curves.hidden(curves()), laws(), pairs()
    )
    assert "LoRA, SPLIT 0.50 (0.40 to 0.60)" in told["ceilings"]
    assert "LoRA, SPLIT by −1.00 (−1.00 to −1.00)" in told["trained"]
    assert "difference" not in told["trained"]
    assert "All were found within the sweep." in told["ceilings"]
    assert "went the wrong way on 0. Utility" in told["seen"]
    assert f"in {len(cases())} of {len(cases())} cases" in told["seen"]
    assert "Utility falls on 100% of the sides" in told["hides"]
    assert "0.950 of preference" in told["short"]
    assert (
        "case by case that is −0.40 (all equal) and −0.40 (all equal) more than a cubic"
        in (told["short"])
    )
    assert "in 0 of 16 and 0 of 16 fits" in told["short"]
    assert not any("nan" in words for words in told.values())


def test_what_the_odds_hide_is_counted_at_the_ceilings() -> None:
    table = law_study_curves.hidden(curves()).set_index("form")
    assert table.index.tolist() == list(FORMS.values())
    assert table["per token"].to_numpy() == pytest.approx(-(0.9375**2))
    assert table["unrelated text"].to_numpy() == pytest.approx(-(0.9375**2))
    parts = table[["likelihood of both", "half of |preference|", "rest"]]
    assert (table["utility"] < 0).all()
    assert (parts["likelihood of both"] < 0).all()
    assert (table["utility falls (share)"] == 1).all()


def test_losses_come_back_out_of_their_sums() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(5, 90, (20, 2)), columns=["loss_positive", "loss_negative"])
    counts = pd.DataFrame(rng.integers(5, 90, (20, 2)))
    given = pd.DataFrame(
        {
            "preference": frame["loss_negative"] - frame["loss_positive"],
            "likelihood": -(frame["loss_positive"] / counts[0] + frame["loss_negative"] / counts[1])
            / 2,
            "tokens_positive": counts[0],
            "tokens_negative": counts[1],
        }
    )
    found = law_study_curves.with_losses(given)
    pd.testing.assert_frame_equal(found[list(frame.columns)], frame)


def test_figures_of_the_study() -> None:
    figure = figures.law_curves(law_study_curves.relative_curves(curves()), kind="utility")
    named = [trace for trace in figure.data if trace.showlegend]
    ranked = sorted(named, key=lambda trace: trace.legendrank or 1000)  # 1000 is plotly's default
    assert [trace.name for trace in ranked] == ["power", "mood", "law"]
    assert len([trace for trace in figure.data if trace.name == "law"]) == len(cases())
    assert figure.layout.meta["function"] == "law_curves"
    relative = law_study_curves.relative_curves(curves())
    one = figures.law_curves(relative, forms=["lora"], layers=LAYERS[:1])
    assert len([trace for trace in one.data if trace.name == "law"]) == len(TRAITS)
    assert [note.text for note in one.layout.annotations][:1] == [f"after layer {LAYERS[0]}"]
    with pytest.raises(ValueError, match=r"no curves of \['reft'\]"):
        figures.law_curves(relative, forms=["reft"])
    figure = figures.pairs_needed(law_tables.samples(pairs()))
    assert {trace.name for trace in figure.data if trace.name} == {
        f"{kind}, {words}" for kind in KINDS for words in ("dealt at random", "matched in length")
    } | {"expected from the variance"}
    figure = figures.pair_spread(law_tables.spreads(pairs()))
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert np.array([trace.x for trace in bars[:3]]).sum(axis=0) == pytest.approx(1)
    panels = figures.law_scores(laws())
    assert "without a law" in [trace.name for trace in panels.data if trace.showlegend]
    assert len([words for words in panels.layout.annotations if "matched" in words.text]) == 1
    shown = figures.law_scores(laws(in_place=0.99, held_out=0.9999, held_out_matched=-7.0))
    medians = [trace for trace in shown.data if trace.name == "median of cases"]
    # 1 - R² in powers of ten; beyond the ends of a panel, at them.
    assert [trace.x[0] for trace in medians[:3]] == pytest.approx([2, 3, 0])
