"""The study of methods: equal budgets, texts kept apart, and a small one from start to end."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from workbench import method_comparison, tables
from workbench.models import LM, load
from workbench.splits import text_hashes
from workbench.trainable import FORMS

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, as small as it can be: one trait, one way of each kind, few texts."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("ways", "study_methods"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    ways = importlib.import_module("ways")
    script = importlib.import_module("study_methods")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    for name, value in {"PAIRS": 4, "CHOOSING": 6, "REPORTING": 4, "SHARES": (0.0, 0.5)}.items():
        monkeypatch.setattr(ways, name, value)
    monkeypatch.setattr(script, "TUNED", 3)
    monkeypatch.setattr(script, "NEW_TOKENS", 24)
    monkeypatch.setattr(script, "TRAITS", ("power",))
    few = (ways.VANILLA, ways.PROMPTING, ways.WAYS[2], ways.Way("sft", "lora"))
    monkeypatch.setattr(script, "WAYS", few)
    return script


@pytest.fixture(scope="module")
def wren() -> LM:
    return load("wren")


def test_all_ways_have_the_same_budget(study: ModuleType) -> None:
    ways = study.ways
    assert {len(trials) for trials in ways.TRIALS.values()} == {3}
    assert {way.method for way in ways.WAYS} == set(method_comparison.METHODS)
    assert {way.form for way in ways.WAYS} == {"", *FORMS}
    tried = {len(way.coefficients) for way in ways.WAYS if way.form}
    assert len(tried) == 1
    for way in ways.WAYS:
        assert way.coefficients[0] == 0
        assert way.trials == (ways.TRIALS.get(way.method) or ({},))


def test_nothing_that_reports_has_been_seen(study: ModuleType) -> None:
    """Not by what made a way, by what chose its coefficient, nor by what chose its settings."""
    ways = study.ways
    ways.draw.cache_clear()
    tuning = ways.draw("mood", ways.TUNING)
    seen = {*tuning.pairs.texts, *tuning.choosing.texts}
    for seed in (0, 1):
        given = ways.draw("mood", seed)
        assert (len(given.choosing), len(given.reporting)) == (6, 4)
        reporting = set(given.reporting.texts)
        assert not reporting & {*given.pairs.texts, *given.choosing.texts, *seen}
        for choosing, asked in given.asking.values():
            assert (choosing.role, asked.role) == ("select", "report")
            assert (len(choosing), len(asked)) == (6, 4)
            lines = [p.partition("<|user|>")[2].removesuffix("</s><|assistant|>") for p in asked]
            plain = [
                p.removeprefix("<|user|>").removesuffix("</s><|assistant|>")
                for p in given.reporting
            ]
            assert all(line.startswith(own) for line, own in zip(lines, plain, strict=True))
            assert not set(text_hashes(asked)) & set(text_hashes(choosing))
    assert ways.draw("mood", 0).reporting.prompts != ways.draw("mood", 1).reporting.prompts


def test_a_small_study_resumes_and_is_up_to_date_afterwards(
    study: ModuleType, wren: LM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study.ways.draw.cache_clear()
    torch.manual_seed(0)
    assert not study.up_to_date(wren, tmp_path, (0,))
    study.run(wren, tmp_path, (0,))
    first = tables.load_table("study_methods_texts", directory=tmp_path)
    tried = tables.load_table("study_methods_trials", directory=tmp_path)
    assert len(tried) == 1 + 3 + 3 + 3
    assert tried.groupby(["method", "form"], dropna=False)["chosen"].sum().eq(1).all()
    for row in tried.to_dict("records"):
        assert row["best"] == pytest.approx(max(json.loads(row["harmonic"])), abs=1e-4)
    assert (first.groupby(["method", "form", "rule"]).size() == 4).all()
    assert first.groupby("rule").size().to_dict() == {"best": 16, "recommended": 16}
    still = first[(first["method"] == "sft") & (first["m"] == 0)]
    vanilla = first[first["method"] == "vanilla"]
    for rule, own in still.groupby("rule"):
        plain = vanilla[vanilla["rule"] == rule]
        pd.testing.assert_series_equal(own["shown"], plain["shown"], check_index=False)
    assert study.up_to_date(wren, tmp_path, (0,))
    assert not study.up_to_date(wren, tmp_path, (0, 1))
    capsys.readouterr()
    study.run(wren, tmp_path, (0,))  # all from the cache
    assert "of CPU" not in capsys.readouterr().out
    again = tables.load_table("study_methods_texts", directory=tmp_path)
    pd.testing.assert_frame_equal(first, again)
    made = tmp_path / "tables" / "study_methods_texts.json"
    made.write_text(made.read_text().replace('"new_tokens": 24', '"new_tokens": 23'))
    assert not study.up_to_date(wren, tmp_path, (0,))
    study.check(wren, tmp_path, 2)
    assert study.up_to_date(wren, tmp_path, (0,))
    assert len(tables.load_table("study_methods_texts", directory=tmp_path).attrs["checked"]) == 2
    other = first.assign(shown=-first["shown"].fillna(0.5))
    study.save(wren, tmp_path, (0,), (other, tried))
    with pytest.raises(ValueError, match="differs"):
        study.check(wren, tmp_path, 1)
    results = method_comparison.table(first)
    assert len(results) == 4
    asked = results.set_index("method")["score"]
    assert asked["prompting"] > asked["vanilla"]
