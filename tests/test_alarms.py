"""The benchmark of false alarms: that it reports every layer, and that it can miss."""

import pytest

import workbench as wb
from workbench import manifold_checks


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("alarms")


def test_every_layer_and_kind_is_reported(bench, capsys) -> None:
    lm = wb.load("wren")
    found = bench.measure(lm, 160, 40, 0)
    assert found["cases"] == lm.layers * 3
    assert 0 <= found["least"] <= found["most"] <= 1
    assert "beyond the 95 % bound, wren" in capsys.readouterr().out


def test_fresh_documents_are_fresh(bench) -> None:
    lm = wb.load("wren")
    fitting, fresh = (set(bench.documents(lm, 50, part, 0)) for part in ("fitting", "fresh"))
    assert len(fitting & fresh) < 5


def test_a_rate_that_is_too_high_misses(bench, monkeypatch) -> None:
    real = manifold_checks.false_alarms

    def high(*args, **settings):
        table = real(*args, **settings)
        return table.assign(tokens=0.2)

    monkeypatch.setattr(bench.manifold_checks, "false_alarms", high)
    assert bench.measure(wb.load("wren"), 160, 40, 0)["met"] == 0
    assert bench.main(["wren", "--quick", "--documents", "640", "--fresh", "160"]) == 1
