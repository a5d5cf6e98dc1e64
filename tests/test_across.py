"""The benchmark across vectors, on a made-up study: what it saves, and that it needs one."""

from __future__ import annotations

from pathlib import Path

import pytest
from studied import study

from workbench.support import tables


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("across")


def test_without_a_study_it_says_what_to_run(bench, tmp_path: Path, capsys) -> None:
    assert bench.main(["--directory", str(tmp_path)]) == 1
    assert "study_manifold.py" in capsys.readouterr().out


def test_quick_saves_nothing(bench, tmp_path: Path, capsys) -> None:
    study(tmp_path, tells=True)
    before = tables.table_names(tmp_path)
    assert bench.main(["--quick", "--directory", str(tmp_path)]) == 0
    assert tables.table_names(tmp_path) == before
    assert '"sides": 48' in capsys.readouterr().out


def test_the_whole_saves_what_the_notebook_reads(bench, tmp_path: Path) -> None:
    study(tmp_path, tells=True, alone=True)
    assert bench.main(["--directory", str(tmp_path)]) == 0
    laws = tables.load_table("manifold_laws", directory=tmp_path)
    whole = laws[laws["depth"] == "all"].set_index(["outcome", "predictor"])
    assert whole.loc[("loss", "principal last"), "beyond_norm_low"] > 0
    assert len(tables.load_table("manifold_points", directory=tmp_path)) == 240
    assert len(tables.load_table("manifold_sides", directory=tmp_path)) == 48
    about = tables.load_table("manifold_across", directory=tmp_path).attrs
    assert about["models"] == ["a", "b"]
