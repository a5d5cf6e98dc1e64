"""The study of conditional steering: what it deals, and a small one from start to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench import tables
from workbench.models import LM, load

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
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    small = {"INSTRUCTED": 1, "PAIRS": 4, "EPOCHS": 1, "STRENGTHS": (2.0,), "NEW_TOKENS": 40}
    for name, value in small.items():
        monkeypatch.setattr(cases, name, value)
    monkeypatch.setattr(module, "CALIBRATING", {None: 60, "task": 150})
    monkeypatch.setattr(module, "FRESH", {None: 30, "task": 20})
    monkeypatch.setattr(module, "ODDS_PAIRS", 4)
    monkeypatch.setattr(module, "FOLDS", (0,))
    after = {"after “Indeed,”": module.READINGS["after “Indeed,”"]}
    monkeypatch.setattr(module, "READINGS", after)
    monkeypatch.setattr(module, "ways", lambda lm: [pd.DataFrame({"way": ["none"]})])
    return module


def test_what_judges_made_nothing(benchmark_script: Callable[[str], Any]) -> None:
    cases = benchmark_script("condition_cases")
    frame = cases.requests(0, 2)
    assert frame["prompt"].is_unique
    plain = frame[frame["instruction"] == 0]
    assert len(plain) == len(cases.HARMFUL + cases.HARMLESS) * cases.WAYS == 108
    assert (frame.groupby(["topic", "way"])["part"].nunique() == 1).all()
    assert set(frame.loc[frame["part"] == "unseen", "topic"]) == cases.left_out(2)
    folds = [cases.left_out(fold) for fold in range(cases.FOLDS)]
    assert set.union(*folds) == {*cases.HARMFUL, *cases.HARMLESS}
    assert sum(map(len, folds)) == 12
    other = cases.requests(1, 2)
    assert set(other.loc[other["part"] == "making", "prompt"]) != set(
        frame.loc[frame["part"] == "making", "prompt"]
    )


def test_harmless_prompts_are_distinct_and_none_is_used_twice(
    benchmark_script: Callable[[str], Any],
) -> None:
    cases = benchmark_script("condition_cases")
    first = cases.harmless(0, 80)
    assert first["prompt"].is_unique
    assert first["kind"].nunique() >= 4
    tasks = cases.harmless(0, 40, kind="task")
    said = [line for topic in cases.HARMFUL for line in cases.lines(topic)]
    assert not any(line in prompt for prompt in tasks["prompt"] for line in said)
    again = cases.harmless(0, 40, tasks["prompt"], kind="task")
    assert not set(again["prompt"]) & set(tasks["prompt"])


def test_the_layer_is_the_one_that_carries_over_to_other_tasks(
    benchmark_script: Callable[[str], Any],
) -> None:
    """Layer 0 tells every task apart by itself, layer 1 harm alone, and less cleanly."""
    cases, rng = benchmark_script("condition_cases"), np.random.default_rng(0)
    topics = np.repeat([*cases.HARMFUL, *cases.HARMLESS], 10)
    harmful = np.isin(topics, cases.HARMFUL)
    own = np.unique(topics, return_inverse=True)[1]
    found = rng.normal(size=(len(topics), 2, 20))
    found[np.arange(len(topics)), 0, own] += 20
    found[:, 1, 0] += 3 * harmful
    making = pd.DataFrame({"harmful": harmful, "topic": topics})
    apart = cases.across_tasks(found, making, "mean_difference")
    assert apart[1] > 2 > apart[0]


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
    assert set(sides) == {"none", "always", *study.GATES}
    for name in study.GATES:
        met = sides[name]["met"].to_numpy(dtype=bool)
        assert 0 < met.sum() < len(met)
        for rows, as_if in ((met, "always"), (~met, "none")):
            pd.testing.assert_frame_equal(sides[name].loc[rows, SAID], sides[as_if].loc[rows, SAID])
    assert set(texts["rule"]) == {"harmful", "one task", "not", "and not"}
    gates = found["gates"].set_index(["part", "score"])
    assert gates.loc[("held out", "gate, best F1"), "auc"] > 0.9
    assert {"characters", "tokens", "words"} < set(found["gates"]["score"])
    fresh = found["alarms"].groupby(["gate", "among"])["size"].sum()
    assert set(fresh) == {20, 30}
    assert len(found["odds"]) == 3 * 4
    shares = study.summary(found)
    assert ((shares["low"] <= shares["refused"]) & (shares["refused"] <= shares["high"])).all()
    capsys.readouterr()
    study.main(["--seeds", "0", "--directory", str(tmp_path)])
    assert "up to date" in capsys.readouterr().out
