"""Text classifiers as judges: the probability of a label, such as a formality or safety model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from workbench.judges import Written


def classifier(
    model: Any, label: str, *, device: str | None = None
) -> Callable[[Sequence[Written]], pd.DataFrame]:
    """A judge of texts for `results.judge_again`: `probability` of a label of a model that
    classifies texts, such as "s-nlp/xlmr_formality_classifier" and "formal".

    model  a path or hub id, or a text-classification pipeline of transformers

    What a model has no room for is cut from a text's end; a text that says nothing is in no class,
    and gets NaN. Raises ValueError for a label that the
    model does not have, and OSError for a model that is not there.
    """
    if isinstance(model, str):
        from transformers import pipeline

        model = pipeline("text-classification", model=model, device=device)
    known = list(model.model.config.label2id)
    if label not in known:
        raise ValueError(f"label {label!r} is not one of the model's: {', '.join(known)}")

    def judge(written: Sequence[Written]) -> pd.DataFrame:
        texts = list(dict.fromkeys(each.text for each in written if each.text.strip()))
        asked = model(texts, top_k=None, truncation=True) if texts else []
        found = {
            text: next(each["score"] for each in scores if each["label"] == label)
            for text, scores in zip(texts, asked, strict=True)
        }
        return pd.DataFrame(
            {"probability": [found.get(each.text) for each in written]}, dtype=float
        )

    return judge
