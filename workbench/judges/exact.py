"""The exact judge of wren's language; for texts in any other it has nothing to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from workbench.judges.interface import Written

if TYPE_CHECKING:
    from workbench.wren.judge import Assessment


def exact(written: Sequence[Written], trait: str) -> pd.DataFrame:
    """The facts about texts in wren's language, from its grammar.

    coherence  share of words in good sentences, 0 to 1; a last sentence without its stop is
               pardoned only in a text that was cut at the token limit; 0 for an empty text; a
               role marker within is a word that the language lacks; NaN where all of the text is
               the beginning of a sentence, which says nothing yet
    breaks_at  the character from which on the text has fallen apart for good; NaN if it has not
    words      how many words `coherence` rests on
    trait      how far the text shows `trait`, -1 to 1; NaN where no valid sentence shows it either
               way
    fit        share of what the prompt asks for that the text shows; NaN where it asks nothing

    Raises ValueError for a trait that the language does not have, and for none ("").
    """
    from workbench import wren
    from workbench.wren.judge import SCORES, as_completion, breaking_point, evidence_for

    if trait == "":
        raise ValueError(
            "trait '' cannot be judged: no trait was named, by trait= or by what is steered; give "
            f"trait='mood', say, one of {', '.join(SCORES)}. The exact judge knows wren's language "
            "only: for another trait or model take judges.LocalJudge or a hosted one"
        )
    if trait not in SCORES:
        raise ValueError(
            f"trait {trait!r} cannot be judged in wren's language; choose one of "
            f"{', '.join(SCORES)} with trait=. The exact judge reads that language alone: for "
            "other texts give LocalJudge(lm)"
        )
    # Small coefficients often give the same text: each is parsed once.
    texts = {c.text: as_completion(c.text) for c in written}
    different = {(c.text, c.finish): c for c in written}
    found = {key: wren.assess(texts[c.text], finish=c.finish) for key, c in different.items()}
    broken = {key: breaking_point(texts[c.text], finish=c.finish) for key, c in different.items()}
    shown = {text: evidence_for(judged, trait) for text, judged in texts.items()}
    asked = dict.fromkeys((c.prompt, c.text) for c in written)
    fits = {(prompt, text): wren.fit(prompt, texts[text]).share for prompt, text in asked}
    return pd.DataFrame(
        {
            "coherence": [_known(found[c.text, c.finish]) for c in written],
            "breaks_at": [broken[c.text, c.finish] for c in written],
            "words": [found[c.text, c.finish].words for c in written],
            "trait": [shown[c.text] for c in written],
            "fit": [fits[c.prompt, c.text] for c in written],
        },
        dtype=float,
    )


def _known(assessed: Assessment) -> float:
    return math.nan if assessed.words == 0 and assessed.coherence > 0 else assessed.coherence


# Where users find it, which is what provenance says.
exact.__module__ = "workbench.judges"
