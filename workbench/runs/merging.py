"""The parts of a cluster put together: their files in one base directory, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.runs.journal import ALREADY, DONE, FOLDER, FORMAT, IMPOSSIBLE
from workbench.runs.records import RECORD, read, sha256
from workbench.support.store import write_atomically

_FINISHED = (DONE, ALREADY)
_SUPERSEDED = "done again by another run"


@dataclass(frozen=True)
class Merged:
    """What came of it: files that were copied, and jobs that no part has finished."""

    copied: int
    missing: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self.missing else 0


def merge(target: Path, sources: Sequence[Path], say: Callable[[str], None] = print) -> Merged:
    """Copy what the parts of a run have finished into one base directory.

    target   the base directory that is to hold all; it may be one of the sources, or there may be
             none, to ask only whether all parts are there
    sources  the base directories of the parts

    Every file is checked against the sha256 in its part's record. Files are copied whole or not at
    all, and nothing that differs is written over.

    Raises FileNotFoundError for a source without records, and ValueError, before anything is
    copied, for records of different model weights, a damaged file, two parts that differ in the
    same file, and a file of the target that is another.
    """
    folders = [Path(source) for source in sources] or [Path(target)]
    runs: dict[str, list[_Part]] = {}
    for folder in folders:
        for path in _records(folder):
            part = _Part(folder, _read(path))
            part.leave_out_superseded()
            runs.setdefault(path.parent.name, []).append(part)
    gone = [identity for identity, parts in runs.items() if _done_again(parts)]
    for identity in gone:
        say(f"run {identity}: all of it was done again by a later run, so it is left out")
        del runs[identity]
    target, copies, missing = Path(target), {}, []
    for identity, parts in runs.items():
        weights = {part.record["weights"] for part in parts if part.record["weights"]}
        if len(weights) > 1:
            raise ValueError(
                f"the parts of run {identity} used different model weights "
                f"({', '.join(sorted(w[:12] for w in weights))}): run them again on one"
            )
        for part in parts:
            for name, digest in part.files.items():
                _take(copies, part.folder, name, digest)
    for name, (source, digest) in copies.items():
        place = target / name
        if place.is_file() and place.resolve() != source.resolve() and sha256(place) != digest:
            raise ValueError(f"{str(place)!r} is there and differs from {str(source)!r}")
    fresh = {name: source for name, (source, _) in copies.items() if not (target / name).is_file()}
    for name, source in fresh.items():
        write_atomically(target / name, source.read_bytes())
    for identity, parts in runs.items():
        left = _unite(target, identity, [part.record for part in parts])
        whole = len(parts[0].record["plan"]["jobs"])
        told = f"{whole - len(left)} of {whole} jobs finished, in {len(parts)} part(s)"
        say(f"run {identity}: {told}")
        missing += [f"run {identity}: {name}" for name in left]
    for name in missing:
        say(f"missing: {name}")
    say(f"{len(fresh)} files copied into {str(target)!r}")
    return Merged(len(fresh), tuple(missing))


@dataclass
class _Part:
    """A record, and the base directory that it was found in."""

    folder: Path
    record: dict[str, Any]

    @property
    def files(self) -> dict[str, str]:
        """Name -> sha256 of the files of its finished jobs."""
        entries = self.record["jobs"].values()
        done = [entry["files"] for entry in entries if entry["status"] in _FINISHED]
        return {name: digest for own in done for name, digest in own.items()}

    def leave_out_superseded(self) -> None:
        """Count jobs whose folder a later run filled anew as not finished by this one."""
        for entry in self.record["jobs"].values():
            names = [name for name in entry["files"] if name.endswith(f"/{RECORD}")]
            if entry["status"] in _FINISHED and any(
                self._filled_anew(name, entry["files"][name]) for name in names
            ):
                entry["status"], entry["files"] = _SUPERSEDED, {}

    def _filled_anew(self, name: str, digest: str) -> bool:
        path = _inside(self.folder, name)
        found = read(path)
        return found is not None and found["state"] == "finished" and sha256(path) != digest


def _done_again(parts: Sequence[_Part]) -> bool:
    """Whether other runs did again all that the parts of a run had done."""
    entries = (entry for part in parts for entry in part.record["jobs"].values())
    return {entry["status"] for entry in entries} - {IMPOSSIBLE} == {_SUPERSEDED}


def _records(folder: Path) -> list[Path]:
    found = sorted((folder / FOLDER).glob("*/shard-*.json"))
    if not found:
        raise FileNotFoundError(
            f"{str(folder)!r} holds no record of a run ({FOLDER}/*/shard-*.json): give the base "
            "directories of the parts"
        )
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text("utf-8"))
        known = record["format"] == FORMAT and isinstance(record["plan"]["jobs"], list)
        for entry in record["jobs"].values():
            known = known and isinstance(entry["status"], str) and isinstance(entry["files"], dict)
        if not known or "weights" not in record:
            raise ValueError("another format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no record of a run: {error!r}") from None
    return record


def _inside(folder: Path, name: str) -> Path:
    """A file that a record names. Records are from other machines, so their paths are checked."""
    place = PurePosixPath(name)
    source = folder / place
    plain = not place.is_absolute() and ".." not in place.parts
    if not plain or not source.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"a record in {str(folder)!r} names a file outside it: {name!r}")
    return source


def _take(copies: dict[str, tuple[Path, str]], folder: Path, name: str, digest: str) -> None:
    """Plan the copy of one file."""
    source = _inside(folder, name)
    if not source.is_file() or sha256(source) != digest:
        raise ValueError(f"{str(source)!r} is missing or damaged: run its part again")
    if name in copies and copies[name][1] != digest:
        raise ValueError(
            f"{str(copies[name][0])!r} and {str(source)!r} differ: two parts did the same work "
            "with other results; keep one of them"
        )
    copies.setdefault(name, (source, digest))


def _unite(target: Path, identity: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """Write one record of all parts; the jobs that none of them has finished."""
    jobs: dict[str, Any] = {}
    for record in records:
        for name, entry in record["jobs"].items():
            if name not in jobs or jobs[name]["status"] not in _FINISHED:
                jobs[name] = entry
    plan = records[0]["plan"]
    content = {**records[0], "shard": "1/1", "jobs": jobs}
    content["weights"] = next((r["weights"] for r in records if r["weights"]), None)
    path = target / FOLDER / identity / "shard-1-of-1.json"
    write_atomically(path, json.dumps(content, indent=1).encode())
    return [
        name for name in plan["jobs"] if jobs.get(name, {"status": ""})["status"] not in _FINISHED
    ]
