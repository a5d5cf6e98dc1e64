"""Studies over many vectors: what is measured again, what is taken from where, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.loading.models import load
from workbench.support import tables

ASKED: list[str] = []


def measure(lm: Any, case: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Numbers of a case's own, and a note that it was asked for."""
    ASKED.append(str(case))
    one = pd.DataFrame({"value": [float(len(str(case))), np.nan], "word": ["a", case.method]})
    return one, pd.DataFrame({"other": [float(case.seed)]})


@pytest.fixture
def studies(
    benchmark_script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    ASKED.clear()
    module = benchmark_script("studies")
    made_up = SimpleNamespace(name="small", fingerprint="f" * 64, layers=1)
    monkeypatch.setattr(module, "model", lambda _: made_up)
    return module


@pytest.fixture
def study(studies: Any) -> Any:
    return studies.Study(
        tables=("one", "two"),
        measure=measure,
        settings={"prompts": 2},
        modules=("support.wording",),
        methods=("logistic",),
    )


def test_a_study_measures_every_case_once(studies: Any, study: Any, tmp_path: Path) -> None:
    study.run("small", tmp_path, seeds=[0])
    assert len(ASKED) == len(set(ASKED)) == len(studies.TRAITS)
    whole = tables.load_table("study_one_small", directory=tmp_path)
    assert whole["sweep"].nunique() == len(ASKED)
    assert set(whole["method"]) == {"logistic"} == set(whole["word"]) - {"a"}
    assert len(tables.load_table("study_two_small", directory=tmp_path)) == len(ASKED)
    study.run("small", tmp_path / "elsewhere", seeds=[0])
    assert len(ASKED) == len(studies.TRAITS), "what the cache holds was measured again"


def test_one_more_seed_takes_the_finished_cases_from_the_tables(
    studies: Any, study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.run("small", tmp_path, seeds=[0])
    first = tables.load_table("study_one_small", directory=tmp_path)
    ASKED.clear()
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "empty"))
    study.run("small", tmp_path, seeds=[0, 1])
    assert len(ASKED) == len(studies.TRAITS)
    assert all(case.endswith("-1") for case in ASKED)
    both = tables.load_table("study_one_small", directory=tmp_path)
    old = both[both["seed"] == 0].drop(columns="sweep").reset_index(drop=True)
    pd.testing.assert_frame_equal(old, first.drop(columns="sweep"), check_like=True)


@pytest.mark.parametrize("change", [{"settings": {"prompts": 3}}, {"modules": ("support.checks",)}])
def test_other_settings_or_code_measure_everything_again(
    studies: Any, study: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    study.run("small", tmp_path, seeds=[0])
    ASKED.clear()
    replace(study, **change).run("small", tmp_path, seeds=[0])
    assert len(ASKED) == len(studies.TRAITS)


def test_a_check_stamps_what_is_the_same_and_refuses_what_is_not(
    studies: Any, study: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="run the study of 'small' first"):
        study.check("small", tmp_path, 2)
    study.run("small", tmp_path, seeds=[0])
    changed = replace(study, modules=("support.wording", "support.checks"))
    assert changed.standing("small", studies.model("small"), tmp_path) == {}
    changed.check("small", tmp_path, 2)
    assert len(changed.standing("small", studies.model("small"), tmp_path)) == len(studies.TRAITS)
    assert len(tables.load_table("study_two_small", directory=tmp_path).attrs["checked"]) == 2

    def other(lm: Any, case: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        one, two = measure(lm, case)
        return one.assign(value=one["value"] + 1), two

    with pytest.raises(ValueError, match="differs"):
        replace(study, measure=other).check("small", tmp_path, 1)


def test_half_lives_lie_on_their_own_side(
    benchmark_script: Callable[[str], Any], studies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a random direction they say little, but each must be a distance or none."""
    case, module = studies.Case("mood", 1, "random", 0), benchmark_script("study_odds")
    monkeypatch.setattr(module, "PAIRS", 2)
    curves, halves = module.measure(load("wren"), case)
    assert halves["sign"].tolist() == [1, -1]
    assert len(curves) == len(studies.COEFFICIENTS)
    known = halves[["preference", "utility"]].to_numpy()
    assert ((known > 0) | np.isnan(known)).all()
    assert np.nanmax(known) <= studies.COEFFICIENTS.max()
