"""Tables and numbers: in Markdown, and on disk with what they were made from and if that holds.

A table is `tables/NAME.csv` (or, a long one, `NAME.parquet`) beside `tables/NAME.json`, its
provenance; single numbers and words are `tables/NAME.values.json`. Knows nothing of figures or of
the report that quotes them.
"""

import csv
import hashlib
import html
import io
import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.support.store import write_atomically
from workbench.support.versions import versions

PACKAGE = Path(__file__).resolve().parents[1]
_ENDS = (".csv", ".parquet")
_FEW = 4  # modules that are named
# A cell of a CSV file, its text if it is quoted, and what ends it.
_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|[^",\n]*)(,|\n)')


def to_json(value: Any) -> str:
    """JSON with sorted keys and two spaces, so that a rerun differs only where results do.

    Takes numpy numbers and arrays and paths besides; NaN and infinities become null.
    """

    def plain(item: Any) -> Any:
        if isinstance(item, np.ndarray | np.generic):
            return plain(item.tolist())
        if isinstance(item, Mapping):
            return {str(key): plain(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [plain(inner) for inner in item]
        if isinstance(item, float):
            return item if np.isfinite(item) else None
        return item if item is None or isinstance(item, bool | int | str) else str(item)

    return json.dumps(plain(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_csv(frame: pd.DataFrame, path: Path) -> str:
    """Write a frame without its index, atomically; the sha256 of what was written.

    A model may write any character. All texts are quoted, for pandas leaves a carriage return
    without; a NUL, at which its reader would stop, becomes U+FFFD.
    """
    text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    content = text.replace("\0", "\ufffd").encode()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def write_parquet(frame: pd.DataFrame, path: Path) -> str:
    """Write a frame without its index and `attrs`, atomically; the sha256 of what was written."""
    bare = frame.reset_index(drop=True)
    bare.attrs = {}
    content = bare.to_parquet(compression="zstd", index=False)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def read_csv(path: str | Path) -> pd.DataFrame:
    """What `write_csv` wrote: a column of texts stays one, whether they read "007", "NA", "True" or
    nothing; in any other column nothing is a gap."""
    content = Path(path).read_bytes().decode()
    names, texts = _columns(content)
    return pd.read_csv(
        io.StringIO(content),
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values={name: [""] for name in names if name not in texts},
        float_precision="round_trip",
    )


def _columns(content: str) -> tuple[list[str], list[str]]:
    """The names of a CSV file's columns, and of those that hold texts: what is quoted and not
    empty."""
    names = next(csv.reader(io.StringIO(content, newline="")))
    quoted, column = set(), 0
    for count, match in enumerate(_CELL.finditer(content)):
        if match[1] and count >= len(names):
            quoted.add(column)
        column = 0 if match[2] == "\n" else column + 1
    return names, [names[index] for index in sorted(quoted)]


def code_fingerprint(*modules: str) -> str:
    """sha256 of what the named modules of the package do (all of them when none is named).

    Names are dotted and relative to the package: "sweep", "wren.grammar". Comments, docstrings and
    blank lines do not count, so that a table does not grow stale by an edit that cannot change it.

    Raises FileNotFoundError for a module that is not there.
    """
    files = [PACKAGE / f"{name.replace('.', '/')}.py" for name in modules]
    return file_fingerprint(*sorted(files or PACKAGE.rglob("*.py")), root=PACKAGE)


def file_fingerprint(*files: str | Path, root: str | Path) -> str:
    """The same of any Python files below a folder, such as the scripts of a study."""
    digest = hashlib.sha256()
    for file in map(Path, files):
        code = _bare(file.read_text(encoding="utf-8"))
        digest.update(f"{file.resolve().relative_to(Path(root).resolve())}\n{code}\n".encode())
    return digest.hexdigest()


@cache  # a study asks for the same files again and again
def _bare(source: str) -> str:
    """Code without comments, docstrings and blank lines, by places in the text alone: what a parser
    makes of it differs between versions of Python."""
    rows = source.split("\n")
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    code = [token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL)]
    begins = (None, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    before = [None, *(token.type for token in code)]
    docstrings = [
        token
        for last, token, after in zip(before, code, code[1:], strict=False)
        if token.type == tokenize.STRING and last in begins and after.type == tokenize.NEWLINE
    ]
    for token in (*comments, *docstrings):
        _blank(rows, token)
    return "\n".join(row.rstrip() for row in rows if row.strip())


def _blank(rows: list[str], token: tokenize.TokenInfo) -> None:
    """Overwrite a token in its rows with spaces."""
    (first, start), (last, end) = token.start, token.end
    for place in range(first - 1, last):
        row = rows[place]
        left = start if place == first - 1 else 0
        right = end if place == last - 1 else len(row)
        rows[place] = row[:left] + " " * (right - left) + row[right:]


def save_table(
    frame: pd.DataFrame,
    name: str,
    *,
    directory: str | Path = "reports",
    provenance: Mapping[str, Any] | None = None,
    modules: tuple[str, ...] | None = None,
    compact: bool = False,
) -> Path:
    """Write a table for the report: `directory/tables/NAME.csv` and its provenance as JSON.

    Args:
        frame: the table; its `attrs` go into the provenance.
        name: of the table, by which a report's template quotes it.
        directory: the report's folder.
        provenance: what the table was made from: model, fingerprints, seeds.
        modules: the modules whose code made it (see `code_fingerprint`); given, `stale` can tell
            when that code has changed since.
        compact: write Parquet instead of CSV, for tables that nobody reads by eye.

    Returns the path of the table. Raises ValueError for a name that is not a plain file name.
    """
    path, other = (_path(directory, name, end) for end in (_ENDS[::-1] if compact else _ENDS))
    other.unlink(missing_ok=True)  # a table is one file
    digest = write_parquet(frame, path) if compact else write_csv(frame, path)
    loaded = ("sha256", "rows", "versions", "code")  # what is said of this file, not of another
    record = {key: value for key, value in frame.attrs.items() if key not in loaded}
    record |= provenance or {}
    record |= {"sha256": digest, "rows": len(frame), "versions": versions()}
    if modules is not None:
        record["code"] = {"modules": list(modules), "sha256": code_fingerprint(*modules)}
    write_atomically(path.with_suffix(".json"), to_json(record).encode())
    return path


def save_values(values: Mapping[str, Any], name: str, *, directory: str | Path = "reports") -> Path:
    """Write numbers and words that a report quotes as `{{ NAME.key }}`; nested mappings may be."""
    path = _path(directory, name, ".values.json")
    write_atomically(path, to_json(values).encode())
    return path


def load_table(name: str, *, directory: str | Path = "reports") -> pd.DataFrame:
    """A table that `save_table` wrote, with its provenance in `attrs`.

    Raises FileNotFoundError that names the command which makes it.
    """
    path = _table(directory, name)
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else read_csv(path)
    frame.attrs = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return frame


def stale(name: str, *, directory: str | Path = "reports", **expected: Any) -> list[str]:
    """Why a saved table no longer stands for the present code, model or data; empty if it does.

    `expected` gives provenance entries as they are now, such as `model="…sha256…"`; the code is
    compared by itself. Raises FileNotFoundError when there is no such table.
    """
    path = _path(directory, name, ".json")
    if not path.is_file():
        raise _missing(name, path)
    record = json.loads(path.read_text(encoding="utf-8"))
    reasons = [
        f"{key} was {record.get(key)!r} and is now {value!r}"
        for key, value in expected.items()
        if record.get(key) != value
    ]
    code = record.get("code")
    if code is not None:
        try:
            same = code_fingerprint(*code["modules"]) == code["sha256"]
        except FileNotFoundError:
            same = False
        if not same:
            names = _named(code["modules"]) or "the package"
            reasons.append(f"the code of {names} has changed since")
    table = _table(directory, name)
    if hashlib.sha256(table.read_bytes()).hexdigest() != record["sha256"]:
        reasons.append(f"{table.name} is not the file that was written")
    return reasons


def _named(modules: Sequence[str]) -> str:
    """Modules by name, of many the first few."""
    more = len(modules) - _FEW
    named = modules if more <= 1 else modules[:_FEW]
    return ", ".join(named) + (f" and {more} more modules" if more > 1 else "")


def standing(*studies: str, directory: str | Path = "reports") -> str:
    """In words, which saved tables stand for the present code, and why others do not (`stale`).

    `studies` are the beginnings of the tables' names, "study_laws" for instance; without any it is
    all tables of the folder. Raises FileNotFoundError, which names the command that makes them,
    when no table's name begins with one of these.
    """
    names = table_names(directory)
    for study in studies:
        if not any(name.startswith(study) for name in names):
            raise _missing(study, _path(directory, study, _ENDS[0]))
    of = [name for name in names if name.startswith(studies)] if studies else names
    reasons = {name: stale(name, directory=directory) for name in of}
    sound = [name for name in of if not reasons[name]]
    known = [name for name in sound if "code" in _record(directory, name)]
    unknown = [name for name in sound if name not in known]
    lines = [f"stand for this code: {', '.join(known) or 'none'}"]
    lines += [f"of unknown code: {', '.join(unknown)}"] if unknown else []
    lines += [f"{name}: STALE: {'; '.join(why)}" for name, why in reasons.items() if why]
    return "\n".join(lines)


def _record(directory: str | Path, name: str) -> dict[str, Any]:
    """What a table was made from."""
    return json.loads(_path(directory, name, ".json").read_text(encoding="utf-8"))


def markdown_table(frame: pd.DataFrame, spec: str = ".3g") -> str:
    """A Markdown table without the index; fractions in the format `spec`, gaps as a dash."""

    def cell(value: object) -> str:
        if value is None or value is pd.NA or value != value:
            return "–"
        text = format(value, spec) if isinstance(value, float) else str(value)
        return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")

    numbers = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    lines = [
        [cell(column) for column in frame.columns],
        ["---:" if number else "---" for number in numbers],
        *([cell(value) for value in row] for row in frame.itertuples(index=False)),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_names(directory: str | Path = "reports") -> list[str]:
    """The names of the tables in a report's folder, sorted."""
    folder = Path(directory) / "tables"
    return sorted(path.stem for end in _ENDS for path in folder.glob(f"*{end}"))


def _table(directory: str | Path, name: str) -> Path:
    """Where a table is. Raises FileNotFoundError that names the command which makes it."""
    paths = [_path(directory, name, end) for end in _ENDS]
    for path in paths:
        if path.is_file():
            return path
    raise _missing(name, paths[0])


def _missing(name: str, path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"no table {name!r} at {path}: `make study` or its notebook makes it")


def _path(directory: str | Path, name: str, suffix: str) -> Path:
    check_name(name)
    return Path(directory) / "tables" / f"{name}{suffix}"


def check_name(name: str) -> None:
    """Raise ValueError unless a name can be part of a file name and of a template's field."""
    if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise ValueError(f"{name!r} cannot name a file: use letters, digits, - and _ only")
