"""The benchmark of ablation: it measures what it says, and can miss."""

from __future__ import annotations

import json
from types import SimpleNamespace
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


def test_a_ratio_is_the_median_over_rounds_between_its_ends(bench: Any) -> None:
    walls = {"loop": [2.0, 4.0, 9.0], "sweep": [1.0, 1.0, 1.0]}
    times = {name: SimpleNamespace(wall=wall) for name, wall in walls.items()}
    found = bench.over(times, "loop")
    ends = [found[f"loop_over_sweep{end}"] for end in ("", "_least", "_most")]
    assert ends == [4.0, 2.0, 9.0]
