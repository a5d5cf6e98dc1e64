"""Notes about batches that may be under way, one file each, so that a later run finds them.

Knows nothing of a service.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench.support.store import write_atomically


@dataclass(frozen=True)
class Note:
    """A batch that may exist.

    keys    its questions
    newest  the newest batch of the service before this one was sent, None if there was none
    batch   its id, None until the service has said it
    """

    keys: tuple[str, ...]
    newest: str | None
    batch: str | None = None

    def path(self, folder: Path) -> Path:
        content = json.dumps([self.newest, *self.keys])
        return folder / f"{hashlib.sha256(content.encode()).hexdigest()}.json"

    def write(self, folder: Path) -> None:
        """Keep the note, in place of the same without an id. Raises OSError (a full disk)."""
        write_atomically(self.path(folder), json.dumps(asdict(self)).encode())

    def remove(self, folder: Path) -> None:
        self.path(folder).unlink(missing_ok=True)


def read_notes(folder: Path) -> Iterator[Note]:
    """All notes in a folder."""
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        yield Note(**{**content, "keys": tuple(content["keys"])})
