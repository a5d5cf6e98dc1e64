"""measures: how much of a text is repetition, against definitions written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.generation.measures import distinct, empty, longest_repeat

TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=9), min_size=1, max_size=5)


def padded(texts: list[list[int]], pad: int = 0) -> tuple[np.ndarray, np.ndarray]:
    width = max(map(len, texts), default=0)
    ids = np.array([text + [pad] * (width - len(text)) for text in texts], dtype=np.int64)
    return ids.reshape(len(texts), width), np.array([len(text) for text in texts])


def plain_distinct(text: list[int], n: int) -> float:
    grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else np.nan


def plain_repeat(text: list[int]) -> int:
    for size in range(len(text) - 1, 0, -1):
        spans = [tuple(text[i : i + size]) for i in range(len(text) - size + 1)]
        if len(set(spans)) < len(spans):
            return size
    return 0


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(1, 3), st.integers(0, 3))
def test_distinct_is_its_definition(texts: list[list[int]], n: int, pad: int) -> None:
    expected = [plain_distinct(text, n) for text in texts]
    np.testing.assert_array_equal(distinct(*padded(texts, pad), n), expected)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(0, 3))
def test_longest_repeat_is_its_definition(texts: list[list[int]], pad: int) -> None:
    expected = [plain_repeat(text) for text in texts]
    longest, start = longest_repeat(*padded(texts, pad))
    np.testing.assert_array_equal(longest, expected)
    for text, size, place in zip(texts, longest, start, strict=True):
        again = text[place : place + size]
        assert len(again) == size
        assert size == 0 or any(text[i : i + size] == again for i in range(place))


def test_a_loop_of_period_p_scores_all_but_its_first_period() -> None:
    ids, lengths = padded([[7] * 20, [1, 2] * 10, [1, 2, 3, 4, 5] * 4, list(range(20))])
    longest, start = longest_repeat(ids, lengths)
    assert longest.tolist() == [19, 18, 15, 0]
    assert start.tolist() == [1, 2, 5, 20]
    assert distinct(ids, lengths, 2).tolist() == [1 / 19, 2 / 19, 5 / 19, 1.0]


def test_large_token_ids_do_not_collide() -> None:
    """Codes of n-grams stay exact for the largest vocabularies."""
    top = 262_143
    ids = np.array([[top, 0, top - 1, top, 1, top]])
    assert distinct(ids, np.array([6]), 3).tolist() == [1.0]
    assert distinct(ids, np.array([6]), 1).tolist() == [4 / 6]


@pytest.mark.parametrize("measure", [lambda i, n: distinct(i, n, 2), longest_repeat])
def test_shapes_and_lengths_are_checked(measure) -> None:
    with pytest.raises(ValueError, match=r"ids have shape \(3,\) and lengths \(1,\)"):
        measure(np.array([1, 2, 3]), np.array([3]))
    with pytest.raises(ValueError, match="lengths run to 4, but rows have 3 tokens"):
        measure(np.array([[1, 2, 3]]), np.array([4]))


def test_n_must_be_positive() -> None:
    with pytest.raises(ValueError, match="n-grams of length 0: give at least 1"):
        distinct(np.array([[1, 2]]), np.array([2]), 0)


def test_empty_texts_are_flagged_and_have_no_measure_of_a_sound_text() -> None:
    assert empty(["", " \n\t", None, float("nan"), "a", " . "]).tolist() == [True] * 4 + [False] * 2
    assert empty([]).shape == (0,)
    ids, lengths = np.array([[5, 5, 5]]), np.array([0])
    assert np.isnan(distinct(ids, lengths, 1)).all()
    assert longest_repeat(ids, lengths)[0].tolist() == [0]
