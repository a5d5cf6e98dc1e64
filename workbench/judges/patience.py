"""Sending over a network that fails: what is worth another try, how long to wait, when to give up.

Works on the errors of the `anthropic` and `openai` SDKs, which are built alike, without importing
either; so the SDKs' own retries are off.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

# Tries of one request, the first included: half a minute of waiting in all.
TRIES = 6
# Seconds: the longest wait of our own, and the longest that a service may ask for.
LONGEST, OBEYED = 60.0, 600.0
# Requests that fail for good, one after the other, before nothing more is asked.
IN_A_ROW = 3

_BUSY = (408, 409, 425, 429)
# Nothing that is sent with this key, to this model, can succeed.
_HOPELESS = (401, 402, 403, 404)


class Unreadable(Exception):
    """A response that is not what the service says it sends."""


class Failed(Exception):
    """A request that is given up; the message says why."""


class Patience:
    """How requests of one run are sent. Safe among threads.

    sleep   waits so many seconds
    lost    why nothing more is asked, "" as long as there is hope
    """

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep
        self._failures = 0
        self._lock = threading.Lock()
        self.lost = ""

    def send(self, request: Callable[[], T]) -> T:
        """What `request()` returns, tried again after 429, 5xx, timeouts, dropped connections and
        unreadable responses.

        Raises Failed when tries run out, when the service refuses, or when all hope is lost; other
        errors are none of its business.
        """
        for attempt in range(TRIES):
            if self.lost:
                raise Failed(f"not asked, as {self.lost}")
            try:
                result = request()
            except Exception as error:
                if not is_trouble(error):
                    raise
                reason = describe(error)
                if is_hopeless(error):
                    self.give_up(reason)
                    raise Failed(reason) from error
                if not is_passing(error):
                    raise Failed(reason) from error
                if attempt + 1 == TRIES:
                    self._note_failure(reason)
                    raise Failed(f"{reason}, after {TRIES} tries") from error
                self.sleep(_wait(error, attempt))
            else:
                with self._lock:
                    self._failures = 0
                return result
        raise AssertionError("unreachable")

    def give_up(self, reason: str) -> None:
        """Ask nothing more."""
        self.lost = self.lost or reason

    def _note_failure(self, reason: str) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= IN_A_ROW:
                self.give_up(f"{IN_A_ROW} requests in a row failed ({reason})")


def is_trouble(error: Exception) -> bool:
    """Whether an error comes from the service or the way to it, rather than from our code."""
    package = type(error).__module__.split(".")[0]
    return package in ("anthropic", "openai", "httpx", "httpx2", "httpcore", "httpcore2") or (
        isinstance(error, json.JSONDecodeError | UnicodeDecodeError | Unreadable)
    )


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    status = _status(error)
    return status is None or status < 400 or status in _BUSY or status >= 500


def is_hopeless(error: Exception) -> bool:
    """Whether no other request can succeed either: a wrong key or model, no money left."""
    return _status(error) in _HOPELESS or getattr(error, "code", None) == "insufficient_quota"


def may_have_arrived(error: Exception) -> bool:
    """Whether the service may have done, and charged for, what was asked: it answered, or may have,
    and the answer was lost."""
    status = _status(error)
    return status is None or status < 400


def is_refused(error: Exception) -> bool:
    """Whether the service says that it did not do what was asked, for a reason of the request's."""
    status = _status(error)
    return status is not None and 400 <= status < 500


def describe(error: Exception) -> str:
    """One line: the kind of error, what caused it, and what the service said."""
    said = " ".join(str(getattr(error, "message", "") or error).split()) or "no message"
    kind = type(error).__name__
    cause = f", {type(error.__cause__).__name__}" if error.__cause__ is not None else ""
    return f"{kind}{cause}: {said}"[:300]


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _wait(error: Exception, attempt: int) -> float:
    """Seconds before the next try: what the service asks for, else 1, 2, 4, … with some jitter, so
    that threads that failed together do not come back together."""
    response: Any = getattr(error, "response", None)
    asked = response.headers.get("retry-after", "") if response is not None else ""
    try:
        return min(OBEYED, max(0.0, float(asked)))
    except ValueError:
        return min(LONGEST, 2.0**attempt) * random.uniform(0.75, 1.25)
