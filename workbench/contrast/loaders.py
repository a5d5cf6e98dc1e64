"""Contrast pairs and prompts from files: JSON, JSON lines, CSV and Parquet with named columns."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.contrast.catalogue import FOLDER, bundled, guess
from workbench.contrast.pairs import Pair, Pairs
from workbench.text.splits import PromptSet
from workbench.text.tokens import Prompt

_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")


def load_pairs(
    name_or_path: str | os.PathLike[str],
    *,
    positive: str = "positive",
    negative: str = "negative",
    prompt: str | None = None,
    part: str | None = None,
    separator: str = "",
    name: str | None = None,
    trait: str | None = None,
) -> Pairs:
    """Pairs that ship with the package, by name, or from a .json, .jsonl, .csv or .parquet file.

    `positive`, `negative` and `prompt` name the columns ("prompt" is taken when it is there and
    `prompt` is None). `part` names one of the tables of a nested JSON file ("train", "test").
    `separator` goes between prompt and completion. In JSON lines a first line without the named
    columns that has a "name" gives name, trait, description and role.
    Raises FileNotFoundError for an unknown name or path; ValueError for another kind of file, a
    broken line, a missing column (naming those found), an empty or one-sided file.
    """
    path = _locate(name_or_path)
    rows, about = _read_table(path, part, {positive, negative})
    columns = _columns(rows, path)
    _require(path, columns, positive, negative, *([prompt] if prompt else []))
    asked = prompt or ("prompt" if "prompt" in columns else None)
    pairs = []
    for index, row in enumerate(rows):
        own = row.get(asked) if asked else ""
        try:
            good, bad = row.get(positive), row.get(negative)
            if own and isinstance(good, str) and isinstance(bad, str):
                good, bad = separator + good, separator + bad
            other = as_prompt(row["negative_prompt"]) if row.get("negative_prompt") else None
            pairs.append(Pair(good, bad, as_prompt(own), other))  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{str(path)!r}, pair {index}: {error}") from None
    return Pairs(
        tuple(pairs),
        name=name or str(about.get("name") or path.stem),
        trait=trait if trait is not None else str(about.get("trait") or ""),
        description=str(about.get("description") or ""),
        role=str(about.get("role") or "extract"),
    )


def load_prompts(
    path: str | os.PathLike[str],
    *,
    column: str | None = None,
    part: str | None = None,
    name: str | None = None,
    role: str = "select",
) -> PromptSet:
    """Prompts from a file: a list of texts, or one named column of a table.

    Raises as `load_pairs`; ValueError also for a table without `column`.
    """
    path = _locate(path)
    rows, _ = _read_table(path, part, {column} if column else set())
    if column is None and set(_columns(rows, path)) == {"text"}:
        column = "text"
    if column is None:
        raise ValueError(f"{str(path)!r} is a table; name a column of {_columns(rows, path)}")
    _require(path, _columns(rows, path), column)
    prompts = [row.get(column) for row in rows]
    kept = tuple(as_prompt(prompt) for prompt in prompts if prompt not in (None, ""))
    return PromptSet(kept, name or path.stem, role)


def read_rows(
    path: str | os.PathLike[str], columns: Collection[str], part: str | None = None
) -> list[dict[str, Any]]:
    """The rows of a table as they stand, column -> value.

    columns  names that rows may have: a first line of JSON lines that has none of them, but a
             "name", is about the table and is left out
    part     one of the tables of a nested JSON file

    Raises as `load_pairs`.
    """
    rows, _ = _read_table(_locate(path), part, set(columns))
    return rows


def read_about(path: str | os.PathLike[str], columns: Collection[str]) -> dict[str, Any]:
    """What the first line of a JSON lines file of this package says of it (name, trait, …), empty
    where there is no such line. Arguments and errors as of `read_rows`."""
    return _read_table(_locate(path), None, set(columns))[1]


def _locate(name_or_path: str | os.PathLike[str]) -> Path:
    path = Path(name_or_path)
    if path.suffix.lower() in _SUFFIXES:
        if not path.is_file():
            raise FileNotFoundError(f"no file at {str(path)!r}")
        return path
    if path.is_file():
        raise ValueError(
            f"{str(path)!r} ends in {path.suffix!r}; pairs are read from {', '.join(_SUFFIXES)}"
        )
    if path.name == str(name_or_path) and str(name_or_path) in bundled():
        return FOLDER / f"{path.name}.jsonl"
    raise FileNotFoundError(
        f"no pairs {str(name_or_path)!r}: it is no file, and the bundled sets are "
        f"{', '.join(bundled()) or 'none'}{guess(str(name_or_path))}"
    )


def _read_table(
    path: Path, part: str | None, wanted: set[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of a file, and its metadata line."""
    try:
        if path.suffix.lower() == ".jsonl":
            rows: Any = _json_lines(path)
        elif path.suffix.lower() == ".json":
            rows = json.loads(path.read_text("utf-8"))
        elif path.suffix.lower() == ".csv":
            # Texts such as "NA" and "1" are texts.
            rows = pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")
        else:
            rows = _plain(pd.read_parquet(path).to_dict("records"))
    except (ValueError, OSError, RecursionError) as error:
        kind = path.suffix.lower().lstrip(".")
        raise ValueError(f"{str(path)!r} is not readable as {kind}: {error}") from None
    rows = _as_rows(rows, part, path)
    about: dict[str, Any] = {}
    if rows and "name" in rows[0] and not wanted & set(rows[0]):
        about, rows = rows[0], rows[1:]
    if not rows:
        raise ValueError(f"{str(path)!r} has no rows")
    return rows, about


def _plain(value: Any) -> Any:
    """Parquet gives lists back as arrays, and what is missing as NaN: here as lists and None."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    return None if value is pd.NA or value != value else value


def _json_lines(path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}: {error}") from None
    return rows


def _as_rows(content: Any, part: str | None, path: Path) -> list[dict[str, Any]]:
    """Rows out of what a JSON file may hold: rows, texts, tables by name, columns by name."""
    if isinstance(content, dict):
        tables = [key for key, value in content.items() if isinstance(value, list)]
        if part is not None:
            if part not in tables:
                raise ValueError(f"{str(path)!r} has no part {part!r}; its parts are {tables}")
            return _as_rows(content[part], None, path)
        nested = [key for key in tables if content[key] and isinstance(content[key][0], dict)]
        if len(nested) == 1 and len(tables) == 1:
            return _as_rows(content[nested[0]], None, path)
        if nested:
            raise ValueError(f"{str(path)!r} holds several tables; choose one: part= {tables}")
        if not tables:
            raise ValueError(f"{str(path)!r} holds no table")
        lengths = {key: len(content[key]) for key in tables}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"one-sided pairs in {str(path)!r}: columns have lengths {lengths}")
        return [
            dict(zip(tables, row, strict=True))
            for row in zip(*(content[key] for key in tables), strict=False)
        ]
    if part is not None:
        raise ValueError(f"{str(path)!r} is one table; it has no part {part!r}")
    if not isinstance(content, list):
        raise ValueError(f"{str(path)!r} holds {type(content).__name__}, expected a table")
    if content and all(isinstance(row, str) for row in content):
        return [{"text": row} for row in content]
    for index, row in enumerate(content):
        if not isinstance(row, dict):
            raise ValueError(f"row {index} of {str(path)!r} is {row!r}, expected named columns")
    return content


def _columns(rows: Sequence[dict[str, Any]], path: Path) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _require(path: Path, columns: Sequence[str], *names: str) -> None:
    for name in names:
        if name not in columns:
            raise ValueError(f"{str(path)!r} has no column {name!r}; its columns are {columns}")


def as_prompt(value: Any) -> Prompt:
    """A text, or chat messages, of which the fields that hold nothing are left out."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(map(_is_message, value)):
        return tuple({k: v for k, v in m.items() if v is not None} for m in value)
    raise ValueError(f"a prompt must be a text or chat messages, got {value!r}")


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), str) for key in ("role", "content")
    )
