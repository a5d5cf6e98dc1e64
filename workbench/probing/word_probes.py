"""What words and length alone tell of a text's class: the baseline of a probe.

A probe of the stream at a token can know only what stands up to there, so that is what the baseline
reads, of the same texts, in the same folds. A probe that reads no better may have found no more
than a word. Knows no streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from workbench.probing.linear_probes import Bools, Ints, splits
from workbench.text.completions import decode_completions
from workbench.text.tokens import Batch
from workbench.text.word_odds import word_odds

if TYPE_CHECKING:
    from workbench.loading.models import LM


def words_so_far(lm: LM, batch: Batch, touched: Tensor) -> tuple[list[str], Ints]:
    """Of every row the text up to the last of the tokens that are touched (B, T), without special
    tokens, and how many tokens that is; of a row without one nothing."""
    after = touched.flip(1).long().cumsum(dim=1).flip(1) > 0  # up to the last one
    read = batch.attention & after
    rows = [ids[own].tolist() for ids, own in zip(batch.ids, read, strict=True)]
    return decode_completions(lm.tokenizer, rows), read.sum(dim=1).numpy()


def told_by_words(
    texts: Sequence[str], tokens: Ints, labels: Bools, fold: Ints
) -> dict[str, Bools]:
    """Whether each held-out text (N,) is told rightly: by a bag of its "words" (`word_odds`), and
    by its "length", a logistic regression on its numbers of characters and of tokens (standardised,
    L2 penalty, C = 1). Each fold is judged by what the others fitted."""
    written = np.array(texts, dtype=object)
    words, length = np.empty(len(labels)), np.empty(len(labels))
    sizes = np.stack([[len(text) for text in texts], tokens], axis=1).astype(float)
    for train, test in splits(fold):
        words[test] = word_odds(written[train].tolist(), labels[train], written[test].tolist())
        by_size: Any = make_pipeline(StandardScaler(), LogisticRegression())
        length[test] = by_size.fit(sizes[train], labels[train]).decision_function(sizes[test])
    return {"words": (words > 0) == labels, "length": (length > 0) == labels}
