"""Where a shared vector lies: in a folder, or in a repository of the hub.

Knows nothing of what is in its files.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from workbench.loading import hub

VECTOR, CARD, README = "vector.safetensors", "card.json", "README.md"


def find_folder(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of that name, or of a repository of that name: this machine's copy of it first,
    then the hub's. What lies in it is not looked at.

    Raises FileNotFoundError where there is none, with names near to it, or where no network is
    there to look for it; and as the hub's client does.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if not _may_be_asked_for(name):
        file = Path(name).expanduser().is_file()
        why = "that is a file: give the folder that it lies in" if file else "no such folder"
        raise FileNotFoundError(_no_vector(name, why))
    cached = hub.cached_folder(name, CARD, revision)
    if cached is not None and (cached / VECTOR).is_file():
        return cached
    reason = hub.no_connection()
    if reason is not None:
        raise FileNotFoundError(
            _no_vector(name, f"no such folder, no copy of such a repository, and {reason}")
        )
    wanted = [VECTOR, CARD, README]
    try:
        return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=wanted))
    except RepositoryNotFoundError:
        why = "no such folder, and no repository of the hub that this token may read"
        raise FileNotFoundError(_no_vector(name, why)) from None


def _may_be_asked_for(name: str) -> bool:
    """Whether the hub may have a repository of that name."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _no_vector(name: str, why: str) -> str:
    """That no shared vector is there, and which are, of nearly that name: folders beside it, and
    repositories of which this machine has a copy."""
    path = Path(name).expanduser()
    beside = path.parent.glob(f"*/{CARD}") if path.parent.is_dir() else ()
    near = difflib.get_close_matches(path.name, [card.parent.name for card in beside], n=3)
    close = [str(Path(name).parent / each) for each in near]
    kept = [each for each in hub.cached_names() if hub.cached_folder(each, CARD)]
    close += difflib.get_close_matches(name, kept, n=3)
    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"no shared vector {name!r}: {why}{meant}"
