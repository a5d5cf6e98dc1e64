"""How long work is asked to stop: by an event, or by Ctrl-C; where it stops is its own affair."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stopping(stop: threading.Event | None) -> Iterator[Callable[[], bool]]:
    """Whether to stop: because of `stop`, or of the first Ctrl-C. A second one interrupts."""
    interrupted = threading.Event()

    def is_set() -> bool:
        return interrupted.is_set() or (stop is not None and stop.is_set())

    if threading.current_thread() is not threading.main_thread():
        yield is_set
        return
    former = signal.getsignal(signal.SIGINT)

    def note(*_: Any) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, former)

    signal.signal(signal.SIGINT, note)
    try:
        yield is_set
    finally:
        signal.signal(signal.SIGINT, former)
