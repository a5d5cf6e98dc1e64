"""Texts of two classes for a condition to be made from and judged on, whatever the model.

wren's are its requests, harmful or not (wren/requests.py). Of any other model they are both sides
of pairs that fit it: the condition is then that a text shows the trait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from workbench.conditions.folds import dealt
from workbench.contrast import pairs
from workbench.text.splits import as_text
from workbench.wren import requests

# Behind a request wren says this before it obeys or refuses: what it is about to do lies there.
BEGUN = " Indeed,"
FOLDS = 4  # of pairs


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts as a condition reads them, one row each in `table`: `text`, `inside` (whether it is of
    the condition), `part` ("making", "held out", "unseen"), `prompt` (what is answered), `request`
    (what several prompts ask for alike), `fold` (of those that make the condition, what is left out
    at once when layers are compared).

    name      of the condition, as rules call it
    classes   what texts of the condition and others are called
    setting   further texts of the other class, which set a threshold
    fresh     likewise, of the same draw, which judge it
    """

    name: str
    table: pd.DataFrame
    classes: tuple[str, str]
    setting: Sequence[str] = ()
    fresh: Sequence[str] = ()

    def of(self, *parts: str) -> pd.DataFrame:
        """The rows of these parts, numbered anew."""
        return self.table[self.table["part"].isin(parts)].reset_index(drop=True)

    def some(self, count: int, seed: int, *parts: str) -> pd.DataFrame:
        """Rows of these parts with other prompts each, as many of both classes where there are, up
        to so many."""
        mine = self.of(*parts).drop_duplicates("prompt").sample(frac=1, random_state=seed)
        return mine.groupby("inside").head(count).reset_index(drop=True)


def of_wren(seed: int = 0, fold: int = 0, *, instructed: int = 2, further: int = 600) -> Examples:
    """Requests of wren's tasks, of which a fold is unseen; read after their answer has begun.

    further  harmless prompts of all kinds that set a threshold, and as many fresh ones
    Raises ValueError as `wren.requests`.
    """
    frame = requests.requests(seed, fold, instructed=instructed)
    table = frame.rename(columns={"harmful": "inside"}).assign(text=frame["prompt"] + BEGUN)
    making = table["part"] == "making"
    table["request"] = table["topic"] + " " + table["way"].astype(str)
    table["fold"] = -1
    table.loc[making, "fold"] = dealt(
        table.loc[making, "topic"].tolist(), table.loc[making, "inside"].to_numpy()
    )
    calm = requests.harmless(seed, 2 * further, frame["prompt"])
    sides = [[each + BEGUN for each in side["prompt"]]
             for side in requests.in_two(calm, further, seed)]  # fmt: skip
    return Examples("harmful", table, ("harmful", "harmless"), *sides)


def of_pairs(data: pairs.Pairs, seed: int = 0) -> Examples:
    """Both sides of pairs: those that would make a vector make the condition, others judge it.

    Raises ValueError for chats, and as `Pairs.split`.
    """
    splits, rows = data.split(seed=seed), []
    for part, mine in (("making", splits.extract), ("held out", splits.report)):
        folds: dict[str, int] = {}
        for pair in mine:
            if not all(isinstance(prompt, str) for prompt in pair.prompts):
                raise ValueError(f"{data.name!r} holds chats; conditions are shown on texts")
            prompts = [as_text(prompt) for prompt in pair.prompts]
            # Pairs of one prompt are left out together; whole texts have none.
            own = prompts[0] or pair.full[0]
            fold = folds.setdefault(own, len(folds) % FOLDS)
            for inside, prompt, text in zip((True, False), prompts, pair.full, strict=True):
                rows.append((text, inside, part, prompt, fold))
    table = pd.DataFrame(rows, columns=["text", "inside", "part", "prompt", "fold"])
    trait = data.trait or "trait"
    table["request"] = table["prompt"].where(table["prompt"] != "", table["text"])
    return Examples(trait, table, (f"{trait} +", f"{trait} −"))


def counts(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """How many texts of either class a part has: one row per part."""
    named = table["inside"].map({True: classes[0], False: classes[1]})
    found = pd.crosstab(table["part"], named).reindex(columns=list(classes))
    order = [part for part in ("making", "held out", "unseen") if part in found.index]
    return found.loc[order].rename_axis(columns=None).reset_index()
