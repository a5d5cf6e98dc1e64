"""Data as the library of conditional activation steering keeps it, as contrast pairs and prompts.

    classes   {"train": [{"harmful": …, "harmless": …}, …], "test": […]}, a class of prompts a
              column; of many categories {"base": …, "hate_speech": …, "legal_opinion": …, …}, of
              questions alone {"question": …}
    suffixes  {"compliant_responses": […], "non_compliant_responses": […]}

Lee et al. 2024, https://arxiv.org/abs/2409.05907. Knows nothing of models.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.contrast.loaders import read_rows
from workbench.contrast.pairs import Pair, Pairs
from workbench.contrast.polarity import require_consistent
from workbench.contrast.templating import crossed
from workbench.support.checks import check_whole, require_lists
from workbench.text.splits import PromptSet
from workbench.text.tokens import Prompt

_log = logging.getLogger(__name__)
_REFUSING, _COMPLYING = "non_compliant_responses", "compliant_responses"


def read_classes(
    path: str | os.PathLike[str], part: str | None = "train", *, role: str = "select"
) -> dict[str, PromptSet]:
    """Class -> its prompts, row by row, of one part of a file of classes (None: of a file of one
    table); `role` is what they are for.

    Raises FileNotFoundError; ValueError for a file that is not readable, for a part that it lacks,
    naming those it has, and for rows that lack a class or hold an empty text, naming the first.
    """
    path = Path(path)
    rows = read_rows(path, {"name"}, part)  # a class may be called so
    classes = list(dict.fromkeys(column for row in rows for column in row))
    columns = {name: [_text(path, i, row, name) for i, row in enumerate(rows)] for name in classes}
    return {
        name: PromptSet(tuple(texts), f"{path.stem}/{name}", role)
        for name, texts in columns.items()
    }


def condition_pairs(
    path: str | os.PathLike[str],
    positive: str,
    against: Sequence[str] | None = None,
    part: str | None = "train",
) -> Pairs:
    """One class of prompts against others, as whole texts: row by row against the first of
    `against`, then against the second …; None: against every other class of the file.

    Raises as `read_classes`; ValueError for a class that is not there, naming those that are, for
    a row with the same text on both sides, and for one text on both sides of different rows.
    """
    require_lists(against=against)
    classes = read_classes(path, part)
    others = [name for name in classes if name != positive] if against is None else list(against)
    for name in (positive, *others):
        if name not in classes:
            raise ValueError(f"{str(path)!r} has no class {name!r}; its classes are {[*classes]}")
    if not others or positive in others:
        raise ValueError(
            f"{positive!r} against {others}: a class stands against other classes of {[*classes]}"
        )
    pairs = []
    for other in others:
        for index, texts in enumerate(zip(classes[positive], classes[other], strict=True)):
            try:
                pairs.append(Pair(*map(str, texts)))
            except ValueError as error:
                raise ValueError(f"{str(path)!r}, row {index}: {error}") from None
    found = Pairs(tuple(pairs), f"{Path(path).stem}/{positive}", trait=positive)
    require_consistent(found)
    _log.info("%s: %d pairs of %r against %s", path, len(found), positive, others)
    return found


def refusal_pairs(
    path: str | os.PathLike[str],
    questions: Sequence[Prompt],
    *,
    suffixes: int | None = None,
    separator: str = "",
) -> Pairs:
    """Every question with every refusal (positive) and the compliance beside it, as the library
    crosses them: all questions with the first, then all with the second …

    suffixes   how many of the file's suffixes are taken, from its start (None: all)
    separator  what goes between question and suffix; those of the library follow a chat template,
               for texts give " "

    `.as_chat()` of the result puts the questions into a chat. Raises FileNotFoundError; ValueError
    for a file that is not readable, that lacks one of the two lists or has them of different
    lengths, for an empty text, and for `suffixes` out of range.
    """
    path = Path(path)
    rows = read_rows(path, {_REFUSING, _COMPLYING})
    if suffixes is not None:
        rows = rows[: check_whole("suffixes", suffixes, 1, len(rows))]
    refusing, complying = (
        [separator + _text(path, i, row, name) for i, row in enumerate(rows)]
        for name in (_REFUSING, _COMPLYING)
    )
    return crossed(questions, refusing, complying, name=path.stem, trait="refusal")


def _text(path: Path, index: int, row: dict[str, Any], name: str) -> str:
    if name not in row:
        raise ValueError(f"{str(path)!r}, row {index} has no {name!r}, only {list(row)}")
    if not isinstance(row[name], str) or not row[name].strip():
        raise ValueError(f"{str(path)!r}, row {index}: {name!r} is {row[name]!r}, expected text")
    return row[name]
