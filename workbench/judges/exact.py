"""The exact judge of wren's language; for texts in any other it has nothing to say."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workbench.judges.interface import Written


def exact(written: Sequence[Written], trait: str) -> pd.DataFrame:
    """The facts about texts in wren's language, from its grammar.

    coherence  share of words in good sentences, 0 to 1; a last sentence without its stop is
               pardoned only in a text that was cut at the token limit; 0 for an empty text
    trait      how far the text shows `trait`, -1 to 1; 0 for an empty text
    fit        share of what the prompt asks for that the text shows; NaN where it asks nothing

    Raises ValueError for a trait that the language does not have.
    """
    from workbench import wren
    from workbench.wren.judge import SCORES

    if trait not in SCORES:
        raise ValueError(
            f"trait {trait!r} cannot be judged in wren's language; choose one of "
            f"{', '.join(SCORES)}"
        )
    # Small coefficients often give the same text: each is parsed once.
    different = {(c.text, c.finish): c for c in written}
    coherence = {key: wren.coherence(c.text, finish=c.finish) for key, c in different.items()}
    shown = {text: wren.trait(text, trait) for text, _ in different}
    asked = dict.fromkeys((c.prompt, c.text) for c in written)
    fits = {(prompt, text): wren.fit(prompt, text).share for prompt, text in asked}
    return pd.DataFrame(
        {
            "coherence": [coherence[c.text, c.finish] for c in written],
            "trait": [shown[c.text] for c in written],
            "fit": [fits[c.prompt, c.text] for c in written],
        },
        dtype=float,
    )


# Where users find it, which is what provenance says.
exact.__module__ = "workbench.judges"
