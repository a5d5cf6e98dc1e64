"""The record of a whole run, or of one part of a cluster: which jobs there are and how each stands.

    runs/<id>/shard-<i>-of-<n>.json

<id> names what is asked for, whoever does it, so that the parts of a cluster find each other. It is
written anew after every job, and says which files the job has, with their sha256.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.runs.jobs import Job
from workbench.runs.records import key_of, plain, sha256
from workbench.support.store import write_atomically

FOLDER = "runs"
FORMAT = "workbench.runs/1"
# Seconds between two writings: a record of thousands of jobs is long.
_EVERY = 5.0
#: How a job may stand at the end.
TO_DO, DONE, ALREADY, IMPOSSIBLE, MISSING, FAILED, STOPPED, LEFT = (
    "to do",
    "done",
    "already there",
    "impossible",
    "missing",
    "failed",
    "stopped",
    "not begun",
)


@dataclass
class Journal:
    """How the jobs of a run stand.

    base   the base directory
    plan   what is asked for, as JSON values, with the names of all jobs that are possible
    shard  "i/n"
    """

    base: Path
    plan: dict[str, Any]
    shard: str
    weights: str | None = None
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    _written: float = -math.inf

    @property
    def identity(self) -> str:
        return key_of(self.plan)

    @property
    def path(self) -> Path:
        part = self.shard.replace("/", "-of-")
        return self.base / FOLDER / self.identity / f"shard-{part}.json"

    def note(self, job: Job, status: str, said: str = "", files: Sequence[str] = ()) -> None:
        """Say how a job stands."""
        own = {name: sha256(self.base / name) for name in files}
        self.entries[str(job)] = {"status": status, "said": said, "files": own}

    def count(self, *statuses: str) -> int:
        """How many jobs stand so."""
        return sum(entry["status"] in statuses for entry in self.entries.values())

    def write(self, *, soon: bool = False) -> None:
        """Put it on disk; `soon` only if that was not done a moment ago. Raises OSError."""
        if soon and time.monotonic() - self._written < _EVERY:
            return
        self._written = time.monotonic()
        content = {
            "format": FORMAT,
            "plan": self.plan,
            "shard": self.shard,
            "weights": self.weights,
            "jobs": self.entries,
        }
        write_atomically(self.path, json.dumps(content, indent=1).encode())

    @property
    def summary(self) -> str:
        """All in one line."""
        kinds = (TO_DO, DONE, ALREADY, IMPOSSIBLE, MISSING, FAILED, STOPPED, LEFT)
        found = [f"{self.count(kind)} {kind}" for kind in kinds if self.count(kind)]
        return ", ".join(found) or "nothing to do"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its journal, and the signal that stopped it (0: none)."""

    journal: Journal
    signal: int = 0
    idle: bool = False

    @property
    def exit_code(self) -> int:
        """0 where something was done, or was there already, and nothing failed; 128 + the signal
        where one stopped it; else 1. A part of a cluster without work of its own has not failed."""
        if self.signal:
            return 128 + self.signal
        if self.journal.count(FAILED):
            return 1
        useful = self.journal.count(TO_DO, DONE, ALREADY)
        return 0 if self.idle or useful else 1


def open_plan(asked: Mapping[str, Any], jobs: Sequence[Job]) -> dict[str, Any]:
    """What is asked for, with the names of the jobs that are possible."""
    return plain({**asked, "jobs": [str(job) for job in jobs if not job.impossible]})
