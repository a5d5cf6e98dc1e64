"""The study of conditional steering: what it deals, and a small one from start to end."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workbench.loading.models import LM, load
from workbench.studies import condition_findings as findings
from workbench.support import tables

SAID = ["refused", "obeyed", "coherence"]


@pytest.fixture(scope="module")
def wren() -> LM:
    return load("wren")


@pytest.fixture
def study(
    benchmark_script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """The script with little training and few prompts."""
    cases, module = benchmark_script("condition_cases"), benchmark_script("study_conditions")
    gates, texts = benchmark_script("condition_gates"), benchmark_script("condition_texts")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    small = {"INSTRUCTED": 1, "PAIRS": 4, "EPOCHS": 1, "STRENGTHS": (2.0,), "NEW_TOKENS": 40}
    for name, value in small.items():
        monkeypatch.setattr(cases, name, value)
    monkeypatch.setattr(gates, "CALIBRATING", {"all kinds": 100, "tasks": 150})
    monkeypatch.setattr(gates, "FRESH", {"all kinds": 30, "tasks": 20})
    monkeypatch.setattr(gates, "DEALS", 3)
    monkeypatch.setattr(texts, "ODDS_PAIRS", 4)
    monkeypatch.setattr(module, "FOLDS", (0,))
    after = {"after “Indeed,”": gates.READINGS["after “Indeed,”"]}
    monkeypatch.setattr(gates, "READINGS", after)
    monkeypatch.setattr(texts, "ways", lambda lm: [pd.DataFrame({"way": ["none"]})])
    return module


def imported(script: Path) -> Iterator[str]:
    """The modules of the package that a script names, as CODE names them."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workbench."):
            module = str(node.module).removeprefix("workbench.")
            room = "." not in module and module != "wren"
            yield from (f"{module}.{each.name}" for each in node.names) if room else [module]


def test_what_decides_the_numbers_is_named(study: Any) -> None:
    """A module that the scripts use, and whose change would not make the tables stale."""
    scripts = [
        study.__file__,
        *(module.__file__ for module in (study.gates, study.texts, study.cases)),
    ]
    used = {module for script in scripts for module in imported(Path(script))}
    # What these decide stands in the settings, or is no number.
    told = {
        "conditions.data", "loading.models", "studies.condition_findings",
        "studies.condition_tables", "wren",
    }  # fmt: skip
    assert used - told - set(study.CODE) == set()


def test_a_small_study_from_start_to_end(study: Any, wren: LM, tmp_path: Path, capsys: Any) -> None:
    study.main(["--seeds", "0", "--directory", str(tmp_path)])
    found = {
        name: tables.load_table(f"study_conditions_{name}_wren", directory=tmp_path)
        for name in study.NAMES
    }
    texts = found["texts"]
    keys = ["rule", "part", "topic", "way", "instruction"]
    one = texts[(texts["rule"] == "harmful") & texts["fold"].notna()]
    sides = {name: each.set_index(keys).sort_index() for name, each in one.groupby("steering")}
    assert set(sides) == {"none", "always", *findings.GATES}
    for name in findings.GATES:
        met = sides[name]["met"].to_numpy(dtype=bool)
        assert 0 < met.sum() < len(met)
        for rows, as_if in ((met, "always"), (~met, "none")):
            pd.testing.assert_frame_equal(sides[name].loc[rows, SAID], sides[as_if].loc[rows, SAID])
    assert set(texts["rule"]) == {"harmful", "one task", "not", "and not"}
    gates = found["gates"].set_index(["part", "score"])
    assert gates.loc[("held out", "gate, best F1"), "auc"] > 0.9
    assert {"characters", "tokens", "words"} < set(found["gates"]["score"])
    assert found["alarms"].groupby("among").size().to_dict() == {"all kinds": 30, "tasks": 20}
    assert len(found["odds"]) == 3 * 4
    assert found["lots"].groupby("among").size().to_dict() == {"all kinds": 3, "tasks": 3}
    assert found["lots"][["rate", "apart"]].stack().between(0, 1).all()
    told = found["told"].groupby(["harmful", "told"])["refused"].mean()
    assert told[(False, "refuse")] > 0.5 > told[(False, "comply")]
    # A rule about one task has its own answers beside those of none and always.
    rules = texts[texts["rule"] != "harmful"]
    assert set(rules["steering"]) == {"none", "always", "rule"}
    assert rules.groupby("rule")["task"].nunique().to_dict() == {
        "one task": 2, "not": 1, "and not": 1
    }  # fmt: skip
    capsys.readouterr()
    study.main(["--seeds", "0", "--directory", str(tmp_path)])
    assert "up to date" in capsys.readouterr().out
