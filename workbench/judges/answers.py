"""What raters answered, kept on disk as it comes: one file per question, by its content.

An answer that was paid for is never asked for again, malformed ones included. Knows nothing of
what is in an answer.
"""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench.support.store import write_atomically


@dataclass(frozen=True)
class Answer:
    """One answer of a service.

    stop    why it ended, in the service's words
    source  the batch that it came in, "" for none; a batch is counted once however often it is read
    """

    text: str
    stop: str
    input_tokens: int
    output_tokens: int
    source: str = ""


class Answers:
    """All answers to each question, first to last. Safe among threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, tuple[Answer, ...]] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> tuple[Answer, ...]:
        """The answers to the question with this key; a damaged file counts as none."""
        with self._lock:
            if key not in self._known:
                self._known[key] = _load(self._path(key))
            return self._known[key]

    def add(self, key: str, answer: Answer) -> bool:
        """Keep an answer, on disk before this returns; False if it is known from the same batch.

        A full disk costs a warning, not the answer.
        """
        known = self.of(key)
        if answer.source and any(answer.source == former.source for former in known):
            return False
        with self._lock:
            self._known[key] = (*known, answer)
            content = json.dumps([asdict(each) for each in self._known[key]]).encode()
            digest = hashlib.sha256(content).hexdigest().encode()
            try:
                write_atomically(self._path(key), digest + b"\n" + content)
            except OSError as error:
                warnings.warn(f"a paid answer is not cached: {error}", stacklevel=2)
        return True

    def _path(self, key: str) -> Path:
        return self._directory / key[:2] / f"{key}.json"


def _load(path: Path) -> tuple[Answer, ...]:
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return ()
    if hashlib.sha256(content).hexdigest().encode() != digest:
        return ()
    return tuple(Answer(**each) for each in json.loads(content))
