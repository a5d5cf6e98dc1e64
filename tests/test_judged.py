"""benchmarks/judged.py, on sweeps whose end is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def judged(benchmark_script: Callable[[str], Any]) -> Any:
    return benchmark_script("judged")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four sweeps of two concepts; texts loop, ALERT falls and coherence goes from 0.6 on."""
    lines = []
    for sweep in range(4):
        for step in range(11):
            broken = step >= 6
            lines.append(
                {
                    "sweep": f"s{sweep}",
                    "concept": f"c{sweep % 2}",
                    "coefficient": step / 10,
                    "alert": -5.0 if broken else -10.0,
                    "text": "so so so so so so"
                    if broken
                    else "one of them went to the river, then",
                    "coherence": 2 if broken else 9,
                    "behavior": 1,
                }
            )
    path = tmp_path / "sweeps.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_rules_that_see_the_end_are_right(judged: Any, file: Path) -> None:
    frame = judged.read(file)
    table = judged.errors(frame).set_index("rule")["error"]
    assert table["loops"] == table["loops or ALERT"] == table["ALERT, two in a row"] == 0
    assert table["ALERT as coded"] == pytest.approx(0.1)  # it steps back
    assert table["constant of the other concept"] == 0
    bad = (frame["coherence"] <= judged.INCOHERENT).to_numpy()
    assert judged.area(frame["repeat"].to_numpy(), bad) == 1
    assert judged.area(np.zeros(len(bad)), bad) == 0.5


def test_without_the_file_it_says_so(judged: Any, tmp_path: Path, capsys: Any) -> None:
    assert judged.main(["--file", str(tmp_path / "none.jsonl")]) == 1
    assert "the texts are not part of this project" in capsys.readouterr().out
    assert judged.main(["--file", str(tmp_path)]) == 1
