"""The benchmark of false alarms: that it reports every layer, and that it can miss."""

from collections.abc import Iterator

import pytest

import workbench as wb
from workbench.geometry import manifold, manifold_checks
from workbench.loading.models import LM


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("alarms")


@pytest.fixture(scope="module")
def quick(bench) -> Iterator[LM]:
    """wren, whose manifolds are fitted once for all tests here."""
    lm = wb.load("wren")
    made = manifold.fit(lm, bench.documents(lm, 160, "fitting", 0), seed=0, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.manifold, "fit", lambda *given, **settings: made)
        yield lm


def test_every_layer_and_kind_is_reported(bench, quick, capsys) -> None:
    found = bench.measure(quick, 160, 40, 0)
    assert found["cases"] == quick.layers * 3
    assert 0 <= found["least"] <= found["most"] <= 1
    assert "beyond the 95 % bound, wren" in capsys.readouterr().out


def test_fresh_documents_are_fresh(bench) -> None:
    lm = wb.load("wren")
    fitting, fresh = (set(bench.documents(lm, 50, part, 0)) for part in ("fitting", "fresh"))
    assert len(fitting & fresh) < 5


def test_a_rate_that_is_too_high_misses(bench, quick, monkeypatch) -> None:
    real = manifold_checks.false_alarms

    def high(*args, **settings):
        table = real(*args, **settings)
        return table.assign(tokens=0.2)

    monkeypatch.setattr(bench.manifold_checks, "false_alarms", high)
    assert bench.main(["wren", "--quick", "--documents", "640", "--fresh", "160"]) == 1
