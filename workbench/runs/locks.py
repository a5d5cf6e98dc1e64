"""One process at a time: a lock beside what it fills, which ends with the process."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # a system without: nothing is locked there
    fcntl = None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep others from what lies at `path`, which need not be there yet.

    The system lifts the lock when its process ends, however that ends; what is left of its file
    then keeps nobody out. On a disk without locks there is none.

    Raises BlockingIOError that names the process that is there already, and OSError.
    """
    place = path.with_name(f".{path.name}.lock")
    new = [folder for folder in place.parents if not folder.exists()]  # the innermost first
    while True:
        with _opened(place) as file:
            _lock(file, path)
            if not _is(file, place):
                continue  # the one that had it removed it after it was opened here
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            try:
                yield
            finally:
                place.unlink(missing_ok=True)
                _remove_empty(new)
            return


def _opened(place: Path) -> IO[str]:
    while True:
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the one that had the folder removed it meanwhile
            return open(place, "a+", encoding="utf-8")


def _remove_empty(folders: Sequence[Path]) -> None:
    """A call that came to nothing, as of a model that is not there, leaves no folder behind."""
    with suppress(OSError):  # there is something in it
        for folder in folders:
            folder.rmdir()


def _lock(file: IO[str], path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        who = file.read() or "another process"
        raise BlockingIOError(
            f"{who} is at {str(path)!r}: wait for it or end it, then call again"
        ) from None
    except OSError:
        pass  # a disk without locks


def _is(file: IO[str], place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(place))
    except FileNotFoundError:
        return False
