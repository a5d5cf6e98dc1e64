"""The study's figures in words, and its sweep once more."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.figures import predicted_ceilings, survival_map
from workbench.studies import ceiling_findings as study
from workbench.studies import length_findings
from workbench.support import tables

ROOT = Path(__file__).resolve().parents[1] / "reports"


def errors(share: float = 0.9) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "rule": ["worse", "better"],
            "other traits": [0.1, 0.1 * share],
            "other traits, low": [0.05, 0.04],
            "other traits, high": [0.2, 0.1],
            "sides": [10, 108],
            "sees none": [0.5, 0.0],
            "in norms": [0.05, 0.04],
            "published": [np.nan, 0.08],
            "published, low": [np.nan, 0.04],
            "published, high": [np.nan, 0.1],
        }
    )
    table.attrs = {
        "sides": 110,
        "without_ceiling": 2,
        "models": 4,
        "error": 0.1 * share,
        "error_of_best_rival": share,
        "ours": "better",
        "rival": "worse",
        "difference": 0.1 * (1 - share),
        "difference_low": -0.01,
        "difference_high": 0.03,
        "noise_floor": 0.07,
        "sha256": "0",
        "versions": {},
    }
    return table


def test_errors_are_shown_best_first_with_their_intervals() -> None:
    shown = study.shown_errors(errors())
    assert shown["rule"].tolist() == ["better", "worse"]
    assert shown["threshold of other traits"].tolist()[1] == "0.100 [0.050, 0.200]"
    assert shown["authors' threshold"].tolist() == ["0.080 [0.040, 0.100]", "–"]
    assert "threshold of other models" not in shown


def test_a_missed_aim_is_said() -> None:
    found = study.findings(errors())
    assert "sha256" not in found
    missed = study.errors_verdict(errors())
    assert "108 sides of sweeps of 4 models" in missed
    assert "`find_ceiling` is off by 0.090 [0.040, 0.100]; its best rival, worse" in missed
    assert "in the same way, by 0.100 [0.050, 0.200]" in missed
    assert "+0.010 [−0.010, +0.030], not clear of zero" in missed
    assert "it is 0.90 times the rival's error, so the aim is missed" in missed
    table = errors(0.4)
    table.attrs["difference_low"] = 0.01
    met = study.errors_verdict(table)
    assert "it is 0.40 times the rival's error, so the aim is met" in met
    assert "[+0.010, +0.030], clear of zero" in met


def test_the_rule_of_find_ceiling_goes_by_its_name() -> None:
    table = errors().replace({"better": "share intact"})
    assert study.shown_errors(table)["rule"].tolist() == ["find_ceiling", "worse"]
    assert study.error_of(table).value == study.error_of(table, "share intact").value


def test_chasing_the_greatest_gain_is_judged_on_other_prompts() -> None:
    assert study.gains_verdict({}) == ""
    shares = {"": 0.7, "_said": 0.85, "_apart_safe": 0.8, "_apart_own": 0.95, "_apart_seen": 0.6}
    shares |= {"_more": 0.2}
    found = {
        f"captured{name}{end}": value + more
        for name, value in shares.items()
        for end, more in (("", 0.0), ("_low", -0.1), ("_high", 0.1))
    }
    said = study.gains_verdict(found)
    assert "capture 70% [60%, 80%]" in said
    assert "missed" in said
    assert "they see 95% [85%, 105%] of their own, and the other half 60% [50%, 70%]" in said
    assert said.endswith("it is 80% [70%, 90%]: +20% [+10%, +30%] more, clear of zero.")
    other = study.gains_verdict({**found, "captured": 0.92, "captured_more_low": -0.1})
    assert "aim, met" in other
    assert "+20% [−10%, +30%] more, not clear of zero" in other


def test_claims_say_whether_the_aim_is_met_by_the_interval_or_the_value_alone() -> None:
    def figure(name: str, value: float, low: float, high: float) -> dict[str, float]:
        ends = {f"{name}_low": low, f"{name}_high": high, f"{name}_of": 9, f"{name}_clusters": 3}
        return {name: value, **ends}

    found = {
        **figure("covered", 0.95, 0.91, 1.0),
        **figure("no_collapse_short", 0.97, 0.6, 1.0),
        **figure("apart_below_half", 0.2, 0.1, 0.3),
        **figure("effect", 0.5, 0.4, 0.6),
    }
    claims = study.claims(found)
    assert claims["met"].tolist() == ["yes", "perhaps", "–", "no"]
    assert claims["seen"].tolist()[0] == "95% [91%, 100%]"
    assert claims["aim"].tolist()[3] == "at most 10%"


def test_the_committed_study_fills_its_tables() -> None:
    """What detector.py saved has all that the notebook asks of it."""
    claims = study.claims(study.findings(tables.load_table("detectors", directory=ROOT)))
    assert len(claims) == len(study.CLAIMS)
    assert not claims["seen"].str.contains("nan").any()
    quoted = tables.load_table("results_claims", directory=ROOT)
    assert quoted["seen"].tolist() == claims["seen"].tolist(), "run notebook 10 again"
    assert study.names(ROOT)


def test_one_of_its_sweeps_is_run_again(tmp_path: Path) -> None:
    """Of the committed table only a few prompts and coefficients, so that it takes a second."""
    table = tables.load_table("study_ceilings_wren", directory=ROOT)
    few = np.sort(table["coefficient_norm"].unique())[[0, 10, 16, 22, 32]]
    kept = (table["prompt_index"] < 3) & table["coefficient_norm"].isin(few)
    settings = {**table.attrs["settings"], "prompts": 3}
    small = table[kept & (table["trait"] == "mood")]
    weights = table.attrs["weights"]
    small.attrs = {}
    about = {"weights": weights, "settings": settings}
    tables.save_table(small, "study_ceilings_wren", directory=tmp_path, provenance=about)
    again = study.rerun(wb.load("wren"), tmp_path)
    assert again is not None
    assert again.table["coefficient"].tolist() == pytest.approx(few, abs=0.01)
    assert again.table[["study", "now"]].notna().all(axis=None)
    assert again.table.loc[2, "now"] == 1
    assert "in the study" in again.said


def test_a_study_of_other_weights_is_not_run_again(tmp_path: Path) -> None:
    about = {"weights": "of another model", "settings": {}}
    frame = pd.DataFrame({"trait": ["mood"]})
    tables.save_table(frame, "study_ceilings_wren", directory=tmp_path, provenance=about)
    assert study.rerun(wb.load("wren"), tmp_path) is None


def test_its_true_ceiling_is_where_half_no_longer_hold() -> None:
    grid = np.linspace(-1, 1, 21)
    frame = pd.DataFrame(
        {
            "prompt_index": np.repeat(np.arange(10), len(grid)),
            "coefficient_norm": np.tile(grid, 10),
        }
    )
    frame["coherence"] = np.where(frame["coefficient_norm"] > 0.449, 0.2, 1.0)
    assert study.ceiling_of(frame, 1) == pytest.approx(0.45, abs=0.06)
    assert study.ceiling_of(frame, -1) == np.inf
    assert np.isnan(study.ceiling_of(frame.assign(coherence=0.0), 1))
    found = study.ceiling_estimate(frame, 1)
    # Of 10 prompts all, and none, tell their side of a half: the step itself is the interval.
    assert (found.low, found.value, found.high) == pytest.approx((0.4, 0.45, 0.5))
    assert str(study.ceiling_estimate(frame, -1)) == "-inf [-1.00, beyond]"
    assert str(study.ceiling_estimate(frame.assign(coherence=0.0), 1)) == "–"


def test_predictions_have_a_panel_a_rule_and_say_how_far_off_they_are() -> None:
    frame = pd.DataFrame(
        {
            "rule": ["good", "good", "bad <b>", "bad <b>"],
            "model": ["wren", "gpt2"] * 2,
            "trait": ["mood"] * 4,
            "true": [0.5, 0.8] * 2,
            "predicted": [0.5, 0.8, 0.25, 1.6],
        }
    )
    figure = predicted_ceilings(frame)
    titles = [each.text for each in figure.layout.annotations]
    assert titles == [
        "good<br>mean |ln ratio| 0.000",
        "bad &lt;b&gt;<br>mean |ln ratio| 0.693",
    ]
    named = [trace.name for trace in figure.data if trace.name]
    assert named == ["mood", "wren", "gpt2"]
    looks = {trace.name: trace.marker.symbol for trace in figure.data if trace.name}
    for trace in figure.data:  # in whatever order, a point keeps its model's look
        if trace.text is not None:
            truly = [{"wren": 0.5, "gpt2": 0.8}[words.split(", ")[1]] for words in trace.text]
            assert list(trace.x) == truly
            shapes = [looks[words.split(", ")[1]] for words in trace.text]
            assert list(trace.marker.symbol) == shapes
    assert predicted_ceilings(frame, rules=["good"]).layout.annotations[0].text.startswith("good")


def broken_at(prompts: int = 8) -> pd.DataFrame:
    grid = np.linspace(-1, 1, 9)
    rows = []
    for prompt in range(prompts):
        for c in grid:
            ends = 10 if abs(c) > 0.6 else 40
            rows.append(
                {
                    "prompt_index": prompt,
                    "prompt": "p",
                    "coefficient": c,
                    "coefficient_norm": c,
                    "vector": "vector",
                    "text": "x" * 40,
                    "tokens": 40,
                    "excess": 3.0 if ends == 10 else 0.0,
                    "drift": 90.0 if ends == 10 else 0.5,
                    "drift_from": ends,
                    "distinct_2": 1.0,
                    "longest_repeat": 1,
                    "repeat_from": 40,
                    "trait": c * (1 + prompt / 50) / 2,
                    "breaks_at": 10 if ends == 10 else np.nan,
                }
            )
    return pd.DataFrame(rows)


def test_the_map_shows_what_is_seen_and_what_is_exact() -> None:
    frame = broken_at()
    figure = survival_map(frame, trait="mood <i>")
    assert {trace.name for trace in figure.data if trace.showlegend} == {
        "mean",
        "intact",
        "holds",
    }
    seen = [trace for trace in figure.data if trace.name == "intact"]
    exact = [trace for trace in figure.data if trace.name == "holds"]
    for one, other in zip(seen, exact, strict=True):
        assert tuple(one.x) == tuple(other.x)
    assert figure.layout.yaxis.title.text.startswith("Mood &lt;i&gt;")
    few = frame.assign(
        trait=frame["trait"].where((frame["coefficient"] <= 0) | (frame["prompt_index"] < 4))
    )
    (mean,) = [trace for trace in survival_map(few).data if trace.name == "mean"]
    assert max(mean.x) == 0  # four of the prompts are too few for a mean
    alone = survival_map(frame.drop(columns=["trait", "breaks_at"]))
    assert {trace.name for trace in alone.data if trace.showlegend} == {"intact"}


def test_ceilings_by_length_stand_with_their_intervals_and_the_step_alone_is_a_finding() -> None:
    """Texts beyond 0.6 break at their tenth token: up to 8 tokens there is no ceiling, from 12 on
    it lies between 0.5 and 0.75; without a text that breaks late the step is 1."""
    table = length_findings.lengths_table(broken_at(), (8, 12, 40))
    assert table[["sign", "tokens"]].values.tolist()[:3] == [["+", 8], ["+", 12], ["+", 40]]
    assert table["50% intact"].tolist()[0] == "beyond"
    assert table["50% intact"].tolist()[1].startswith("+0.62 [+0.50, +0.75]")
    assert table["50% hold"].tolist() == table["50% intact"].tolist()
    said = length_findings.lengths_said(broken_at(), (12, 40))
    assert "1.00 [1.00, 1.00] on side + and 1.00 [1.00, 1.00] on side −" in said
    assert "This is one vector." in said
    assert "not known" in length_findings.lengths_said(broken_at(), (8, 40))


def test_the_step_between_lengths_is_that_of_two_ceilings() -> None:
    """Beyond 0.3 texts break at their tenth token, beyond 0.6 at their second."""
    frame = broken_at()
    size = frame["coefficient_norm"].abs()
    breaks = pd.Series(np.select([size > 0.6, size > 0.3], [1.0, 9.0], np.inf))
    found = length_findings.step(frame, (8, 40), breaks, 1)
    assert found.value == pytest.approx(0.375 / 0.625)
    assert (found.low, found.high) == pytest.approx((0.6, 0.6))
