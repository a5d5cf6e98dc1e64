"""A process that is killed as it puts a file in its place."""

import os
import signal


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
