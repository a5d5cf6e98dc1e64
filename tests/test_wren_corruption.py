"""Coherence falls with every kind of corruption, and tells corrupted texts from clean ones."""

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from corruptions import CORRUPTIONS
from scipy.stats import mannwhitneyu

from workbench.wren import coherence, write

SHARES = (0, 0.1, 0.2, 0.3, 0.5, 0.7)
TEXTS = 300


@pytest.fixture(scope="module")
def stories() -> list[str]:
    """Bodies of stories, plain and asked for."""
    rng = Random(7)
    kinds = ("plain", "story")
    return [write(rng, kind=kinds[i % 2]).completions[0] for i in range(TEXTS)]


@pytest.fixture(scope="module")
def answers() -> list[str]:
    """Open answers and task answers, three to four sentences long."""
    rng = Random(8)
    kinds = ("power", "callous", "task")
    texts = [write(rng, kind=kinds[i % 3]).completions[0] for i in range(2 * TEXTS)]
    return [text for text in texts if text.count(".") > 2][:TEXTS]


def scores(texts: list[str], name: str, share: float) -> np.ndarray:
    rng = Random(f"{name} {share}")
    return np.array([coherence(CORRUPTIONS[name](text, share, rng)) for text in texts])


def area_under_curve(clean: np.ndarray, corrupted: np.ndarray) -> float:
    """Probability that a clean text scores above a corrupted one, ties counted half."""
    statistic = mannwhitneyu(clean, corrupted).statistic
    return float(statistic) / (len(clean) * len(corrupted))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_is_told_from_clean_text(name: str, stories: list[str]) -> None:
    clean = scores(stories, name, 0)
    assert (clean == 1).all()
    assert area_under_curve(clean, scores(stories, name, 0.3)) >= 0.99


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_mean_coherence_falls_with_the_share(name: str, stories: list[str]) -> None:
    means = [float(scores(stories, name, share).mean()) for share in SHARES]
    assert means[0] == 1
    for milder, stronger in pairwise(means):
        # Scattered random words leave no whole sentence long before all words are replaced.
        assert stronger < milder or milder < 1e-3, means


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "swapped entities"])
def test_short_answers_are_told_apart_too(name: str, answers: list[str]) -> None:
    clean = scores(answers, name, 0)
    assert area_under_curve(clean, scores(answers, name, 0.3)) >= 0.99


def test_share_zero_changes_nothing(stories: list[str]) -> None:
    for corrupt in CORRUPTIONS.values():
        assert [corrupt(text, 0, Random(0)) for text in stories] == stories


@pytest.mark.parametrize("word", ["mill", "xyzzy"])
def test_one_foreign_word_spoils_its_sentence_only(word: str) -> None:
    text = write(3, kind="plain", language="en").completions[0]
    first, rest = text.split(". ", 1)
    spoiled = f"{first} {word}. {rest}"
    assert 0.7 < coherence(spoiled) < 1
