"""Where a model's files come from: this machine first, the network only where it answers.

The hub's client retries an unreachable server for most of a minute. Here a file that is on
this machine is used without asking anyone, and a file that is not is looked for only after
a bounded connection attempt. A server that accepts the connection may then be as slow as
the hub's own timeouts allow. Knows nothing of models.
"""

import difflib
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import HfApi, constants, try_to_load_from_cache

T = TypeVar("T")

PROBE_SECONDS = 3.0


def cached_folder(
    name: str, file: str, revision: str | None = None, cache_dir: str | Path | None = None
) -> Path | None:
    """The directory in the hub's cache that holds `name` and, in it, `file`; None if none does.

    Loading from that directory asks the network nothing, where loading by name asks it for
    adapters and usage statistics even with `local_files_only=True`.
    """
    found = try_to_load_from_cache(name, file, cache_dir=cache_dir, revision=revision)
    return Path(found).parents[len(Path(file).parts) - 1] if isinstance(found, str) else None


def require_connection(name: str, *, local_files_only: bool = False) -> None:
    """Return if `name` may be asked for: the endpoint, or its proxy, accepts a connection.

    Raises:
        FileNotFoundError: it does not within `PROBE_SECONDS`, or the network is forbidden;
            with the likely causes.
    """
    reason = no_connection(local_files_only=local_files_only)
    if reason is not None:
        raise FileNotFoundError(_not_found(name, reason))


def no_connection(*, local_files_only: bool = False) -> str | None:
    """Why nothing may be asked for, or None where the endpoint, or its proxy, accepts a connection.
    Takes at most `PROBE_SECONDS`."""
    if local_files_only:
        return "local_files_only=True forbids the network"
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE forbids the network"
    return unreachable(constants.ENDPOINT)


def unreachable(endpoint: str, seconds: float = PROBE_SECONDS) -> str | None:
    """Why no connection to `endpoint` can be opened, or None if one can.

    Looks up the host (or the proxy that the environment names for it) and opens a TCP
    connection to any of its addresses; nothing is sent. Takes at most `seconds` in all,
    even where the name server never answers.
    """
    url = urlsplit(endpoint)
    host = url.hostname or ""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(host):
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    where = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"  # without a proxy's password
    port = url.port or {"https": 443, "http": 80, "socks5": 1080, "socks5h": 1080}.get(url.scheme)
    if not url.hostname or port is None:
        return f"{where!r} is not an http address"
    deadline = time.monotonic() + seconds
    look_up = partial(socket.getaddrinfo, url.hostname, port, type=socket.SOCK_STREAM)
    try:
        addresses = _first([look_up], deadline)
        _first([partial(_connect, *address, seconds) for address in addresses], deadline)
    except OSError as error:
        return f"{where} cannot be reached ({error})"
    return None


def _connect(
    family: int, kind: int, protocol: int, _name: str, address: tuple, seconds: float
) -> None:
    with socket.socket(family, kind, protocol) as connection:
        connection.settimeout(seconds)
        connection.connect(address)


def _first(attempts: Sequence[Callable[[], T]], deadline: float) -> T:
    """The first attempt to succeed, all run at once; the last error if none does in time.

    Daemon threads, because a name look-up cannot be interrupted: one that hangs is left
    behind and does not hold up the end of the program.
    """
    answers: queue.Queue[tuple[T, None] | tuple[None, OSError]] = queue.Queue()

    def run(attempt: Callable[[], T]) -> None:
        try:
            answers.put((attempt(), None))
        except OSError as error:
            answers.put((None, error))

    for attempt in attempts:
        threading.Thread(target=run, args=(attempt,), daemon=True).start()
    failure = OSError("no address")
    for _ in attempts:
        try:
            result, error = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError("no answer") from None
        if error is None:
            return result  # type: ignore[return-value]
        failure = error
    raise failure


def cached_names() -> list[str]:
    """The model ids in the hub's cache on this machine, sorted."""
    cache = Path(constants.HF_HUB_CACHE)
    folders = cache.glob("models--*") if cache.is_dir() else ()
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def _not_found(name: str, reason: str) -> str:
    close = difflib.get_close_matches(name, [*cached_names(), "wren"], n=3)
    meant = f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""
    return (
        f"no model {name!r}: it is no directory, it is not complete in the cache "
        f"{constants.HF_HUB_CACHE}, and {reason}. It could be\n"
        f"  - a typo: check the name{meant}\n"
        "  - a model that was not downloaded yet: load it once with a connection, or pass the "
        "path of a copy\n"
        "  - no network: check the connection, the proxy, HF_ENDPOINT and HF_HUB_OFFLINE\n"
        "The bundled model 'wren' needs no network."
    )


def push_folder(
    save: Callable[[Path], object],
    repo_id: str,
    private: bool,
    token: str | None,
    own: Sequence[str] = (),
) -> str:
    """Upload what `save` writes into a folder as a model repository; the address of the commit.

    own  patterns of the names that an earlier upload may have left and this one has not: those
         files are deleted with it

    Raises ValueError, before anything is uploaded, for a repository that is public already where a
    private one is asked for, which the hub would not make of it; and as the client does.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "checkpoint"
        save(folder)
        api = HfApi(token=token)
        made = api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.repo_info(made.repo_id).private:
            raise ValueError(
                f"{made.repo_id!r} is public already, so that an upload would be too; pass "
                "private=False for that, or make it private on the hub first"
            )
        done = api.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            commit_message="Upload by workbench",
            delete_patterns=list(own) or None,
        )
    return str(done.commit_url)
