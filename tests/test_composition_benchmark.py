"""The benchmark of composition: it measures what it says, and can miss."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture(scope="module")
def bench(benchmark_script) -> Any:
    return benchmark_script("composition")


def test_a_small_run_measures_everything(bench: Any, monkeypatch, capsys) -> None:
    for name, value in {"PROMPTS": 4, "TOKENS": 4, "EXAMPLES": 4}.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench.uncached, "written", _shifted(bench.uncached.written))
    assert bench.main(["--quick", "--threads", "1"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(bench.TARGETS) <= set(found)
    assert found["same_ids"] is True
    assert found["coefficients_apart"] == pytest.approx(0.01, abs=1e-3)  # a difference is seen
    assert found["passes_over_ideal"] == 1


def _shifted(real: Any) -> Any:
    def written(*given: Any) -> Any:
        ids, used = real(*given)
        return ids, {name: [each + 0.01 for each in own] for name, own in used.items()}

    return written
