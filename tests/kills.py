"""A process that is killed as it puts a file in its place."""

import os
import signal
import sys
from collections.abc import Callable


def die_at_write(count: int) -> None:
    """Kill this process at its write number `count`, counted from 0: the new file is there, but not
    yet in its place. For a forked child."""
    left, replace = [count], os.replace

    def killing(source: str, target: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = killing  # type: ignore[assignment]


def in_child(work: Callable[[], int], *, die_at: int | None = None) -> int:
    """Fork a process that does the work and ends with the status that it returns, 99 after an
    exception; it may be killed at a write. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if die_at is not None:
            die_at_write(die_at)
        os._exit(work())
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(99)
