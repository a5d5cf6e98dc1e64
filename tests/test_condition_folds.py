"""Directions judged on texts that had no part in them."""

import numpy as np
import pytest

from workbench.conditions import folds

TOPICS = ("theft", "fraud", "soup", "poem", "bread", "puppy")
HARMFUL = ("theft", "fraud")


def streams(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Layer 0 tells every topic apart by itself, layer 1 harm alone, and less cleanly."""
    rng = np.random.default_rng(seed)
    topics = np.repeat(TOPICS, 12)
    harmful = np.isin(topics, HARMFUL)
    found = rng.normal(size=(len(topics), 2, 20))
    found[np.arange(len(topics)), 0, np.unique(topics, return_inverse=True)[1]] += 20
    found[:, 1, 10] += 3 * harmful
    return found, harmful, topics.tolist()


def test_the_layer_that_carries_over_is_not_the_one_that_fits_best() -> None:
    found, harmful, topics = streams()
    whole = folds.cosines(found, folds.directions(found, harmful, "mean_difference"))
    inside = whole[harmful].min(axis=0) - whole[~harmful].max(axis=0)
    assert inside[0] > 0 > inside[1]
    dealt = folds.dealt(topics, harmful).tolist()
    left = folds.out_of_fold(found, harmful, dealt, "mean_difference")
    assert folds.apart(left, harmful, dealt).argmax() == 1


def test_a_fold_has_no_part_in_its_own_direction() -> None:
    found, harmful, topics = streams()
    dealt = folds.dealt(topics, harmful).tolist()
    away = np.array(dealt) == 0
    along = folds.directions(found[~away], harmful[~away])
    expected = folds.cosines(found[away], along)
    changed = found.copy()
    changed[away] *= 2  # cosines know no length
    for given in (found, changed):
        left = folds.out_of_fold(given, harmful, dealt)
        np.testing.assert_allclose(left[away], expected, atol=1e-9)


def test_apart_is_the_mean_over_folds_of_their_own_distance() -> None:
    """Two folds of another offset each: pooled, the classes would overlap."""
    values = np.array([0.0, 2, 4, 6, 100, 102, 104, 106])[:, None]
    labels = np.array([0, 0, 1, 1] * 2, dtype=bool)
    assert folds.apart(values, labels, [0] * 4 + [1] * 4) == pytest.approx(4 / np.sqrt(2))


def test_every_group_is_dealt_once_and_every_fold_has_both_classes() -> None:
    _, harmful, topics = streams()
    dealt = folds.dealt(topics, harmful)
    assert set(dealt) == {0, 1}
    for topic in TOPICS:
        assert len({fold for fold, own in zip(dealt, topics, strict=True) if own == topic}) == 1
    for fold in (0, 1):
        assert set(harmful[dealt == fold]) == {True, False}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y, t: folds.out_of_fold(x, y, t[1:]), r"71 folds for 72 texts"),
        (lambda x, y, t: folds.out_of_fold(x, y, ["one"] * 72), "all texts are of one fold"),
        (lambda x, y, t: folds.out_of_fold(x, y, y.tolist()), "without the fold True one class"),
        (lambda x, y, t: folds.directions(x, y, "guess"), "no method 'guess'; there are"),
        (lambda x, y, t: folds.dealt(["a"] * 72, y), "the group 'a' has texts of both classes"),
        (lambda x, y, t: folds.dealt(y.tolist(), y), "a class has a single group"),
        (lambda x, y, t: folds.apart(x[:, :, 0], y, t), "two texts of each class at least"),
    ],
)
def test_what_cannot_be_dealt_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*streams())


def test_classes_of_unlike_size_weigh_every_text_alike() -> None:
    """The difference of means is that of the means, whatever the sizes."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(5, 1, 4))
    labels = np.array([True, True, False, False, False])
    (along,) = folds.directions(found, labels, "mean_difference")
    expected = found[:2, 0].mean(axis=0) - found[2:, 0].mean(axis=0)
    np.testing.assert_allclose(along / along.norm(), expected / np.linalg.norm(expected), atol=1e-6)


def test_a_gap_without_spread_is_endless_and_none_is_none() -> None:
    values = np.array([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0], [2.0, 1.0]] * 2)
    labels = np.array([False, False, True, True] * 2)
    assert folds.apart(values, labels, [0] * 4 + [1] * 4).tolist() == [np.inf, 0.0]


def test_a_text_of_no_fold_is_refused() -> None:
    found, harmful, topics = streams()
    dealt = [float(each) for each in folds.dealt(topics, harmful)]
    for empty in (float("nan"), None):
        with pytest.raises(ValueError, match="text 3 is of the fold"):
            folds.out_of_fold(found, harmful, [*dealt[:3], empty, *dealt[4:]])
