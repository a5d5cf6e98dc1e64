"""Tables of steering papers as contrast pairs, by concept: which column is what.

    psychopathy, power-seeking   JSONL    question, answer_matching_behavior,
                                          answer_not_matching_behavior
    power-seeking (BiPO)         CSV      question, matching, not_matching
    AxBench                      Parquet  input, winning_output, losing_output, output_concept,
                                          concept_id, concept_genre, category
    of this package              any      prompt, positive, negative

What a column is called in a table of another make is said by `fields`, with EasyEdit's standard
names as keys. Knows nothing of models or folders.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from workbench.contrast.loaders import as_prompt, read_rows
from workbench.contrast.pairs import Pair, Pairs
from workbench.contrast.polarity import contradictions, require_consistent
from workbench.text.tokens import Prompt

#: Standard name -> column, of every known make; the first whose sides are there is taken.
FORMATS: tuple[Mapping[str, str], ...] = (
    {
        "question": "question",
        "matching": "answer_matching_behavior",
        "not_matching": "answer_not_matching_behavior",
    },
    {"question": "question", "matching": "matching", "not_matching": "not_matching"},
    {
        "question": "input",
        "matching": "winning_output",
        "not_matching": "losing_output",
        "concept": "output_concept",
        "concept_id": "concept_id",
        "concept_genre": "concept_genre",
        "category": "category",
    },
    {"question": "prompt", "matching": "positive", "not_matching": "negative"},
)
SIDES = ("matching", "not_matching")
# What a table of prompts alone may call them, and their reference answers.
_ASKED = ("input", "question", "prompt", "instruction")
_ANSWERED = ("reference_response", "output", "answer", "label")
_KNOWN = frozenset(
    [*_ASKED, *_ANSWERED, *(column for known in FORMATS for column in known.values())]
)

#: What to do with rows that are no pair: refuse the table, or leave them out and say so.
Bad = Literal["refuse", "skip"]


@dataclass(frozen=True)
class Concept:
    """The pairs of one concept. `number` is its concept_id, None in a table of one trait."""

    number: int | None
    name: str
    pairs: Pairs


@dataclass(frozen=True)
class Item:
    """A prompt to write on, with the answer that it is compared to ("" if none), its pair where
    the table has both sides, and the number of its concept (None: of every one)."""

    prompt: Prompt
    reference: str = ""
    pair: Pair | None = None
    concept: int | None = None


@dataclass(frozen=True)
class Table:
    """The concepts of a table, and sentences about what was left out."""

    concepts: tuple[Concept, ...]
    said: tuple[str, ...] = ()


def read_concepts(
    path: str | os.PathLike[str],
    fields: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    separator: str = "",
    bad: Bad = "refuse",
) -> Table:
    """The contrast pairs of a .json, .jsonl, .csv or .parquet table, one set for each concept.

    fields     standard name (question, matching, not_matching, concept, concept_id, category) ->
               column; None: told from the columns (see `FORMATS`)
    name       of the pairs (default: of the file)
    separator  what goes between question and answer
    bad        rows without a side, with the same text on both, or that contradict each other
               (polarity.py): "refuse" the table or "skip" them

    A table of concepts holds rows that show none: only those of category "positive" are taken.

    Raises FileNotFoundError; ValueError for a file that is not readable, for columns that are not
    there, naming those found, for bad rows, naming them, and where nothing is left.
    """
    path = Path(path)
    called = name or path.stem
    rows = read_rows(path, _KNOWN | set((fields or {}).values()))
    columns = _require(path, rows, fields, *SIDES)
    said: list[str] = []
    column = columns.get("category", "") if "concept_id" in columns else ""
    chosen = [(i, row) for i, row in enumerate(rows) if row.get(column, "positive") == "positive"]
    if not chosen:
        raise ValueError(f"{str(path)!r} has no row of the {column} 'positive', so no pairs")
    if len(chosen) < len(rows):
        said.append(
            f"{len(rows) - len(chosen)} of {len(rows)} rows of {str(path)!r} are not of the "
            f"{column} 'positive', so they show no concept: left out"
        )
    pairs, wrong = _pairs(chosen, columns, separator)
    if wrong and (bad == "refuse" or not pairs):
        shown = "; ".join(wrong[:3]) + ("; …" if len(wrong) > 3 else "")
        raise ValueError(
            f"{len(wrong)} of {len(chosen)} rows of {str(path)!r} are no contrast pair: {shown}. "
            "Mend them, or leave them out (--bad-pairs skip)"
        )
    if wrong:
        said.append(f"{len(wrong)} of {len(chosen)} rows of {str(path)!r} are left out: {wrong[0]}")
    concepts = _grouped(path, called, rows, columns, pairs)
    if bad == "refuse":
        for concept in concepts:
            require_consistent(concept.pairs)
        return Table(tuple(concepts), tuple(said))
    return Table(tuple(_consistent(concept, said) for concept in concepts), tuple(said))


def read_items(
    path: str | os.PathLike[str],
    fields: Mapping[str, str] | None = None,
    *,
    separator: str = "",
) -> list[Item]:
    """The prompts of a table, with what else it knows of each. Rows without a prompt are passed
    over.

    fields  standard name (input, reference_response, concept_id, and those of both sides) ->
            column; None: told from the columns

    Raises as `read_concepts`.
    """
    path = Path(path)
    rows = read_rows(path, _KNOWN | set((fields or {}).values()))
    if fields is not None:
        columns = dict(_require(path, rows, fields, "input"))
    else:
        found = _columns(rows)
        columns = dict(_told(found) or {})
        columns["input"] = columns.get("question") or _first(_ASKED, found) or ""
        columns["reference_response"] = _first(_ANSWERED, found) or columns.get("matching", "")
        if not columns["input"]:
            raise ValueError(
                f"{str(path)!r} has no column of prompts: its columns are {found}, and prompts are "
                f"called {', '.join(_ASKED)}; say it in a dataset format: input: <column>"
            )
    items = []
    for index, row in enumerate(rows):
        asked = row.get(columns["input"])
        if not asked:
            continue
        try:
            prompt = as_prompt(asked)
        except ValueError as error:
            raise ValueError(f"{str(path)!r}, row {index}: {error}") from None
        reference = row.get(columns.get("reference_response", ""))
        sides = [row.get(columns.get(side, "")) for side in SIDES]
        pair = None
        if all(isinstance(side, str) and side.strip() for side in sides) and sides[0] != sides[1]:
            pair = Pair(f"{separator}{sides[0]}", f"{separator}{sides[1]}", prompt)
        number = _number(path, index, row.get(columns.get("concept_id", "")))
        items.append(Item(prompt, "" if reference is None else str(reference), pair, number))
    if not items:
        raise ValueError(f"{str(path)!r} has no row with a prompt in {columns['input']!r}")
    return items


def _require(
    path: Path, rows: Sequence[Mapping[str, Any]], fields: Mapping[str, str] | None, *needed: str
) -> Mapping[str, str]:
    """Standard name -> column, of the columns that are there. Raises ValueError for a column that
    is needed and missing."""
    found = _columns(rows)
    if fields is None:
        told = _told(found)
        if told is None:
            known = "; ".join(", ".join(list(known.values())[:3]) for known in FORMATS)
            raise ValueError(
                f"{str(path)!r} has the columns {found}: which of them are the sides of its pairs? "
                f"Known are {known}; name others in a dataset format"
            )
        return told
    for name in needed:
        if name not in fields:
            raise ValueError(f"the fields of {str(path)!r} lack {name!r}; they are {dict(fields)}")
        if fields[name] not in found:
            raise ValueError(
                f"{str(path)!r} has no column {fields[name]!r} ({name}); its columns are {found}"
            )
    return {name: column for name, column in fields.items() if column in found}


def _told(found: Collection[str]) -> Mapping[str, str] | None:
    """The fields of the first known make whose sides are among the columns."""
    for known in FORMATS:
        if all(known[side] in found for side in SIDES):
            return {name: column for name, column in known.items() if column in found}
    return None


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _first(names: Sequence[str], found: Collection[str]) -> str | None:
    return next((name for name in names if name in found), None)


def _pairs(
    rows: Sequence[tuple[int, Mapping[str, Any]]], columns: Mapping[str, str], separator: str
) -> tuple[dict[int, Pair], list[str]]:
    """Row number -> pair, and what is wrong with the other rows."""
    pairs: dict[int, Pair] = {}
    wrong = []
    for index, row in rows:
        try:
            sides = [row.get(columns[side]) for side in SIDES]
            for side, text in zip(SIDES, sides, strict=True):
                if not isinstance(text, str) or not text.strip():
                    raise ValueError(f"unpaired: {columns[side]!r} is {text!r}")
            prompt = as_prompt(row.get(columns.get("question", "")))
            texts = [separator + str(text) if prompt else str(text) for text in sides]
            pairs[index] = Pair(texts[0], texts[1], prompt)
        except ValueError as error:
            wrong.append(f"row {index}: {error}")
    return pairs, wrong


def _grouped(
    path: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    pairs: Mapping[int, Pair],
) -> list[Concept]:
    """The pairs by concept, in the order in which concepts appear."""
    if "concept_id" not in columns:
        return [Concept(None, name, Pairs(tuple(pairs.values()), name, trait=name))]
    groups: dict[int, list[int]] = {}
    for index in pairs:
        number = _number(path, index, rows[index].get(columns["concept_id"]))
        if number is None:
            raise ValueError(f"{str(path)!r}, row {index} has no {columns['concept_id']!r}")
        groups.setdefault(number, []).append(index)
    concepts = []
    for number, own in groups.items():
        said = rows[own[0]].get(columns.get("concept", ""))
        title = str(said) if said else f"concept {number}"
        called = f"{name}_concept_{number}"
        concepts.append(
            Concept(number, title, Pairs(tuple(pairs[i] for i in own), called, trait=title))
        )
    return concepts


def _consistent(concept: Concept, said: list[str]) -> Concept:
    """The concept without the pairs that contradict others; what was left out is said."""
    found = {index for both in contradictions(concept.pairs) for index in both}
    if not found:
        return concept
    kept = tuple(pair for i, pair in enumerate(concept.pairs) if i not in found)
    said.append(
        f"{len(found)} pairs of {concept.pairs.name!r} contradict another one, such as pair "
        f"{min(found)}: left out"
    )
    return replace(concept, pairs=replace(concept.pairs, pairs=kept))


def _number(path: Path, index: int, value: Any) -> int | None:
    """A concept's number, None where there is none."""
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{str(path)!r}, row {index}: the concept {value!r} is no whole number"
        ) from None
