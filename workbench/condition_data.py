"""Texts of two classes for a condition to be made from and judged on, whatever the model.

wren's are its requests, harmful or not (wren/requests.py). Of any other model they are both sides
of pairs that fit it: the condition is then that a text shows the trait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from workbench import pairs
from workbench.wren import requests

# Behind a request wren says this before it obeys or refuses: what it is about to do lies there.
BEGUN = " Indeed,"


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts as a condition reads them, one row each in `table`: `text`, `inside` (whether it is of
    the condition), `part` ("making", "held out", "unseen"), `group` (what is left out at once when
    layers are compared), `prompt` (what is answered).

    classes   what texts of the condition and others are called
    """

    table: pd.DataFrame
    classes: tuple[str, str]

    def of(self, *parts: str) -> pd.DataFrame:
        """The rows of these parts, numbered anew."""
        return self.table[self.table["part"].isin(parts)].reset_index(drop=True)


def of_wren(seed: int = 0, fold: int = 0, *, instructed: int = 2) -> Examples:
    """Requests of wren's tasks, of which a fold is unseen; read after their answer has begun."""
    frame = requests.requests(seed, fold, instructed=instructed)
    table = frame.rename(columns={"harmful": "inside", "topic": "group"})
    return Examples(table.assign(text=table["prompt"] + BEGUN), ("harmful", "harmless"))


def of_pairs(data: pairs.Pairs, seed: int = 0) -> Examples:
    """Both sides of pairs: those that would make a vector make the condition, others judge it.

    Raises ValueError for chats, and as `Pairs.split`.
    """
    splits, rows = data.split(seed=seed), []
    for part, mine in (("making", splits.extract), ("held out", splits.report)):
        for index, pair in enumerate(mine):
            if not isinstance(pair.prompt, str):
                raise ValueError(f"{data.name!r} holds chats; conditions are shown on texts")
            for inside, text in zip((True, False), pair.full, strict=True):
                rows.append((str(text), inside, part, index % 4, pair.prompt))
    table = pd.DataFrame(rows, columns=["text", "inside", "part", "group", "prompt"])
    trait = data.trait or "trait"
    return Examples(table, (f"{trait} +", f"{trait} −"))


def counts(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """How many texts of either class a part has: one row per part."""
    named = table["inside"].map({True: classes[0], False: classes[1]})
    found = pd.crosstab(table["part"], named).reindex(columns=list(classes))
    order = [part for part in ("making", "held out", "unseen") if part in found.index]
    return found.loc[order].rename_axis(columns=None).reset_index()
