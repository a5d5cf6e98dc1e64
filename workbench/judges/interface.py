"""What a judge is, and how it is asked: by a sweep about its frame, or about plain texts.

Knows no judge of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
import pandas as pd

Finish: TypeAlias = Literal["end", "length"]

# What every judge is asked for, and the range of each.
RANGES = {"trait": (-1.0, 1.0), "coherence": (0.0, 1.0)}
#: The least coherence of a text that holds together.
HOLDS = 0.5


@dataclass(frozen=True)
class Written:
    """A text, the prompt that it continues as the model read it, and how it ended.

    finish  "end": the model ended it; "length": it was cut at the token limit
    """

    text: str
    prompt: str = ""
    finish: Finish = "length"


#: One row per text, in their order. Asked about no texts it returns an empty frame with its
#: columns, or raises for what it cannot do (a trait, a missing key): that is how a sweep asks
#: before any work starts. Once there are texts it answers for each: what could not be rated is NaN.
Judge: TypeAlias = Callable[[Sequence[Written], str], pd.DataFrame]


def score(
    texts: Sequence[str],
    prompts: Sequence[str],
    trait: str,
    *,
    by: Judge,
    finish: Finish | Sequence[str] = "length",
) -> pd.DataFrame:
    """What a judge says about texts: one row for each, in their order.

    prompts  what each text continues or answers, "" for nothing
    by       any judge, such as `judges.exact`
    finish   how the texts ended, one word for all or one for each; see `Written`

    Columns, and whatever else the judge gives behind them:

        trait      how far the text shows the trait, -1 (its opposite) to 1
        coherence  how far the text holds together, 0 to 1
        status     "ok" where both are numbers; otherwise why not, such as "malformed"
        reason     the same in words, "" where the status is "ok"

    Raises ValueError for counts that differ, one text in place of a list, an unknown finish, what
    the judge refuses, and a judge that leaves one of the two out or gives a value out of range.
    """
    written = as_written(texts, prompts, finish)
    return _complete(_ask(by, written, trait), name(by))


def as_written(
    texts: Sequence[str], prompts: Sequence[str], finish: Finish | Sequence[str]
) -> list[Written]:
    """Texts with their prompts and ends, as judges take them. Raises ValueError as `score`."""
    if isinstance(texts, str) or isinstance(prompts, str):
        raise ValueError("texts and prompts are lists; wrap a single text: [text], [prompt]")
    ends = [finish] * len(texts) if isinstance(finish, str) else list(finish)
    if not len(texts) == len(prompts) == len(ends):
        raise ValueError(
            f"{len(texts)} texts, {len(prompts)} prompts, {len(ends)} ways to finish: give one "
            "for each text"
        )
    unknown = next((end for end in ends if end not in get_args(Finish)), None)
    if unknown is not None:
        raise ValueError(f"finish {unknown!r} is not one of {', '.join(get_args(Finish))}")
    return [
        Written(text, prompt, cast(Finish, end))
        for text, prompt, end in zip(texts, prompts, ends, strict=True)
    ]


def _ask(judge: Judge, written: Sequence[Written], trait: str) -> pd.DataFrame:
    verdicts = judge(written, trait)
    if len(verdicts) != len(written):
        raise ValueError(
            f"the judge {name(judge)!r} gave {len(verdicts)} rows for {len(written)} texts; "
            "it must give one for each, in their order"
        )
    return verdicts


def _complete(verdicts: pd.DataFrame, judge: str) -> pd.DataFrame:
    """The verdicts with all four columns in front. Raises ValueError for what cannot be one."""
    frame = verdicts.reset_index(drop=True)
    for column, (low, high) in RANGES.items():
        if column not in frame:
            raise ValueError(f"the judge {judge!r} gives no column {column!r}")
        values = frame[column].to_numpy(dtype=float)
        outside = values[(values < low) | (values > high)]
        if len(outside):
            raise ValueError(f"the judge {judge!r} gave {column} {outside[0]}: not {low} to {high}")
    if "status" not in frame:
        known = frame[list(RANGES)].notna().all(axis=1)
        frame["status"] = np.where(known, "ok", "unrated")
        frame["reason"] = np.where(known, "", "the judge gave no number")
    first = [*RANGES, "status", "reason"]
    return frame[[*first, *(column for column in frame if column not in first)]]


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
        verdicts = _ask(one, written, trait)
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
    """What a judge is called in provenance: its own `label`, or module and name; of an object
    without a label, those of its class.

    A label and no more: two lambdas share one.
    """
    label = getattr(judge, "label", None)
    if isinstance(label, str):
        return label
    named = judge if hasattr(judge, "__qualname__") else type(judge)
    return f"{named.__module__}.{named.__qualname__}"
