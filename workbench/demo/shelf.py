"""A temporary place for the sweeps of one sitting: the latest few are kept, to be gone on with."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

# Somebody who goes back to an earlier choice finds its sweep; a day's worth fills no disk.
KEPT = 6


class Shelf:
    """Folders by name, in a temporary folder that ends with `close`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-demo-")
        self._names: list[str] = []

    def place(self, name: str) -> Path:
        """The folder of that name, now the latest; the oldest beyond KEPT are removed."""
        self._names = [*(other for other in self._names if other != name), name]
        while len(self._names) > KEPT:
            shutil.rmtree(Path(self._folder.name) / self._names.pop(0), ignore_errors=True)
        return Path(self._folder.name) / name

    def close(self) -> None:
        """Remove all."""
        self._folder.cleanup()
