"""What the package says of its work, through the standard logging module; silent until asked.

Each module that has something to say has a logger of its own name, such as
"workbench.extraction.extract". `log_to` writes what they say to a file, `stop` ends that; all else
that logging can do works too.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from workbench.support.checks import require_lists

_FOLDER = Path(__file__).resolve().parents[1]
_PACKAGE = logging.getLogger(_FOLDER.name)
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _File(logging.FileHandler):
    """A file of `log_to`: the least level of each module that speaks ("" for all), and the
    package's own level from before."""

    def __init__(self, path: Path, levels: Mapping[str, int], before: int) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(logging.Formatter(_FORMAT))
        self.levels = levels
        self.before = before
        self.addFilter(self._speaks)

    def _speaks(self, record: logging.LogRecord) -> bool:
        """Whether the most closely named of the modules lets the record through."""
        name = record.name.removeprefix(_PACKAGE.name).removeprefix(".")
        named = [m for m in self.levels if not m or f"{name}.".startswith(f"{m}.")]
        return bool(named) and record.levelno >= self.levels[max(named, key=len)]


def log_to(
    path: str | os.PathLike[str] | None = None,
    level: str | int = "INFO",
    modules: Sequence[str] | Mapping[str, str | int] | None = None,
) -> Path:
    """Write to a file what the package says from now on, and return the file's path.

    path     a file, which is added to, or a folder; None: the current folder. In a folder the file
             is called by the day: workbench-2026-01-31.log
    level    the least that is written: "DEBUG", "INFO", "WARNING", "ERROR"
    modules  which modules speak, by names such as "extract" or "wren" (with all in it); in a
             mapping each with a level of its own, and "" for all others; None: all

    The same path again changes the level and the modules of what is written there. `stop` ends it.
    Raises ValueError for an unknown level or module; OSError where the file cannot be written.
    """
    least = _level(level)
    if isinstance(modules, Mapping):
        levels = {name: _level(own) for name, own in modules.items()}
    else:
        require_lists(modules=modules)
        levels = dict.fromkeys([""] if modules is None else modules, least)
    _check_modules(levels)
    given = _whole(Path.cwd() if path is None else path)
    file = given / f"{_PACKAGE.name}-{datetime.now():%Y-%m-%d}.log" if given.is_dir() else given
    file.parent.mkdir(parents=True, exist_ok=True)
    before = next((handler.before for handler in _handlers()), _PACKAGE.level)
    handler = _File(file, levels, before)
    stop(file)
    _PACKAGE.addHandler(handler)
    _settle(before)
    return file


def stop(path: str | os.PathLike[str] | None = None) -> None:
    """Write no more to a file of `log_to` (None: to any of them); nothing where none is written."""
    for handler in _handlers():
        if path is None or _whole(path) == Path(handler.baseFilename):
            _PACKAGE.removeHandler(handler)
            handler.close()
            _settle(handler.before)


def files() -> tuple[Path, ...]:
    """The files that are written to at present."""
    return tuple(Path(handler.baseFilename) for handler in _handlers())


def _whole(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))


def _handlers() -> list[_File]:
    return [handler for handler in _PACKAGE.handlers if isinstance(handler, _File)]


def _settle(before: int) -> None:
    """Let the package's loggers say what some file wants, or what they said before."""
    wanted = [least for handler in _handlers() for least in handler.levels.values()]
    _PACKAGE.setLevel(min(wanted, default=before))


def _level(level: str | int) -> int:
    known = logging.getLevelNamesMapping()
    name = logging.getLevelName(level) if isinstance(level, int) else str(level).upper()
    if isinstance(level, bool) or known.get(name, 0) == 0:
        raise ValueError(f"level {level!r} is unknown; choose one of DEBUG, INFO, WARNING, ERROR")
    return known[name]


def _check_modules(names: Collection[str]) -> None:
    """Raise ValueError for a name that is no module of the package, and for no name at all."""
    if not names:
        raise ValueError("modules is empty; name those that speak, or give None for all")
    parts = [file.relative_to(_FOLDER).with_suffix("").parts for file in _FOLDER.rglob("*.py")]
    known = {"", *(".".join(part[:end]) for part in parts for end in range(1, len(part) + 1))}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            meant = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"the package has no module {name!r}{meant}")
