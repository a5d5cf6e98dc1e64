"""The benchmark of ablation: it measures what it says, and can miss."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture(scope="module")
def bench(benchmark_script) -> Any:
    return benchmark_script("ablation")


def test_a_small_run_measures_everything(bench: Any, monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench, "PROMPTS", 2)
    real = bench.hooked
    monkeypatch.setattr(bench, "hooked", lambda *given: real(*given) + 0.01)
    assert bench.main(["--quick", "--threads", "1"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(bench.TARGETS) <= set(found)
    assert found["apart"] == pytest.approx(0.01, abs=1e-3)  # a difference is seen
    assert found["targets"]["apart"]["met"] is False
    for loop in ("loop", "heads_loop", "hooks_loop"):
        ratio = f"{loop}_over_sweep"
        assert found[f"{ratio}_least"] <= found[ratio] <= found[f"{ratio}_most"]
