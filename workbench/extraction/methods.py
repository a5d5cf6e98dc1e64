"""How a direction is found: functions (positive (n, D), negative (n, D)) -> direction (D,).

Row i of both tensors belongs to pair i. Each direction has unit length and points from negative
to positive. This module knows nothing of models, layers or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from torch import Tensor

Method = Callable[[Tensor, Tensor], Tensor]


def mean_difference(positive: Tensor, negative: Tensor) -> Tensor:
    """mean(positive) - mean(negative), scaled to unit length.

    Contrastive activation addition, Rimsky et al. 2023, https://arxiv.org/abs/2312.06681.
    Raises ValueError when the means are equal.
    """
    _require_difference(positive, negative, "difference of means")
    return _unit(positive.double().mean(0) - negative.double().mean(0), "difference of means")


def pca_diff(positive: Tensor, negative: Tensor) -> Tensor:
    """First principal component of the pair differences, as repeng's `pca_diff`.

    PCA centres its data, so the mean difference is taken out first: what is left is how the
    differences vary. Representation engineering, Zou et al. 2023, https://arxiv.org/abs/2310.01405.
    Raises ValueError for one pair, and when the differences vary by no more than the rounding of
    a forward pass.
    """
    _require_difference(positive, negative, "principal component")
    if len(positive) < 2:
        raise ValueError(f"a principal component needs at least 2 pairs, got {len(positive)}")
    differences = positive.double() - negative.double()
    if not float((differences - differences.mean(0)).abs().max()) > _rounding(positive, negative):
        raise ValueError("all pair differences are equal, so they have no principal component")
    return _principal("pca_diff", positive, negative)


def pca_center(positive: Tensor, negative: Tensor) -> Tensor:
    """First principal component of both sides, each less its pair's midpoint: repeng's
    `pca_center`, which is the `pca_pairwise` of conditional activation steering (`CAST_METHODS`).
    """
    return _principal("pca_center", positive, negative)


def pca_global(positive: Tensor, negative: Tensor) -> Tensor:
    """First principal component of both sides together, each less the mean of all: where texts
    differ most, be it by their side or by anything else.

    The `pca_center` of conditional activation steering (`CAST_METHODS`).
    """
    return _principal("pca_global", positive, negative)


def logistic(positive: Tensor, negative: Tensor) -> Tensor:
    """Weights of a logistic probe (L2 penalty, C = 1) on the centred activations.

    One scale for all dimensions makes the penalty independent of the model's units and keeps the
    probe blind to rotations of the residual stream.
    """
    _require_difference(positive, negative, "logistic probe")
    samples, labels = _labelled(positive, negative)
    samples = samples / max(float(np.sqrt((samples**2).sum(1).mean())), 1e-30)
    probe = LogisticRegression(C=1.0, max_iter=2000).fit(samples, labels)
    direction = _unit(torch.from_numpy(probe.coef_[0]), "logistic probe")
    return oriented(direction, positive.double(), negative.double())


def lda(positive: Tensor, negative: Tensor) -> Tensor:
    """Weights of linear discriminant analysis with Ledoit-Wolf shrinkage of the covariance."""
    _require_difference(positive, negative, "discriminant")
    samples, labels = _labelled(positive, negative)
    scale = max(float(np.abs(samples).max()), 1e-30)
    probe = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(samples / scale, labels)
    direction = _unit(torch.from_numpy(probe.coef_[0]), "LDA")
    return oriented(direction, positive.double(), negative.double())


METHODS: Mapping[str, Method] = {
    method.__name__: method
    for method in (mean_difference, pca_diff, pca_center, pca_global, logistic, lda)
}

#: What the library of conditional activation steering calls a method -> what it is called here,
#: where names are repeng's. Lee et al. 2024, https://arxiv.org/abs/2409.05907.
CAST_METHODS: Mapping[str, str] = {
    "pca_pairwise": "pca_center",
    "pca_center": "pca_global",
    "pca_diff": "pca_diff",
}

# What each of the PCA methods decomposes: (n, D) or (2n, D).
_SAMPLES: Mapping[str, Method] = {
    "pca_diff": lambda positive, negative: positive - negative,
    "pca_center": lambda positive, negative: (
        torch.cat([positive - negative, negative - positive]) / 2
    ),
    "pca_global": lambda positive, negative: torch.cat([positive, negative]),
}


def explained_variance(
    method: str, direction: Tensor, positive: Tensor, negative: Tensor
) -> float | None:
    """The share of the variance of what a PCA method decomposes that lies along its direction (D,),
    its first component's explained variance ratio; None for a method that is no PCA."""
    if method not in _SAMPLES:
        return None
    samples = _SAMPLES[method](positive.double(), negative.double())
    samples = samples - samples.mean(0)
    along = samples @ (direction.double() / direction.double().norm())
    return float(along.square().sum() / samples.square().sum())


def oriented(direction: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """The direction (D,) with repeng's sign: turned round when more of the positives (n, D) project
    lower than their negatives than higher; ties stay."""
    gaps = (positive - negative) @ direction
    return -direction if int((gaps < 0).sum()) > int((gaps > 0).sum()) else direction


def _require_difference(positive: Tensor, negative: Tensor, what: str) -> None:
    """Refuse sides that differ by no more than the rounding of a forward pass."""
    if not float((positive - negative).abs().max()) > _rounding(positive, negative):
        raise ValueError(
            f"no {what}: at these positions the two sides of the pairs are the same to the model; "
            "read other positions, such as the last token"
        )


def _rounding(positive: Tensor, negative: Tensor) -> float:
    """How far apart two activations of these sizes may come out that are the same."""
    return 1e-6 * float(torch.maximum(positive.abs().max(), negative.abs().max()))


def _principal(method: str, positive: Tensor, negative: Tensor) -> Tensor:
    """First principal component (D,) of what a PCA method decomposes."""
    _require_difference(positive, negative, "principal component")
    positive, negative = positive.double(), negative.double()
    # The full solver: scikit-learn's own choice would be a randomised one for wide models.
    fitted = PCA(n_components=1, svd_solver="full").fit(
        _SAMPLES[method](positive, negative).numpy()
    )
    return oriented(torch.from_numpy(np.asarray(fitted.components_)[0]), positive, negative)


def _labelled(positive: Tensor, negative: Tensor) -> tuple[np.ndarray, np.ndarray]:
    samples = torch.cat([positive, negative]).double()
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return (samples - samples.mean(0)).numpy(), labels


def _unit(direction: Tensor, what: str) -> Tensor:
    length = float(direction.norm())
    if not length > 0 or not np.isfinite(length):
        raise ValueError(f"the {what} has length {length}, so it names no direction")
    return direction / length
