"""Judges: what a text is worth, as columns of a frame.

A judge is a callable `(written, trait) -> DataFrame` with one row per text, in their order;
`trait` is the name of what was steered. Called with no texts it returns an empty frame with its
columns, or raises for a trait that it cannot judge: that is how a sweep asks before any work
starts. Judges run over finished texts and are never stored: a sweep that resumes judges all of its
texts again, with the judges that it is given then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd


@dataclass(frozen=True)
class Written:
    """A text, the prompt that it continues as the model read it, and how it ended.

    finish  "end": the model ended it; "length": it was cut at the token limit
    """

    text: str
    prompt: str = ""
    finish: Literal["end", "length"] = "length"


Judge: TypeAlias = Callable[[Sequence[Written], str], pd.DataFrame]


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


def judge(frame: pd.DataFrame, judges: Sequence[Judge], trait: str) -> pd.DataFrame:
    """The frame with the columns of each judge beside its own, which keep their places.

    frame  rows with `text`, `prompt` and `finish`, such as a sweep's; a missing text (as a CSV
           file gives back an empty one) is judged as empty

    Columns that a former judging gave under the same names are replaced.
    Raises ValueError for judges that are no list, and for a judge that does not give one row per
    text.
    """
    check_listed(judges)
    texts = frame["text"].fillna("")
    written = [
        Written(str(text), str(prompt), finish)
        for text, prompt, finish in zip(texts, frame["prompt"], frame["finish"], strict=True)
    ]
    for one in judges:
        verdicts = one(written, trait)
        if len(verdicts) != len(frame):
            raise ValueError(
                f"the judge {name(one)!r} gave {len(verdicts)} rows for {len(frame)} texts; "
                "it must give one for each, in their order"
            )
        kept = frame.drop(columns=[c for c in verdicts.columns if c in frame.columns])
        attrs = frame.attrs
        frame = pd.concat([kept, verdicts.set_axis(frame.index)], axis=1)
        frame.attrs = attrs
    return frame


def check_listed(judges: Sequence[Judge]) -> None:
    """Raise ValueError for anything but a list of functions."""
    if callable(judges):
        called = getattr(judges, "__name__", "judge")
        raise ValueError(f"judges is {judges!r}; give a list: judges=[{called}]")
    if isinstance(judges, str) or not isinstance(judges, Sequence):
        raise ValueError(f"judges is {judges!r}; give a list, such as judges=[judges.exact]")
    for one in judges:
        if not callable(one):
            raise ValueError(
                f"the judge {one!r} is not a function of texts and a trait; give one, such as "
                "judges.exact"
            )


def name(judge: Judge) -> str:
    """What a judge is called in provenance: module and name; of an object, those of its class.

    A label and no more: two lambdas share one.
    """
    named = judge if hasattr(judge, "__qualname__") else type(judge)
    return f"{named.__module__}.{named.__qualname__}"
