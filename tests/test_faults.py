"""Degraded judges on a study whose every ceiling is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.judges import HOLDS
from workbench.statistics.intervals import Interval
from workbench.studies import fault_findings, faults
from workbench.support import tables

ROOT = Path(__file__).resolve().parents[1] / "reports"
SIDE = (0.1, 0.2, 0.4, 0.8, 1.6)
GRID = [-size for size in SIDE[::-1]] + [0.0, *SIDE]


def study(directory: Path, model: str = "a", **columns: object) -> None:
    """Two traits; at 0.8 and beyond all texts of 8 prompts are broken, else none. The sign + shows
    the trait from 0.2 on. Beside them a control that never breaks."""
    rows = []
    for sweep, trait in enumerate(("mood", "power")):
        for prompt in range(8):
            for c in GRID:
                broken = abs(c) >= 0.8
                rows.append(
                    {
                        "prompt_index": prompt,
                        "coefficient_norm": c,
                        "tokens": 48,
                        "coherence": 0.3 if broken else 1.0,
                        "shown": np.nan if broken else float(np.sign(c) * (abs(c) >= 0.2)),
                        "trait": trait,
                        "method": "mean_difference",
                        "layer": 0,
                        "seed": 0,
                        "sweep": sweep,
                    }
                )
    frame = pd.DataFrame(rows)
    control = frame.assign(method="random", sweep=9, coherence=1.0)
    frame = pd.concat([frame, control], ignore_index=True).assign(**columns)
    about = {"settings": {"new_tokens": 48}}
    tables.save_table(frame, f"study_ceilings_{model}", directory=directory, provenance=about)


@pytest.fixture
def studied(tmp_path: Path) -> faults.Studied:
    study(tmp_path)
    return faults.load(tmp_path)


def measured(studied: faults.Studied, fault: str, strength: float) -> dict:
    return faults.measure(studied, faults.degrade(studied, fault, strength))


def test_the_study_is_read_without_its_controls(studied: faults.Studied) -> None:
    assert [(side.sign, side.cluster) for side in studied.sides] == [
        (1, "mood"), (-1, "mood"), (1, "power"), (-1, "power"),
    ]  # fmt: skip
    assert np.allclose(studied.true, 0.6)  # between 0.4, where all hold, and 0.8, where none does
    assert studied.texts["cut"].all()


def test_sides_without_a_ceiling_are_left_out(tmp_path: Path) -> None:
    study(tmp_path, "whole", coherence=1.0)
    study(tmp_path, "b")
    assert {side.cluster for side in faults.load(tmp_path).sides} == {"mood", "power"}


def test_without_a_study_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make study"):
        faults.load(tmp_path)


def test_the_exact_judge_is_right(studied: faults.Studied) -> None:
    row = faults.measure(studied, studied.texts["coherence"].to_numpy(dtype=float))
    assert (row["kappa"], row["error"], row["own_error"]) == (1, 0, 0)
    assert (row["lost"], row["toward"], row["away"]) == (0, 0, 0)


def test_leniency_beyond_the_bound_loses_every_ceiling_and_its_own_bound_finds_them(
    studied: faults.Studied,
) -> None:
    mild, severe = (measured(studied, "lenient", part) for part in (0.2, 0.4))
    assert (mild["lost"], mild["error"]) == (0, 0)
    # 0.3 + 0.4 * 0.7 is above a half: no fall, the end of the range
    assert severe["lost"] == 1
    assert severe["error"] == pytest.approx(np.log(1.6 / 0.6))
    assert severe["own_error"] == 0
    assert severe["kappa"] < mild["kappa"] < 1


def test_a_text_that_shows_the_trait_is_taken_for_broken(studied: faults.Studied) -> None:
    """From 0.2 on, of the sign + alone: half of those at 0.1 and 0.2, by interpolation, is 0.15."""
    row = measured(studied, faults.TRAIT, 0.6)
    assert row["toward"] == pytest.approx(np.log(0.15 / 0.6))
    assert row["away"] == 0
    assert row["error"] == pytest.approx(-row["toward"] / 2)


def test_without_a_coherent_text_the_smallest_coefficient_counts(studied: faults.Studied) -> None:
    row = measured(studied, "cut-off penalised", 0.51)
    assert row["lost"] == 1
    assert row["error"] == pytest.approx(np.log(0.6 / 0.1))
    assert measured(studied, "cut-off penalised", 0.5)["lost"] == 0


def test_only_cut_texts_are_marked_down(tmp_path: Path) -> None:
    study(tmp_path, tokens=47)
    short = faults.load(tmp_path)
    assert measured(short, "cut-off penalised", 0.8)["kappa"] == 1


def test_rounding_has_so_many_levels(studied: faults.Studied) -> None:
    texts = studied.texts.assign(coherence=np.linspace(0, 1, len(studied.texts)))
    other = replace(studied, texts=texts)
    for levels in (10, 3):
        scores = faults.degrade(other, "rounded", levels)
        assert np.allclose(np.unique(scores), np.linspace(0, 1, levels))
        assert np.abs(scores - texts["coherence"]).max() <= 0.5 / (levels - 1) + 1e-9


def test_noise_is_seeded_stays_on_the_scale_and_costs_agreement(studied: faults.Studied) -> None:
    once, again, other = (faults.degrade(studied, "noisy", 0.5, seed) for seed in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert once.min() >= 0
    assert once.max() <= 1
    kappas = [measured(studied, "noisy", spread)["kappa"] for spread in (0.1, 0.3, 1.0)]
    assert kappas == sorted(kappas, reverse=True)


def test_each_fault_is_brought_to_the_same_agreement(studied: faults.Studied) -> None:
    same = faults.at_kappa(studied, 0.8)
    assert set(same["fault"]) == set(faults.FAULTS) - {"rounded"}
    assert np.allclose(same["kappa"], 0.8, atol=0.01)
    assert faults.at_kappa(studied, 1e-9).empty


def test_an_unknown_fault_is_refused(studied: faults.Studied) -> None:
    with pytest.raises(ValueError, match="no fault 'rude'; choose one of rounded, noisy"):
        faults.degrade(studied, "rude", 1)


# Words


def rows(**changes: object) -> pd.DataFrame:
    """A judge of each kind, at an error of a tenth."""
    table = pd.DataFrame(
        {
            "fault": ["none", "noisy", "lenient", faults.TRAIT],
            "strength": [0.0, 0.6, 0.5, 0.7],
            "kappa": [1.0, 0.95, 0.5, 0.7],
            "error": [0.0, 0.1, 0.1, 0.1],
            "own_error": [0.0, 0.1, 0.1, 0.1],
            "own_lost": 0.0,
            "behind": 0.05,
            "own_behind": 0.05,
            "toward": np.log(0.5),
            "away": 0.0,
            "lost": 0.0,
        }
    ).assign(**changes)
    for name, width in (("kappa", 0.01), ("error", 0.02), ("own_error", 0.02), ("behind", 0.02),
                        ("own_behind", 0.02)):  # fmt: skip
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - width, table[name] + width
    return table


ALONE = Interval(0.09, 0.05, 0.13, 6)


@pytest.mark.parametrize(
    ("own", "answer"),
    [
        (0.05, "judge? 3 of 3 clearly worse; if coherent is what scores above a bound of the "
         "judge's own: 3 of 3 clearly worse."),
        (0.01, "judge's own: none of 3 clearly worse or better."),
        ([0.0, 0.05, -0.05, 0.0], "judge's own: 1 of 3 clearly worse and 1 of 3 clearly better."),
    ],
)  # fmt: skip
def test_the_answer_follows_the_paired_differences(own: object, answer: str) -> None:
    table = rows(own_behind=own)
    said = fault_findings.faults_said(table, table.iloc[1:], ALONE)
    assert answer in said
    assert "`find_ceiling` is off by 0.090 [0.050, 0.130]; at" in said
    assert "*noisy* +0.050 [+0.030, +0.070], with its own bound" in said
    assert "still has a kappa of 0.70 when it puts the ceiling towards the trait at 0.50" in said


def test_what_is_not_clearly_worse_is_not_said_to_be() -> None:
    table = rows(behind=0.01, own_behind=-0.01)
    said = fault_findings.faults_said(table, table.iloc[1:], ALONE)
    assert (
        "(*noisy*, 0.95) is off by 0.100 [0.080, 0.120]; less the error of "
        "`find_ceiling`: +0.010 [−0.010, +0.030], not clear of zero." in said
    )
    assert "own bound; less the error of `find_ceiling`: −0.010 [−0.030, +0.010], not clear" in said
    shown = fault_findings.shown_faults(table)
    assert shown["error"].tolist()[1] == "0.100 [0.080, 0.120]"
    assert shown["strength"].tolist()[:2] == ["–", "0.6: standard deviation of what is added"]
    assert shown["… less find_ceiling's"].tolist()[1] == "+0.010 [−0.010, +0.030]"


def test_each_side_is_compared_with_find_ceiling_on_that_side(tmp_path: Path) -> None:
    """Off by a factor of 2 and 1/2 on mood, right on power: by log 2 on average of mood's sides.
    The exact judge is behind by the negative of that; of a side that is not there nothing is
    known."""
    study(tmp_path)
    case = {"model": "a", "method": "mean_difference", "layer": 0, "seed": 0, "true": 0.6}
    sides = [
        case | {"trait": trait, "sign": sign, "predicted": predicted, "rule": "share intact"}
        for trait, sign, predicted in (("power", 1, 0.6), ("mood", -1, 0.3), ("mood", 1, 1.2))
    ]
    table = pd.DataFrame([*sides, case | sides[0] | {"rule": "constant", "predicted": 9.0}])
    tables.save_table(table, "detector_sides", directory=tmp_path, compact=True)
    studied = faults.load(tmp_path)
    assert studied.alone[:3] == pytest.approx([np.log(2), np.log(2), 0])
    assert np.isnan(studied.alone[3])
    row = faults.measure(studied, studied.texts["coherence"].to_numpy(dtype=float))
    assert row["behind"] == row["own_behind"] == pytest.approx(-np.log(2) / 2)
    assert row["behind_low"] < row["behind"] < row["behind_high"]


# Figure


def test_each_fault_is_a_line_from_mild_to_severe() -> None:
    table = pd.concat([rows(), rows(kappa=0.4, strength=1.0, error=0.0)], ignore_index=True)
    figure = figures.error_by_agreement(table, alone=0.08, noise=0.07, enough=0.6)
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert names == ["noisy", "lenient", faults.TRAIT]
    noisy, own = (trace for trace in figure.data if trace.name == "noisy")
    assert list(noisy.x) == [0.95, 0.4]
    assert list(noisy.y) == [0.1, 0.005]  # an error of 0 has no place on a logarithmic axis
    assert (noisy.yaxis, own.yaxis) == ("y", "y2")
    assert np.allclose(noisy.error_x.array, 0.01)
    levels = {shape.y0 for shape in figure.layout.shapes if shape.y0 == shape.y1}
    assert levels == {0.08, 0.07}
    assert not figures.error_by_agreement(table).layout.shapes


def test_it_can_be_drawn_again_from_its_table(tmp_path: Path) -> None:
    figure = figures.error_by_agreement(rows(), alone=0.08)
    tables.write_csv(rows(), tmp_path / "t.csv")
    again = figures.error_by_agreement(
        tables.read_csv(tmp_path / "t.csv"), **figure.layout.meta["arguments"]
    )
    assert again.to_json() == figure.to_json()


# The committed study


def test_the_committed_figure_stands_for_the_committed_study() -> None:
    studied = faults.load(ROOT)
    saved = tables.read_csv(ROOT / "figures" / "08_faults.csv")
    assert saved["fault"].unique().tolist() == ["none", *faults.FAULTS]
    for row in saved.iloc[[0, 1, 4, -1]].to_dict("records"):
        if row["fault"] == "none":
            scores = studied.texts["coherence"].to_numpy(dtype=float)
        else:
            scores = faults.degrade(studied, row["fault"], row["strength"])
        now = faults.measure(studied, scores)
        assert now == pytest.approx({name: row[name] for name in now}, abs=1e-6)
    assert studied.texts.loc[studied.texts["coefficient_norm"] == 0, "coherence"].mean() > HOLDS
