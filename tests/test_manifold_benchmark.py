"""The benchmark of streaming: what it streams, and that its comparison can fail."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return benchmark_script("manifold")


def test_arguments(bench) -> None:
    given = bench.arguments().parse_args([])
    assert (given.quick, given.threads, given.width) == (False, 2, 4096)


def test_all_activations_go_by_once(bench) -> None:
    size = bench.Size(5000, 16, 1, block=600)
    parts = list(bench.blocks(size, 5000))
    assert sum(len(values) for values, _, _ in parts) == 5000
    documents = np.concatenate([document for _, document, _ in parts])
    positions = np.concatenate([position for _, _, position in parts])
    assert (documents * bench.DOCUMENT + positions == np.arange(5000)).all()
    made = bench.stream(size, 5000)
    assert sum(part.count for part in made.folds[0]) == 5000


def test_the_comparison_with_numpy_can_fail(bench, monkeypatch) -> None:
    assert bench.same_as_numpy()
    monkeypatch.setattr(bench, "as_stream", lambda values, unit: values)
    assert not bench.same_as_numpy()


def test_a_small_run_measures_everything(bench, capsys) -> None:
    size = bench.Size(1200, 32, 1, block=300, forward=16)
    found = bench.measure(size, whole=True)
    assert found["stream_over_one_block"] > 0
    assert found["stream_over_model"] == found["stream_over_one_block"] / bench.BLOCKS
    assert "fit_memory_mib" in found
    assert "one block" in capsys.readouterr().out


def test_a_block_is_one_of_the_width_asked_for(bench) -> None:
    out = bench.pass_through(bench.block_of(32), 5)
    assert out.shape == (1, 5, 32)
    assert torch.isfinite(out).all()
