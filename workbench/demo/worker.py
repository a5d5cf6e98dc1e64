"""One thread for all that touches the model; what is asked last wins.

A task that is submitted stops the one that runs and takes the place of one that waits: nothing
queues, and the model is never used twice at once. This module knows nothing of models or pages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

Task = Callable[[threading.Event], None]
CLOSED = "this demo is closed; make a new one"


class Worker:
    """A background thread that does the latest task.

    A task gets an event that is set when it shall stop, and looks at it often. What it raises goes
    to `failed`; `changed` is called when a task begins and when nothing runs any more. Both in the
    thread of the worker.
    """

    def __init__(
        self, failed: Callable[[Exception], None], changed: Callable[[], None] = lambda: None
    ) -> None:
        self._failed = failed
        self._changed = changed
        self._change = threading.Condition()
        self._waiting: Task | None = None
        self._running: threading.Event | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="workbench-demo", daemon=True)
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Do this as soon as what runs has stopped. Raises RuntimeError once closed."""
        with self._change:
            if self._closed:
                raise RuntimeError(CLOSED)
            self._waiting = task
            self._stop_running()
            self._change.notify_all()

    def follow(self, task: Task, after: threading.Event) -> bool:
        """From within a task: do this next, unless that task (its event is `after`) was stopped or
        another one waits. Whether it will be done."""
        with self._change:
            if self._closed or after.is_set() or self._waiting is not None:
                return False
            self._waiting = task
            return True

    def stop(self) -> None:
        """Stop what runs, and drop what waits."""
        with self._change:
            self._waiting = None
            self._stop_running()

    @property
    def busy(self) -> bool:
        """Whether a task runs or waits."""
        with self._change:
            return self._running is not None or self._waiting is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs or waits; whether that came true within `timeout` seconds.

        Raises RuntimeError from within a task, which would wait for itself.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a task cannot wait for its own worker")
        with self._change:
            return self._change.wait_for(
                lambda: self._running is None and self._waiting is None, timeout
            )

    def close(self) -> None:
        """Stop, and wait until the thread is gone. Closing twice is closing."""
        with self._change:
            self._closed = True
            self._waiting = None
            self._stop_running()
            self._change.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _stop_running(self) -> None:
        if self._running is not None:
            self._running.set()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._waiting is not None)
                if self._closed:
                    return
                task, self._waiting = self._waiting, None
                stop = self._running = threading.Event()
            self._guarded(self._changed)
            if task is not None:
                self._guarded(partial(task, stop))
            # Nothing of a finished task is kept alive while the thread waits.
            task = None
            with self._change:
                self._running = None
                self._change.notify_all()
            self._guarded(self._changed)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Whatever a task or a listener raises, the thread lives on."""
        try:
            act()
        except Exception as error:
            with suppress(Exception):
                self._failed(error)
