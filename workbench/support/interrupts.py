"""How long work is asked to stop: by an event, or by Ctrl-C; where it stops is its own affair."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stopping(stop: threading.Event | None) -> Iterator[Callable[[], bool]]:
    """Whether to stop: because of `stop`, or of the first Ctrl-C, which sets `stop` for those who
    come after. A second one is for whoever handled Ctrl-C before."""
    asked = threading.Event() if stop is None else stop
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    former = signal.getsignal(signal.SIGINT)

    def note(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, former)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, former)
