"""What is kept of activations that go by, against the whole."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from workbench.forward.streaming import Lengths, Streaming, as_stream

LAYERS = (1, 4)


def tokens(documents: int = 30, seed: int = 0) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Tokens of documents of many lengths: values (n, 2, 6), documents, positions."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 20, size=documents)
    document = np.repeat(np.arange(documents), lengths)
    position = np.concatenate([np.arange(n) for n in lengths])
    return torch.from_numpy(rng.standard_normal((len(document), 2, 6)) + 2), document, position


def streamed(cuts: list[int], *, unit: bool = False, sample: int = 50) -> Streaming:
    values, document, position = tokens()
    made = Streaming(6, LAYERS, folds=3, sample=sample, seed=5, unit=unit)
    edges = [0, *cuts, len(values)]
    for start, stop in pairwise(edges):
        part = slice(start, stop)
        made.add(values[part], document[part], position[part])
    return made


@pytest.mark.parametrize("unit", [False, True])
def test_moments_are_those_of_the_whole_by_document(unit: bool) -> None:
    values, document, _ = tokens()
    whole = as_stream(values, unit).numpy()
    made = streamed([40, 41, 170], unit=unit)
    for index, layer in enumerate(LAYERS):
        for fold in range(3):
            mine = whole[document % 3 == fold, index]
            moments = made.folds[layer][fold]
            assert moments.count == len(mine)
            np.testing.assert_allclose(moments.covariance(), np.cov(mine.T), atol=1e-12)


def test_the_sample_does_not_depend_on_how_the_stream_is_cut() -> None:
    values, document, position = tokens()
    samples = [streamed(cuts).sample() for cuts in ([], [100], [10, 20, 30, 200])]
    for chosen, documents, positions in samples:
        assert len(documents) == 50
        np.testing.assert_array_equal(documents, samples[0][1])
        np.testing.assert_array_equal(positions, samples[0][2])
        for index, layer in enumerate(LAYERS):
            for row in range(50):
                at = (document == documents[row]) & (position == positions[row])
                exact = values[torch.from_numpy(at)][0, index].numpy()
                np.testing.assert_allclose(chosen[layer][row], exact, rtol=1e-6)


def test_the_sample_is_a_draw_from_all() -> None:
    """Early and late documents alike, which a sample of the first tokens would not be."""
    document = tokens()[1]
    _, documents, _ = streamed([60, 150]).sample()
    assert abs(documents.mean() - document.mean()) < 4
    assert len(set(documents)) > 15


def test_fewer_tokens_than_asked_for_are_all_kept() -> None:
    chosen, documents, _ = streamed([7], sample=10_000).sample()
    assert len(documents) == len(tokens()[1]) == len(chosen[1])


def test_unit_streams_have_the_length_of_the_root_of_their_width() -> None:
    values = torch.randn(5, 3, 16)
    np.testing.assert_allclose(as_stream(values, True).norm(dim=-1), 4.0, rtol=1e-6)
    assert as_stream(values, False) is values
    assert torch.equal(as_stream(torch.zeros(2, 4), True), torch.zeros(2, 4))


def test_lengths_by_position_are_geometric_means() -> None:
    found = Lengths(1)
    norms = torch.tensor([[50.0], [1.0], [4.0], [2.0], [8.0]])
    positions = torch.tensor([0, 1, 1, 70, 99])
    kept = torch.tensor([False, True, True, True, True])
    found.add(norms[:2], positions[:2], kept[:2])
    found.add(norms[2:], positions[2:], kept[2:])
    table = found.table([7])
    assert table["position"].tolist() == [0, 1, 63]
    assert table["left_out"].tolist() == [True, False, False]
    assert table["tokens"].tolist() == [1, 2, 2]
    np.testing.assert_allclose(table["norm"], [50, 2, 4])
    np.testing.assert_allclose(table["ratio"], [50 / 8**0.5, 2 / 8**0.5, 4 / 8**0.5])
    np.testing.assert_allclose(table["spread"], [0, np.log(2), np.log(2)])
