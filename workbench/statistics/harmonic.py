"""Trait and coherence of a text as one number, where both are known exactly or by a judge.

    score = (shown + 1) / 2          0 where the text shows the trait neither way
    harmonic = 2 score coherence / (score + coherence)

The harmonic mean is that of the published tables: a text is worth nothing that either lacks the
trait or has fallen apart. Knows nothing of how texts came about.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

OUTCOMES = ("score", "coherence", "harmonic")


def scored(texts: pd.DataFrame) -> pd.DataFrame:
    """The texts with `score`, `coherence` and `harmonic`, each 0 to 1.

    texts  columns `shown`, -1 to 1, how far each shows the trait (NaN: it shows it neither way,
           which broken texts do), and `coherence`, 0 to 1 (NaN: not known, and so is `harmonic`)

    Raises ValueError for a value off its scale.
    """
    for column, least in (("shown", -1), ("coherence", 0)):
        wrong = texts.loc[~(texts[column].isna() | texts[column].between(least, 1)), column]
        if len(wrong):
            raise ValueError(f"{column} {wrong.iloc[0]!r}: give values from {least} to 1")
    score = ((texts["shown"] + 1) / 2).fillna(0.0)
    coherence = texts["coherence"]
    both = score + coherence
    harmonic = (2 * score * coherence / both.where(both != 0)).mask(both == 0, 0.0)
    return texts.assign(score=score, harmonic=harmonic.astype(np.float64))
