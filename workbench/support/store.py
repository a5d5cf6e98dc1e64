"""What is kept on disk: atomic writes, a cache of tensors, the chunks of a long run.

A file is either whole or not there: it is written beside its place and moved into it. What is
read back is checked against its own hash, and what fails the check counts as missing. This
module knows nothing of models.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

_log = logging.getLogger(__name__)


def write_atomically(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Put `content` at `path`, whole or not at all: bytes, or a function that writes a given path.

    Parent folders are made. Whatever goes wrong (a full disk, an interrupt), what was at `path`
    stays as it was and nothing is left beside it. Raises OSError that names `path`.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, f"could not write {str(path)!r}: it is a folder; give a file's name in it"
        )
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not mkstemp, whose files only their owner reads: a saved vector is an ordinary file.
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary = beside
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            content(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        blocking = next((str(up) for up in path.parents if up.is_file()), None)
        remedy = "free some space or choose another place"
        if blocking is not None:
            remedy = f"{blocking!r} is a file; give a folder"
        raise OSError(
            error.errno,
            f"could not write {str(path)!r} ({error.strerror or error}); what was there is "
            f"unchanged: {remedy}",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_folder(folder: Path, write: Callable[[Path], object], need: int = 0) -> Path:
    """Make a folder, whole or not at all: `write` fills one beside it, which is moved into place.

    `need` is how many bytes there must be room for. Raises FileExistsError for a folder that holds
    something already, and OSError that names the folder and has the number of what went wrong.
    """
    folder = folder.expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{str(folder)!r} holds something already; choose another folder")
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(parent).free
    if free < need:
        raise OSError(
            errno.ENOSPC,
            f"{str(folder)!r} takes {need / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; nothing "
            "was written: free some space or choose another place",
        )
    beside = parent / f".{folder.name}.{secrets.token_hex(8)}.part"
    try:
        beside.mkdir()
        write(beside)
        os.replace(beside, folder)
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else _system_error(error)
        full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OSError(
            number,
            f"could not write {str(folder)!r} ({error}); nothing of it is left"
            + (": free some space or choose another place" if full else ""),
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _system_error(error: SafetensorError) -> int | None:
    """The number of the operating system's error, which safetensors has in its message alone."""
    found = re.search(r"\bcode: (\d+)|os error (\d+)", str(error))
    return int(found[1] or found[2]) if found else None


def cache_directory() -> Path:
    """WORKBENCH_CACHE, or `workbench` in the user's cache directory."""
    chosen = os.environ.get("WORKBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "workbench"


def cache_path(kind: str, **key: str) -> Path:
    """The file of the cache that belongs to `key` (name -> value, all strings)."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_directory() / kind / f"{digest}.safetensors"


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.flatten().view(dtype=uint8).numpy().data)
    return digest.hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors atomically with a hash of their contents. Raises OSError."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"sha256": tensors_hash(plain)}

    def save(temporary: Path) -> None:
        try:
            save_file(plain, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(None, str(error)) from error

    write_atomically(path, save)


def load_tensors(path: Path) -> dict[str, Tensor] | None:
    """What `save_tensors` wrote; None when the file is missing, damaged or not of its making."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError):
        return None
    return tensors if tensors_hash(tensors) == expected else None


def cached(path: Path, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors from `path`, computed and put there when they are missing or damaged.

    A cache that cannot be written costs a warning, never the result.
    """
    found = load_tensors(path)
    _log.debug("%s %s", "found" if found is not None else "to be made:", path)
    if found is not None:
        return found
    tensors = dict(compute())
    try:
        save_tensors(path, tensors)
    except OSError as error:
        warnings.warn(f"the result is not cached: {error}", stacklevel=2)
    return tensors


def read_tensors(
    path: Path, kind: str, form: str, *, otherwise: str = ""
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of one of this package's safetensors files; nothing in it is ever run.

    kind       what it should hold, in words
    form       what its metadata call that
    otherwise  where to turn with a file of another kind

    Raises FileNotFoundError, and ValueError for a file that is damaged or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} at {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} is not a readable safetensors file ({error}); it is damaged or of "
            f"another kind{otherwise}"
        ) from None
    if metadata.get("format") != form:
        raise ValueError(
            f"{str(path)!r} is a safetensors file but holds no {kind} of this package "
            f"(format {metadata.get('format')!r}, expected {form!r})"
        )
    return metadata, tensors


@dataclass(frozen=True)
class Chunks:
    """Finished pieces of a long run in one directory, for resuming.

    `plan.json` is there before the first chunk and never changes; chunk i is a frame in
    `chunk-i.json` behind the sha256 of its bytes, columns of plain values with exact numbers.
    """

    directory: Path
    count: int

    def path(self, index: int) -> Path:
        return self.directory / f"chunk-{index:05d}.json"

    def save(self, index: int, frame: pd.DataFrame) -> None:
        """Keep the frame of chunk `index`; its index is not kept. Raises OSError (a full disk)."""
        table = {
            "dtypes": {name: str(dtype) for name, dtype in frame.dtypes.items()},
            "columns": {name: frame[name].tolist() for name in frame.columns},
        }
        content = json.dumps(table).encode()
        digest = hashlib.sha256(content).hexdigest().encode()
        write_atomically(self.path(index), digest + b"\n" + content)

    def load(self, index: int) -> pd.DataFrame | None:
        """The frame of chunk `index`; None when it is missing or damaged."""
        try:
            digest, _, content = self.path(index).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        table = json.loads(content)
        return pd.DataFrame(table["columns"]).astype(table["dtypes"])


def open_chunks(
    directory: str | os.PathLike[str], plan: Mapping[str, object], count: int
) -> Chunks:
    """Start or resume a run of `count` chunks.

    `plan`: everything that decides the result, as JSON values. It is stored before any chunk.
    Raises ValueError when the directory holds a run with another plan, naming what differs.
    """
    directory = Path(directory)
    own = json.loads(json.dumps({**plan, "count": count}))
    path = directory / "plan.json"
    if not path.exists():
        write_atomically(path, json.dumps(own, indent=1).encode())
        return Chunks(directory, count)
    try:
        stored = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(
            f"{str(path)!r} is damaged, so the run cannot be resumed; remove {str(directory)!r}"
        ) from None
    if stored != own:
        names = sorted(k for k in {*own, *stored} if own.get(k) != stored.get(k))
        raise ValueError(
            f"{str(directory)!r} holds another run: {', '.join(names)} differ; "
            "choose another directory, or remove this one"
        )
    return Chunks(directory, count)
