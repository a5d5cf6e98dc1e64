"""The study of methods: equal budgets, texts kept apart, and a small one from start to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from workbench.loading.models import LM, load
from workbench.studies import method_comparison
from workbench.support import tables
from workbench.text.splits import text_hashes
from workbench.training.trainable import FORMS


@pytest.fixture
def study(
    benchmark_script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """The script, as small as it can be: one trait, one way of each kind, few texts."""
    ways, module = benchmark_script("ways"), benchmark_script("study_methods")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    for name, value in {"PAIRS": 4, "CHOOSING": 6, "REPORTING": 4, "SHARES": (0.0, 0.5)}.items():
        monkeypatch.setattr(ways, name, value)
    monkeypatch.setattr(module, "TUNED", 3)
    monkeypatch.setattr(module, "NEW_TOKENS", 40)
    monkeypatch.setattr(module, "TRAITS", ("power",))
    few = (ways.VANILLA, ways.PROMPTING, ways.WAYS[2], ways.Way("sft", "lora"))
    monkeypatch.setattr(module, "WAYS", few)
    return module


@pytest.fixture(scope="module")
def wren() -> LM:
    return load("wren")


def test_all_ways_have_the_same_budget(study: Any) -> None:
    ways = study.ways
    assert {len(trials) for trials in ways.TRIALS.values()} == {3}
    assert {way.method for way in ways.WAYS} == set(method_comparison.METHODS)
    assert {way.form for way in ways.WAYS} == {"", *FORMS}
    tried = {len(way.coefficients) for way in ways.WAYS if way.form}
    assert len(tried) == 1
    for way in ways.WAYS:
        assert way.coefficients[0] == 0
        assert way.trials == (ways.TRIALS.get(way.method) or ({},))


def test_nothing_that_reports_has_been_seen(study: Any) -> None:
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
    study: Any, wren: LM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study.ways.draw.cache_clear()
    torch.manual_seed(0)
    assert not study.keeper_of(wren, (0,)).stand(study.TABLES, tmp_path)
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
    assert vanilla["shown"].nunique() == 2
    for rule, own in still.groupby("rule"):
        plain = vanilla[vanilla["rule"] == rule]
        for column in ("shown", "coherence"):
            pd.testing.assert_series_equal(own[column], plain[column], check_index=False)
    assert study.keeper_of(wren, (0,)).stand(study.TABLES, tmp_path)
    assert not study.keeper_of(wren, (0, 1)).stand(study.TABLES, tmp_path)
    capsys.readouterr()
    study.run(wren, tmp_path, (0,))  # all from the cache
    assert capsys.readouterr().out == ""
    again = tables.load_table("study_methods_texts", directory=tmp_path)
    pd.testing.assert_frame_equal(first, again)
    made = tmp_path / "tables" / "study_methods_texts.json"
    made.write_text(made.read_text().replace('"new_tokens": 40', '"new_tokens": 39'))
    assert not study.keeper_of(wren, (0,)).stand(study.TABLES, tmp_path)
    study.check(wren, tmp_path, 2)
    assert study.keeper_of(wren, (0,)).stand(study.TABLES, tmp_path)
    assert len(tables.load_table("study_methods_texts", directory=tmp_path).attrs["checked"]) == 2
    other = first.assign(shown=-first["shown"].fillna(0.5))
    study.keeper_of(wren, (0,)).save({study.TABLES[0]: other}, tmp_path)
    with pytest.raises(ValueError, match="differs"):
        study.check(wren, tmp_path, 1)
    results = method_comparison.table(first)
    assert len(results) == 4
    asked = results.set_index("method")["score"]
    assert asked["prompting"] > asked["vanilla"]
