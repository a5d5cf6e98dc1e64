"""One browser for all pictures that a process draws.

It starts with the first of them, which takes longer than drawing any, and ends with the process.
Knows nothing of figures but that kaleido draws them, and needs Chrome or Chromium.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Coroutine, Sequence
from functools import cache
from typing import Any, TypeVar

from kaleido import Kaleido

Result = TypeVar("Result")

# Seconds after which it counts as hung: when it starts, a drawing (kaleido gives up one after 90),
# and when it ends.
START, DRAW, END = 90, 100, 15


class Browser:
    """A browser without a window, in a thread of its own, as notebooks have a loop of their own.

    Raises kaleido's ChromeNotFoundError where there is none, choreographer's BrowserFailedError
    where it does not start, TimeoutError where it hangs.
    """

    def __init__(self) -> None:
        # Without MathJax, which would come from the network: a picture must not depend on that.
        self.kaleido = Kaleido(mathjax=False)
        self.owner = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="browser", daemon=True)
        self.thread.start()
        atexit.register(self.close)
        try:
            self._wait(self.kaleido.open(), START)
        except BaseException:
            self.close()
            raise

    def write(self, drawings: Sequence[dict[str, Any]]) -> list[Exception]:
        """Draw figures as kaleido describes them (`fig`, `path`, `opts`); what went wrong with
        those whose file is not there. After that, or an interrupt, the browser is ended."""
        try:
            work = self.kaleido.write_fig_from_object(drawings)
            errors = list(self._wait(work, DRAW * len(drawings)))
        except Exception as error:  # the browser broke down, or hangs
            errors = [error]
        except BaseException:
            self.close()
            raise
        if errors:
            self.close()
        return errors

    @property
    def runs(self) -> bool:
        """Whether its process is there."""
        return self.kaleido.subprocess.poll() is None

    def close(self) -> None:
        """End the browser and its thread, whatever state they are in."""
        atexit.unregister(self.close)
        if os.getpid() != self.owner or not self.loop.is_running():  # a fork has neither
            return
        with contextlib.suppress(Exception):
            self._wait(self.kaleido.close(), END)
        process = getattr(self.kaleido, "subprocess", None)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(END)

    def _wait(self, work: Coroutine[Any, Any, Result], seconds: float) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)


def browser() -> Browser:
    """The browser of this process, started anew if it ended. Raises as `Browser`."""
    found = _browser(os.getpid())
    if not found.runs:
        found.close()
        _browser.cache_clear()
    return _browser(os.getpid())


@cache
def _browser(process: int) -> Browser:
    """A fork is another process, which shares nothing with this one's."""
    return Browser()
