"""Cross-validated linear probes on arrays: what they must reach, and what must not leak."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from workbench.probing import linear_probes as lp
from workbench.probing.shuffled_labels import shuffled


def planted(count: int, width: int, gap: float, seed: int, share: float = 0.5):
    """Values whose classes lie `gap` standard deviations apart in a random direction, each text a
    group of its own, with features of very different sizes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) < share * count)
    along = rng.normal(size=width)
    values = rng.normal(size=(count, width)) + np.outer(labels * gap, along / np.linalg.norm(along))
    return values * np.geomspace(0.01, 1000, width), labels, np.arange(count)


@pytest.mark.parametrize("kind", ["logistic", "lda"])
@pytest.mark.parametrize("width", [12, 80])  # fewer and more features than the training texts
def test_scores_are_those_of_scikit_learn_written_plainly(kind, width):
    values, labels, _ = planted(60, width, 2.0, seed=1)
    groups = np.repeat(np.arange(30), 2)
    expected, areas, pairs = np.empty(60), [], []
    for train, test in StratifiedGroupKFold(4, shuffle=True, random_state=5).split(
        values, labels, groups
    ):
        if kind == "lda":
            search = make_pipeline(
                StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
            ).fit(values[train], labels[train])
        else:
            probe = LogisticRegression(solver="newton-cholesky", max_iter=1000, tol=1e-8)
            search = GridSearchCV(
                make_pipeline(StandardScaler(), probe),
                {"logisticregression__C": list(lp.STRENGTHS)},
                scoring="neg_log_loss",
                cv=StratifiedGroupKFold(3, shuffle=True, random_state=5),
            ).fit(values[train], labels[train], groups=groups[train])
        expected[test] = search.decision_function(values[test])
        areas.append(roc_auc_score(labels[test], expected[test]))
        pairs.append(labels[test].sum() * (~labels[test]).sum())
    fold = lp.deal(groups, labels, 4, 5)
    found = lp.held_out_scores(kind, values, labels, groups, fold, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    told = lp.judge(kind, values, labels, groups, folds=4, shuffles=1, seed=5)
    assert told["accuracy"] == np.mean((expected > 0) == labels)
    assert told["auc"] == pytest.approx(np.average(areas, weights=pairs), abs=1e-12)
    assert told["auc_low"] < told["auc"] < told["auc_high"]


@pytest.mark.parametrize("kind", ["logistic", "lda"])
def test_a_planted_signal_is_read_as_well_as_it_can_be(kind):
    """Classes two standard deviations apart: no probe tells more than Φ(1) = 84.1 % of texts."""
    count = 400
    values, labels, groups = planted(count, 6, 2.0, seed=2)
    told = lp.judge(kind, values, labels, groups, folds=5, shuffles=1, seed=0)
    best = 0.5 + math.erf(1 / math.sqrt(2)) / 2
    low, high = binom.interval(0.999, count, best)
    assert low - 0.02 * count <= told["accuracy"] * count <= high
    assert told["accuracy_low"] < best < told["accuracy_high"]
    # AUC of two normal distributions is Φ(d' / √2).
    assert told["auc_low"] < 0.5 + math.erf(1) / 2 < told["auc_high"]
    assert told["selectivity"] == pytest.approx(told["accuracy"] - told["control"])
    assert told["selectivity_low"] < best - 0.5 < told["selectivity_high"]


def test_chance_is_the_larger_class_and_shuffled_labels_reach_no_more():
    values, labels, groups = planted(200, 6, 0.0, seed=3, share=0.25)
    told = lp.judge("logistic", values, labels, groups, folds=5, shuffles=2, seed=0)
    assert told["chance"] == 0.75
    assert told["accuracy"] == pytest.approx(0.75, abs=0.02)
    assert told["control"] == pytest.approx(0.75, abs=0.02)
    assert told["auc_low"] < 0.5 < told["auc_high"]


def test_shuffled_labels_are_at_chance():
    """Of 40 seeds: strong signals, pairs kept together; a shuffled pair is right or wrong twice."""
    right, pairs = 0.0, 30
    for seed in range(40):
        values, _, _ = planted(2 * pairs, 8, 0.0, seed)
        labels, groups = np.tile([True, False], pairs), np.repeat(np.arange(pairs), 2)
        values[labels] += 4 * values.std(axis=0)
        told = lp.judge("lda", values, labels, groups, folds=3, shuffles=1, seed=seed)
        assert told["accuracy"] > 0.95
        right += told["control"] * pairs
    low, high = binom.interval(0.999, 40 * pairs, 0.5)
    assert low <= right <= high


def test_what_a_group_shares_does_not_leak():
    """Each group of four has a place of its own and one class, which says nothing of others."""
    rng = np.random.default_rng(4)
    groups = np.repeat(np.arange(60), 4)
    labels = rng.permutation(np.arange(60) < 30)[groups]
    values = 10 * rng.normal(size=(60, 64))[groups] + rng.normal(size=(240, 64))
    held = lp.judge("lda", values, labels, groups, folds=5, shuffles=2, seed=0)
    apart = lp.judge("lda", values, labels, np.arange(240), folds=5, shuffles=1, seed=0)
    assert apart["accuracy"] > 0.9
    # Sixty groups are the independent units: right by coin.
    low, high = binom.interval(0.999, 60, 0.5)
    assert low <= held["accuracy"] * 60 <= high
    assert held["accuracy_low"] < 0.5 < held["accuracy_high"]
    for fold in (lp.deal(groups, labels, 5, seed) for seed in range(5)):
        assert all(len(set(fold[groups == each])) == 1 for each in range(60))


def test_shuffled_labels_keep_the_classes_of_every_fold_and_group():
    """Of groups of one class and unequal sizes, too: 2 + 1 positive texts may become 3."""
    groups = np.array([0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 5, 5, 6, 7, 8, 8])
    labels = np.array([1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1], dtype=bool)
    fold = (groups > 5).astype(int)
    seen = set()
    for seed in range(300):
        found = shuffled(labels, groups, fold, np.random.default_rng(seed))
        seen.add(tuple(found.tolist()))
        for each in (0, 1):
            assert found[fold == each].sum() == labels[fold == each].sum()
        for mixed in (0, 5):
            assert found[groups == mixed].sum() == 1
        assert all(len(set(found[groups == each])) == 1 for each in (1, 2, 3, 4, 6, 7, 8))
    # In the first fold one group alone is as large as the positive one, in the second 1 and 1
    # exchange: times the places of both mixed groups' positive texts.
    assert len(seen) == 2 * 3 * 2
    # Where one order in many keeps the sizes, groups of one size still exchange theirs.
    sizes = np.array([1, 1, *2 ** np.arange(1, 13)])
    groups, own = np.repeat(np.arange(14), sizes), np.arange(14) % 2 == 1
    drawn = [
        shuffled(own[groups], groups, 0 * groups, np.random.default_rng(seed)) for seed in range(20)
    ]
    assert {int(each.sum()) for each in drawn} == {int(own[groups].sum())}
    assert len({tuple(each.tolist()) for each in drawn}) > 1


def test_a_control_has_the_folds_of_what_it_stands_beside(monkeypatch):
    values, _, _ = planted(60, 4, 0.0, seed=7)
    groups = np.repeat(np.arange(24), [1, 4] * 12)
    labels = np.isin(groups % 4, (0, 3))
    seen, real = [], lp.held_out_scores

    def noted(kind, values, labels, groups, fold, seed):
        seen.append([tuple(np.bincount(labels[fold == each], minlength=2)) for each in range(4)])
        return real(kind, values, labels, groups, fold, seed)

    monkeypatch.setattr(lp, "held_out_scores", noted)
    lp.judge("lda", values, labels, groups, folds=4, shuffles=6, seed=0)
    assert len(seen) == 7
    assert len({tuple(each) for each in seen}) == 1


def test_the_penalty_is_chosen_without_the_held_out_texts(monkeypatch):
    """Each probe is fitted, for good or to choose its penalty, on texts of other folds alone."""
    values, labels, groups = planted(40, 5, 1.0, seed=6)
    values[:, 0] = np.arange(40)  # which text it is
    fold = lp.deal(groups, labels, 4, 0)
    real, used = lp._path, []
    monkeypatch.setattr(
        lp, "_path", lambda v, y, c: (used.append(set(v[:, 0].astype(int))), real(v, y, c))[1]
    )
    lp.held_out_scores("logistic", values, labels, groups, fold, 0)
    assert len(used) == 4 * (lp.INNER + 1)
    for number, rows in enumerate(used):
        held = set(np.flatnonzero(fold == number // (lp.INNER + 1)))
        assert not rows & held
        assert len(rows) == 30 or number % (lp.INNER + 1) < lp.INNER


def test_equal_scores_are_half_right_and_perfect_ones_keep_an_interval():
    labels, groups = np.tile([True, False], 10), np.repeat(np.arange(10), 2)
    fold = np.repeat(np.arange(2), 10)
    assert lp.area(np.zeros(20), labels, fold) == 0.5
    # Only texts of one fold are compared: another scale in the other fold changes nothing.
    perfect = lp.auc(labels + 100.0 * fold, labels, fold, groups)
    assert perfect.value == perfect.high == 1
    assert 0.6 < perfect.low < 0.8  # Wilson's of 10 of 10: 72 %


def test_texts_that_are_alike_within_their_class_are_told_apart():
    labels, groups = np.tile([True, False], 10), np.arange(20)
    values = np.where(labels[:, None], [1.0, 2.0, 5.0], [0.0, 3.0, 5.0])
    for kind in lp.KINDS:
        told = lp.judge(kind, values, labels, groups, folds=2, shuffles=1, seed=0)
        assert told["accuracy"] == told["auc"] == 1
    nothing = lp.judge("lda", 0 * values, labels, groups, folds=2, shuffles=1, seed=0)
    assert nothing["accuracy"] == nothing["auc"] == 0.5


def test_folds_without_a_class_are_refused():
    groups, labels = np.repeat(np.arange(6), 2), np.repeat([True, True, False] * 2, 2)
    with pytest.raises(ValueError, match=r"3 folds of 6 groups .*fewer: 2\) leave one without"):
        lp.deal(groups, labels, 3, 0)
    assert set(lp.deal(groups, labels, 2, 0)) == {0, 1}
