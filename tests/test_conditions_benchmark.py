"""The benchmark of conditions: what its loop compares, and that its comparisons can fail."""

from dataclasses import replace

import numpy as np
import pytest
from architectures import SENTENCES
from made_up import made_up

from workbench.conditions import conditional
from workbench.conditions import search as condition_search


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("conditions")


@pytest.fixture
def size(bench):
    return bench.Size(20, 3, 4, (20, 3), 1, 1, prompts=4, new_tokens=3)


def test_arguments(bench) -> None:
    given = bench.arguments().parse_args([])
    assert (given.quick, given.model, given.threads) == (False, "wren", 2)


@pytest.mark.parametrize("name", ["FULL", "QUICK"])
def test_enough_points_are_compared(bench, name) -> None:
    size = getattr(bench, name)
    values, labels = bench.similarities(size.texts, size.layers)
    assert len(bench.points(values)) >= 48_000
    assert labels.mean() == 0.5


def test_the_loop_finds_the_point_that_parts_the_classes(bench) -> None:
    labels = np.array([True, True, False, False])
    values = np.array([[0.1, 5.0], [0.2, 7.0], [0.8, 6.0], [0.9, 8.0]])
    assert bench.loop(values, labels, bench.points(values)) == 1
    assert bench.loop(values, labels, [([1], True, 5.5)]) == pytest.approx(2 / 5)
    assert bench.loop(values, labels, [([0, 1], False, 0.15)]) == pytest.approx(2 / 3)


def test_the_comparison_with_the_loop_can_fail(bench, monkeypatch) -> None:
    assert bench.same_f1(20, 3)
    found = condition_search.find_condition_point

    def worse(values, labels, *, most_layers):
        made = found(values, labels, most_layers=most_layers)
        return replace(made, best=replace(made.best, f1=made.best.f1 - 1e-6))

    monkeypatch.setattr(condition_search, "find_condition_point", worse)
    assert not bench.same_f1(20, 3)
    monkeypatch.setattr(condition_search, "find_condition_point", lambda v, w, **_: found(v, w))
    assert not bench.same_f1(20, 3)  # fewer points


def test_a_loop_that_finds_more_is_told(bench, size, monkeypatch) -> None:
    monkeypatch.setattr(bench, "same_f1", lambda texts, layers: True)
    assert bench.search(size)["same_f1"]
    loop = bench.loop
    monkeypatch.setattr(bench, "loop", lambda *given: min(1.0, loop(*given) + 0.01))
    assert not bench.search(size)["same_f1"]


def test_a_small_run_measures_everything(bench, size, tiny, capsys, monkeypatch) -> None:
    given = made_up(tiny), list(SENTENCES[:4]), size
    measured = bench.search(size) | bench.answers(tiny, *given)
    assert set(bench.TARGETS) <= set(measured)
    assert measured["same_f1"]
    assert measured["same_ids"]
    assert measured["open"] == 2
    assert measured["respond_over_generate"] > 0
    out = capsys.readouterr().out
    assert "2 of the prompts meet the condition" in out

    respond = conditional.respond

    def other(lm, prompts, steering, **settings):
        return respond(lm, list(prompts)[::-1], steering, **settings)

    monkeypatch.setattr(conditional, "respond", other)
    assert not bench.answers(tiny, *given)["same_ids"]
