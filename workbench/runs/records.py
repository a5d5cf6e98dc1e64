"""What was done: a record beside the files of each piece of work, and one of a whole run.

run.json in a folder says what decided its files, and their sha256; it is written before them
("started") and after ("finished"). So work that is done is known, work whose causes changed is
done again, and a folder without a record is somebody else's, which nothing here writes over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.support.store import write_atomically
from workbench.support.versions import versions

RECORD = "run.json"
_FORMAT = "workbench.run/1"


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return json.loads(json.dumps(dict(values)))


def key_of(values: Mapping[str, Any]) -> str:
    """12 hexadecimal digits that name what decides something."""
    content = json.dumps(plain(values), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def start(folder: Path, decides: Mapping[str, Any]) -> None:
    """Say that a folder is being filled; what it held stays until then. Raises OSError."""
    former = read(folder / RECORD)
    held = {} if former is None else former.get("files", {})
    _write(folder / RECORD, {"state": "started", "decides": plain(decides), "files": held})


def finish(
    folder: Path,
    decides: Mapping[str, Any],
    written: Iterable[Path],
    base: Path,
    said: Sequence[str] = (),
) -> list[str]:
    """Say that it is filled, and remove what it held before and was not written again, and what a
    kill left; returns the files of the record, itself too, relative to `base`. Raises OSError."""
    former = read(folder / RECORD)
    files = {_relative(path, base): sha256(path) for path in written}
    about = {
        "state": "finished",
        "decides": plain(decides),
        "files": files,
        "said": list(said),
        "versions": versions(),
    }
    _write(folder / RECORD, about)
    for left in folder.glob(".*.part"):
        left.unlink(missing_ok=True)
    for name in () if former is None else former.get("files", {}):
        path = base / name
        if name not in files and path.parent == folder:
            path.unlink(missing_ok=True)
    return [*files, _relative(folder / RECORD, base)]


Standing = Literal["done", "stale", "started", "foreign", "nothing"]


@dataclass(frozen=True)
class Found:
    """How the work of a folder stands, which files it has (relative to the base directory; of
    foreign work the folder that holds it), and which causes changed."""

    standing: Standing
    files: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def look(
    folders: Sequence[Path],
    decides: Mapping[str, Any],
    base: Path,
    *,
    apart_from: Sequence[str] = (),
) -> Found:
    """Whether the work that fills some folders is done, and was decided by the same.

    folders     the first has the record
    apart_from  keys that are not compared, as long as they are not known
    """
    folder, record = folders[0], read(folders[0] / RECORD)
    if record is None:
        held = [each for each in folders if _holds(each)]
        return Found("foreign", (str(held[0]),)) if held else Found("nothing")
    own, stored = plain(decides), record["decides"]
    changed = tuple(
        key
        for key in sorted({*own, *stored})
        if own.get(key) != stored.get(key) and key not in apart_from
    )
    if record["state"] != "finished":
        return Found("started", changed=changed)
    held = record["files"]
    damaged = [name for name, digest in held.items() if not _is(base / name, digest)]
    if changed or damaged:
        return Found("stale", changed=changed or tuple(damaged))
    return Found("done", (*held, _relative(folder / RECORD, base)))


def read(path: Path) -> dict[str, Any] | None:
    """A record; None where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        return None
    if found.get("state") not in ("started", "finished"):
        return None
    if not isinstance(found.get("decides"), dict) or not isinstance(found.get("files", {}), dict):
        return None
    return found


def unfinished(folder: Path) -> bool:
    """Whether a folder was being filled when that ended: what it holds is then of before, or of
    both."""
    record = read(folder / RECORD)
    return record is not None and record["state"] != "finished"


def _holds(folder: Path) -> bool:
    """Whether a folder has more than what a kill left of a writing."""
    return folder.is_dir() and any(
        not (path.name.startswith(".") and path.name.endswith(".part")) for path in folder.iterdir()
    )


def _is(path: Path, digest: Any) -> bool:
    return path.is_file() and sha256(path) == digest


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps({"format": _FORMAT, **content}, indent=1).encode())
