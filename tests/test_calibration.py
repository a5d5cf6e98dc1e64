"""Thresholds that ordinary text passes as often as they say, by token and by document."""

import numpy as np
import pytest

from workbench.geometry.calibration import Calibration, document_means


def text(documents: int, tokens: int = 30, seed: int = 0, spread: float = 1.0) -> tuple:
    """Distances of documents that differ as wholes."""
    rng = np.random.default_rng(seed)
    own = rng.gamma(8, 0.1, size=documents) * spread
    values = own[:, None] + rng.gamma(2, 0.3, size=(documents, tokens))
    return values.reshape(-1), np.repeat(np.arange(documents), tokens)


def test_a_token_threshold_is_the_quantile() -> None:
    found = Calibration(*text(100))
    for level in (0.5, 0.95):
        assert np.mean(found.distances > found.threshold(level)) == pytest.approx(
            1 - level, abs=1e-3
        )


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_new_documents_pass_as_often_as_said(level: float) -> None:
    """On average over calibrations: a conformal rank's guarantee, and no looser than it must be."""
    shares = []
    for seed in range(60):
        found = Calibration(*text(40, 10, seed=2 * seed))
        values, documents = text(60, 10, seed=2 * seed + 1)
        shares.append(found.false_alarms(values, documents, level, "document").value)
    error = np.std(shares) / np.sqrt(len(shares))
    expected = 1 - int(np.ceil(41 * level - 1e-9)) / 41
    assert abs(np.mean(shares) - expected) < 3 * error
    assert np.mean(shares) < 1 - level + 3 * error


def test_the_interval_is_over_documents() -> None:
    """Tokens of a document are alike: an interval over tokens would be far too narrow."""
    found = Calibration(*text(60))
    values, documents = text(60, seed=1)
    by_document = found.false_alarms(values, documents, 0.9)
    by_token = found.false_alarms(values, np.arange(len(values)), 0.9)
    assert by_document.count == 60
    assert by_document.high - by_document.low > 1.3 * (by_token.high - by_token.low)


def test_ranks_run_from_none_to_all() -> None:
    found = Calibration(np.arange(10.0), np.repeat([3, 8], 5))
    assert found.rank([-1.0, 4.5, 99.0]).tolist() == [0.0, 0.5, 1.0]
    assert found.texts == 2
    assert found.rank([2.5], "document").tolist() == [0.5]
    assert document_means(found.distances, found.documents).tolist() == [2.0, 7.0]


def test_too_few_documents_cannot_tell_a_level() -> None:
    found = Calibration(*text(18))
    with pytest.raises(ValueError, match=r"18 documents cannot tell .* give at least 19"):
        found.threshold(0.95, "document")
    assert Calibration(*text(19)).threshold(0.95, "document") > 0


def test_bad_input_is_refused() -> None:
    found = Calibration(*text(30))
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match="share between 0 and 1"):
            found.threshold(level)
    with pytest.raises(ValueError, match="'word' is not"):
        found.threshold(0.9, "word")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one token at least"):
        Calibration(np.zeros(0), np.zeros(0, int))
    with pytest.raises(ValueError, match="finite"):
        Calibration(np.array([1.0, np.nan]), np.zeros(2, int))
    with pytest.raises(ValueError, match="one of each"):
        Calibration(np.zeros(3), np.zeros(2, int))
