"""The study of laws: a small one from start to end, resumed, checked, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench.loading.models import LM, load
from workbench.support import tables
from workbench.text.splits import text_hashes


@pytest.fixture
def study(
    benchmark_script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """The script with one case, few points, short texts and few fits."""
    cases, module = benchmark_script("law_cases"), benchmark_script("study_laws")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cases, "PROMPTS", 4)
    monkeypatch.setattr(cases, "NEW_TOKENS", 32)
    monkeypatch.setattr(cases, "MORE", 4)
    monkeypatch.setattr(cases, "SHARES", np.linspace(-1.5, 1.5, 13))
    monkeypatch.setattr(module, "SIZES", (4, 8))
    monkeypatch.setattr(module, "DEALT", 5)
    monkeypatch.setattr(module, "FITS", {"splits": 1, "random": 1, "singles": 1})
    case = cases.Case("power", 3, "mean_difference", 0)
    monkeypatch.setattr(module, "cases", lambda *_: iter([case]))
    return module


def counted(name: str, work: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    """The same work, done once and noted whenever it is asked for."""
    done: list[Any] = []

    def asked(*given: Any) -> Any:
        calls.append(name)
        if not done:
            done.append(work(*given))
        return done[0]

    return asked


@pytest.fixture(scope="module")
def wren() -> LM:
    return load("wren")


def test_a_small_study_resumes_checks_and_refuses(
    study: Any, wren: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    calls: list[str] = []
    for name in ("case_of", "fits_of"):  # the same again is worked out once
        monkeypatch.setattr(study, name, counted(name, getattr(study, name), calls))
    keeper = study.keeper_of(wren, 0)
    assert not keeper.stand(study.TABLES, tmp_path)
    study.run(wren, tmp_path, 0)
    assert keeper.stand(study.TABLES, tmp_path)
    known, curves, laws, by_pairs = (
        tables.load_table(name, directory=tmp_path) for name in study.TABLES
    )
    ends = known.loc[0, ["ceiling_minus", "ceiling_plus"]].to_numpy(dtype=float)
    grid = np.sort(curves["m"].unique())
    assert grid[[0, -1]] == pytest.approx([-1.5 * ends[0], 1.5 * ends[1]], rel=1e-5)
    assert curves.groupby("pair").size().eq(13).all()
    assert set(laws["kind"]) == {"preference", "utility"}
    assert laws["in_place"].between(0, 1).all()
    assert set(by_pairs["pairs"]) == {4, 8}
    assert calls == ["case_of", "fits_of"]
    study.run(wren, tmp_path, 0)  # all from the cache
    assert calls == ["case_of", "fits_of"]

    made = tmp_path / "tables" / "study_laws.json"
    record = json.loads(made.read_text())
    record["settings"]["new_tokens"] = 33
    made.write_text(json.dumps(record))
    assert not keeper.stand(study.TABLES, tmp_path)
    study.check(wren, tmp_path, 0, 1)
    assert calls == ["case_of", "fits_of"] * 2
    assert keeper.stand(study.TABLES, tmp_path)
    other = curves.assign(preference=curves["preference"] + 0.01)
    keeper.save({"study_laws_curves": other}, tmp_path)
    with pytest.raises(ValueError, match="study_laws_curves power-3-mean_difference-0 differs"):
        study.check(wren, tmp_path, 0, 1)


def test_what_is_measured_made_nothing(study: Any) -> None:
    parts = study.dealt(0)["power"]
    case = next(study.cases(6, 0))
    measured = study.law_cases.measured(parts, case, 6)
    assert len(measured) == len(parts.select) + len(parts.report) + 4
    assert not set(measured.texts) & set(parts.extract.texts)
    assert len(set(text_hashes([pair.full[0] for pair in measured]))) > len(parts.select)
