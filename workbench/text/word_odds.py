"""What the words of a text say of its class, whatever their order. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

_WORD = r"\w+"


def word_odds(
    making: Sequence[str], labels: NDArray[np.bool_], texts: Sequence[str]
) -> NDArray[np.float64]:
    """(N,) log-odds of the positive class of texts, by a logistic regression on counts of words
    (lower case, L2 penalty, C = 1) that the making texts and their labels (M,) fitted. Texts
    without a word are all alike to it. Raises ValueError for labels of one class."""
    counts = CountVectorizer(token_pattern=_WORD)
    say = counts.build_analyzer()
    if any(say(text) for text in making):
        known, asked = counts.fit_transform(making), counts.transform(texts)
    else:
        known, asked = np.zeros((len(making), 1)), np.zeros((len(texts), 1))
    found = LogisticRegression(max_iter=2000).fit(known, labels)
    return np.asarray(found.decision_function(asked), dtype=np.float64)
