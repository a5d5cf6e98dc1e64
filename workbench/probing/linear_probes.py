"""Linear probes, judged on texts that did not make them: cross-validation by groups, on arrays.

A probe is fitted on the texts of all folds but one and judged on that one. Whole groups of texts
are dealt to folds, so that what two texts share (a prompt, a pair's story) is never both learned
and asked. Beside the labels stand labels that were shuffled (Hewitt & Liang 2019,
https://arxiv.org/abs/1909.03368): accuracy less that of the shuffled is the probe's selectivity.
They are shuffled within the same folds, whose classes stay as large as they are, so that nothing
but the labels' place differs.
Their control gives each *type* of word a label at random, which a strong probe can learn by heart
and repeat on held-out words of the same type. Here texts are shuffled, and a held-out text is of no
type that was seen: so the control lies near chance unless texts leak between folds, and selectivity
says how far above that the probe reads, not how much it could learn by heart.
Knows nothing of models.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from workbench.extraction.layer_scores import share_interval
from workbench.probing.shuffled_labels import Bools, Ints, labelings
from workbench.statistics.intervals import Floats, Interval, bootstrap_mean, percentiles, resamples

#: The inverse strengths of the L2 penalty that a logistic probe chooses from, strongest first.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: Folds of the training texts that choose the strength.
INNER = 3
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Linear:
    """A score w·x + b of vectors x (D,), above 0 for the positive class; in the units of x."""

    weights: Floats
    bias: float

    def scores(self, values: Floats) -> Floats:
        """(N,) of values (N, D)."""
        return values @ self.weights + self.bias


Fit = Callable[[Floats, Bools, Ints, int], Linear]


def logistic_probe(values: Floats, labels: Bools, groups: Ints, seed: int) -> Linear:
    """Logistic regression on standardised features (N, D), L2 penalty. Its strength is the one of
    `STRENGTHS` under which folds of these same texts, held out by groups, are most likely (the
    stronger of equals); standardised anew for each.

    Raises ValueError for groups that cannot be dealt to folds with both classes.
    """
    costs = np.zeros(len(STRENGTHS))
    for train, test in splits(deal(groups, labels, INNER, seed)):
        for index, each in enumerate(_path(values[train], labels[train], STRENGTHS)):
            costs[index] += log_loss(labels[test], _sigmoid(each.scores(values[test])))
    best = STRENGTHS[int(np.argmin(costs))]
    return next(_path(values, labels, [best]))


def lda_probe(values: Floats, labels: Bools, groups: Ints, seed: int) -> Linear:
    """Linear discriminant analysis of standardised features (N, D): w = Σ⁻¹ (μ+ - μ-), Σ the mean
    covariance within the classes, each shrunk as Ledoit and Wolf (2004,
    https://doi.org/10.1016/S0047-259X(03)00096-4) say. There is nothing to choose; it solves D
    equations, which takes long for a stream thousands wide."""
    scaler = StandardScaler().fit(values)
    samples = scaler.transform(values)
    found = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(samples, labels)
    if not np.any(found.coef_):
        # No text differs from another of its class: of Σ = 0 the shrunk is a multiple of 1.
        up, down = samples[labels].mean(axis=0), samples[~labels].mean(axis=0)
        found.coef_, found.intercept_ = (up - down)[None], np.array([(down @ down - up @ up) / 2])
    return _unscaled(found, scaler)


KINDS: Mapping[str, Fit] = {"logistic": logistic_probe, "lda": lda_probe}


def deal(groups: Ints, labels: Bools, folds: int, seed: int) -> Ints:
    """(N,) the fold of every text: whole groups, and of each class about as many in each fold.

    Raises ValueError where a fold would be without a class, be it that a class has fewer groups
    than there are folds, or that large groups leave too little for the others.
    """
    fewest = min(len(np.unique(groups[labels == side])) for side in (True, False))
    found = np.full(len(labels), -1)
    if fewest >= folds:
        dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # Fewer texts of a class than folds is asked below, fold by fold.
            warnings.simplefilter("ignore", UserWarning)
            for fold, (_, held) in enumerate(dealer.split(labels, labels, groups)):
                found[held] = fold
    for fold in range(folds):
        if len(set(labels[found == fold].tolist())) < 2:
            raise ValueError(
                f"{folds} folds of {len(np.unique(groups))} groups (of the class with fewer: "
                f"{fewest}) leave one without texts of both classes: give fewer folds, smaller "
                "groups, or more texts"
            )
    return found


def splits(fold: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Of every fold the numbers of the texts outside of it and inside."""
    for each in np.unique(fold):
        yield np.flatnonzero(fold != each), np.flatnonzero(fold == each)


def check_dealt(
    kind: str, labels: Bools, groups: Ints, *, folds: int, shuffles: int, seed: int
) -> None:
    """Raise ValueError where `judge` could not deal its folds, or those within a training set."""
    fold = deal(groups, labels, folds, seed)
    for each in labelings(labels, groups, fold, shuffles, seed):
        for train, _ in splits(fold):
            if KINDS[kind] is logistic_probe:
                deal(groups[train], each[train], INNER, seed)


def held_out_scores(
    kind: str, values: Floats, labels: Bools, groups: Ints, fold: Ints, seed: int
) -> Floats:
    """(N,) each text's score by the probe that its fold had no part in. Raises as the probe."""
    scores = np.empty(len(labels))
    for train, test in splits(fold):
        made = KINDS[kind](values[train], labels[train], groups[train], seed)
        scores[test] = made.scores(values[test])
    return scores


def judge(
    kind: str,
    values: Floats,
    labels: Bools,
    groups: Ints,
    *,
    folds: int,
    shuffles: int,
    seed: int,
    beside: Mapping[str, Bools] | None = None,
) -> dict[str, float]:
    """What a probe of values (N, D) tells of held-out texts, as `probes.probe` lists it.

    beside  name -> which texts (N,) something else tells rightly, of the same folds: its accuracy
            by that name, and how far beyond it the probe's is

    Raises ValueError as `deal` and the probe.
    """
    fold = deal(groups, labels, folds, seed)
    scores = held_out_scores(kind, values, labels, groups, fold, seed)
    right = ((scores > 0) == labels).astype(float)
    controls, areas = [], []
    _, *others = labelings(labels, groups, fold, shuffles, seed)
    for other in others:
        found = held_out_scores(kind, values, other, groups, fold, seed)
        controls.append((found > 0) == other)
        areas.append(area(found, other, fold))
    control = np.mean(controls, axis=0)
    accuracy = bootstrap_mean(right, groups, bounds=(0, 1), seed=seed)
    ranked = auc(scores, labels, fold, groups, seed=seed)
    gain = bootstrap_mean(right - control, groups, bounds=(-1, 1), seed=seed)
    each = [float(some.mean()) for some in controls]
    compared = {}
    for name, told in (beside or {}).items():
        mean = bootstrap_mean(told.astype(float), groups, bounds=(0, 1), seed=seed)
        more = bootstrap_mean(right - told, groups, bounds=(-1, 1), seed=seed)
        compared |= {**_ends(name, mean), **_ends(f"beyond_{name}", more)}
    return {
        "chance": float(max(labels.mean(), 1 - labels.mean())),
        **_ends("accuracy", accuracy),
        **_ends("auc", ranked),
        **_ends("control", Interval(float(np.mean(each)), min(each), max(each), shuffles)),
        "control_auc": float(np.mean(areas)),
        **_ends("selectivity", gain),
        **compared,
    }


def area(scores: Floats, labels: Bools, fold: Ints) -> float:
    """The chance that a positive text scores above a negative one of the same fold, ties half:
    scores of two folds are of two probes, and no scale is common to them."""
    return float(_area(scores, labels, fold, np.ones((1, len(labels))))[0])


def auc(scores: Floats, labels: Bools, fold: Ints, groups: Ints, *, seed: int = 0) -> Interval:
    """`area` with its 95 % interval, whole groups resampled; where it is 0 or 1, which leaves the
    bootstrap without width, Wilson's of as many groups."""
    code = np.unique(groups, return_inverse=True)[1]
    count = int(code.max()) + 1
    value = area(scores, labels, fold)
    if value in (0.0, 1.0):
        return Interval(value, *share_interval(value, count), count)
    weights = resamples(count, _RESAMPLES, np.random.default_rng(seed))[:, code]
    drawn = _area(scores, labels, fold, weights)
    low, high = percentiles(drawn[np.isfinite(drawn)], 0.95)
    return Interval(value, float(low), float(high), count)


def _area(scores: Floats, labels: Bools, fold: Ints, weights: Floats) -> Floats:
    """(R,) of weights (R, N): how often each text counts."""
    above, all_pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for each in np.unique(fold):
        up = np.flatnonzero((fold == each) & labels)
        down = np.flatnonzero((fold == each) & ~labels)
        gaps = scores[up][:, None] - scores[down]
        wins = (np.sign(gaps) + 1) / 2  # (n+, n-)
        above += ((weights[:, up] @ wins) * weights[:, down]).sum(axis=1)
        all_pairs += weights[:, up].sum(axis=1) * weights[:, down].sum(axis=1)
    with np.errstate(invalid="ignore"):
        return above / all_pairs


def _path(values: Floats, labels: Bools, strengths: list[float] | tuple[float, ...]):
    """A logistic probe for each strength. Where there are more features than texts, the penalised
    weights lie in the space of the texts: they are sought there, which changes nothing but time."""
    scaler = StandardScaler().fit(values)
    samples = scaler.transform(values)
    basis = None
    if samples.shape[1] > len(samples):
        basis = np.linalg.svd(samples, full_matrices=False)[2]  # (N, D)
        samples = samples @ basis.T
    for strength in strengths:
        found = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=1000)
        yield _unscaled(found.fit(samples, labels), scaler, basis)


def _unscaled(
    found: LogisticRegression | LinearDiscriminantAnalysis,
    scaler: StandardScaler,
    basis: Floats | None = None,
) -> Linear:
    """The same score as a function of what was not yet standardised."""
    own = np.asarray(found.coef_)[0]
    weights = (own if basis is None else own @ basis) / np.asarray(scaler.scale_)
    bias = float(np.asarray(found.intercept_)[0] - weights @ np.asarray(scaler.mean_))
    return Linear(weights, bias)


def _sigmoid(scores: Floats) -> Floats:
    return (1 + np.tanh(scores / 2)) / 2


def _ends(name: str, found: Interval) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
