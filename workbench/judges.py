"""Judges: what a text is worth, as columns of a frame.

A judge is a callable `(texts, prompts, trait) -> DataFrame` with one row per text. It is given
completions, the prompts that they continue, and the name of the trait that was steered. Called
with empty lists it returns an empty frame with its columns, or raises for a trait that it cannot
judge: that is how a sweep asks before any work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pandas as pd

Judge: TypeAlias = Callable[[Sequence[str], Sequence[str], str], pd.DataFrame]


def exact(texts: Sequence[str], prompts: Sequence[str], trait: str) -> pd.DataFrame:
    """The facts about texts in wren's language, from its grammar.

    coherence  share of words in good sentences, 0 to 1
    trait      how far the text shows `trait`, -1 to 1
    fit        share of what the prompt asks for that the text shows; NaN where it asks nothing

    Raises ValueError for a trait that the language does not have.
    """
    from workbench import wren
    from workbench.wren.judge import SCORES

    if len(texts) != len(prompts):
        raise ValueError(f"{len(texts)} texts for {len(prompts)} prompts; give one for each")
    if trait not in SCORES:
        raise ValueError(
            f"trait {trait!r} cannot be judged in wren's language; choose one of "
            f"{', '.join(SCORES)}"
        )
    # Small coefficients often give the same text: each is parsed once.
    coherence = {text: wren.coherence(text) for text in dict.fromkeys(texts)}
    shown = {text: wren.trait(text, trait) for text in coherence}
    fits = {
        (prompt, text): wren.fit(prompt, text).share
        for prompt, text in dict.fromkeys(zip(prompts, texts, strict=True))
    }
    return pd.DataFrame(
        {
            "coherence": [coherence[text] for text in texts],
            "trait": [shown[text] for text in texts],
            "fit": [fits[key] for key in zip(prompts, texts, strict=True)],
        },
        dtype=float,
    )
