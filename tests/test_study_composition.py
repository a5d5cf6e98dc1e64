"""The study of composition: a small one from start to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.studies import composition_findings as findings
from workbench.support import tables


@pytest.fixture
def study(
    benchmark_script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """The script with few queries, strengths and tokens."""
    cases, module = benchmark_script("composition_cases"), benchmark_script("study_composition")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    small = {"TOKENS": 12, "MAKING": 2, "JUDGING": 1, "LANGUAGES": ("it",),
             "SECONDS": ("formality",), "STARTS": (1.0,), "FIXED": (0.3, 0.6),
             "THREE": (0.3, 0.4), "DIMINISHING": (0.5,), "CAPPED": (0.5,), "TOP_P": (0.5,),
             "BOUNDS": (0.4,), "NATS": (5.0,)}  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(cases, name, value)
    return module


def test_a_small_study_from_start_to_end(study: Any, tmp_path: Path, capsys: Any) -> None:
    study.main(["--seeds", "1", "--directory", str(tmp_path)])
    found = {
        name: tables.load_table(f"study_composition_{name}_wren", directory=tmp_path)
        for name in study.NAMES
    }
    texts = found["texts"]
    assert set(texts["second"]) == {"formality"}
    assert set(texts["form"]) == {"per step", "averaged", "none"}
    one = texts[texts["schedule"] == "none"]
    assert one["kl"].abs().max() < 1e-6
    assert not one["language"].any()
    asked = texts[texts["schedule"] == "instructions"]
    assert asked["surprise"].mean() < one["surprise"].mean()
    assert set(findings.curves(texts)["schedule"]) == set(findings.WORDS)
    assert "language × formality" in findings.verdict(texts)
    assert set(found["choices"]["source"]) == {"instructions", "examples"}
    capsys.readouterr()
    study.main(["--seeds", "1", "--directory", str(tmp_path)])
    assert "up to date" in capsys.readouterr().out
    study.main(["--check", "1", "--directory", str(tmp_path)])
    assert "study_composition_texts_wren formality 1: the same" in capsys.readouterr().out
