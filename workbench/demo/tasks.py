"""What the worker is asked to do for a sitting, and what makes room for what.

A training with its sweep makes room for texts and goes on after them; a text gives way to the next
one. Whatever goes wrong is said. Knows nothing of who asks.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, Protocol

from workbench.demo import work
from workbench.demo.making import Making
from workbench.demo.state import State
from workbench.demo.worker import Worker


class Sitting(Protocol):
    """Whose tasks these are: see `session.Session`."""

    lock: Any
    state: State
    made: Making

    def note(self, message: str) -> None: ...
    def change(self, **values: Any) -> None: ...
    def current(self) -> bool: ...


class Tasks:
    """All that touches the model, one thing at a time.

    worker  does it
    wanted  what was asked to be trained and swept, and is not done yet
    """

    def __init__(self, sitting: Sitting, changed: Callable[[], None]) -> None:
        """`changed` is called when something begins, and when nothing runs any more."""
        self.wanted: State | None = None
        self.worker = Worker(self._failed, changed)
        self._sitting = sitting
        self._composing: State | None = None  # what was asked to be composed last
        self._first = True  # no sweep has ended yet

    # ---- what is asked --------------------------------------------------------------------------

    def train(self, state: State) -> None:
        """Make the vector of a state, write both texts, then sweep."""
        self.wanted = state
        self.worker.submit(lambda stop: self._train_and_sweep(state, stop))

    def write(self, state: State) -> None:
        """Write both texts of a state."""
        self.worker.submit(lambda stop: self._write(state, stop))

    def compose(self, state: State) -> None:
        """Write the text of a state's mix."""
        self._composing = state
        self.worker.submit(lambda stop: self._compose(state, stop))

    def drop(self) -> None:
        """Stop the text that is being written; a training or sweep goes on."""
        self.worker.submit(self._go_on)

    def stop(self) -> None:
        """Stop all."""
        self.wanted = self._composing = None
        self.worker.stop()

    # ---- what the worker does -------------------------------------------------------------------

    def _train_and_sweep(self, state: State, stop: threading.Event) -> None:
        made = self._sitting.made
        try:
            made.train(state, stop)
            if not self._sitting.current():
                self._write_beside(stop)
            made.sweep(state, stop)
        except work.Stopped:
            if self.wanted is None:  # else it only makes room for a text
                self._sitting.note("Stopped.")
        except Exception:
            self._done(state)
            raise
        else:
            self._done(state)
            self._to_recommended(stop)
        finally:
            made.rest()

    def _write_beside(self, stop: threading.Event) -> None:
        """Both texts before the sweep, which does not hang on the prompt: a bad one is said."""
        try:
            self._sitting.made.write(self._sitting.state, stop)
        except ValueError as error:
            self._failed(error)

    def _to_recommended(self, stop: threading.Event) -> None:
        """Somebody who has not touched the slider yet sees at once what steering does: only after
        the first sweep, since a slider at 0 is later meant to be there."""
        with self._sitting.lock:
            first, self._first = self._first, False
            ceiling = self._sitting.made.ceiling
            if (
                not first
                or ceiling is None
                or self._sitting.state.coefficient != 0
                or 1 not in ceiling.sides
            ):
                return
            best = ceiling[1].recommended.value
            if math.isnan(best):
                return
            self._sitting.change(coefficient=round(best, 3))
            state = self._sitting.state
            self.worker.follow(lambda later: self._write(state, later), after=stop)

    def _write(self, state: State, stop: threading.Event) -> None:
        try:
            self._sitting.made.write(state, stop)
        except work.Stopped:
            self._sitting.made.rest()
        finally:
            self._go_on(stop)

    def _compose(self, state: State, stop: threading.Event) -> None:
        try:
            self._sitting.made.compose(state, stop)
        except work.Stopped:
            if self._composing is None:  # else another text takes its place
                self._sitting.note("Stopped.")
        except ValueError as error:  # of what was chosen: its words suffice
            self._sitting.note(str(error))
        finally:
            self._sitting.made.rest()
            self._go_on(stop)

    def _go_on(self, stop: threading.Event) -> None:
        """A training or sweep that made room."""
        wanted = self.wanted
        if wanted is not None:
            self.worker.follow(lambda later: self._train_and_sweep(wanted, later), after=stop)

    def _done(self, state: State) -> None:
        with self._sitting.lock:
            if self.wanted is state:
                self.wanted = None

    def _failed(self, error: Exception) -> None:
        self._sitting.note(f"{type(error).__name__}: {error}")
