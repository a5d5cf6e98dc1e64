"""One sitting at the demo: a state, what came of it, and who is told. No widgets.

All that touches the model runs in one worker (worker.py). Listeners are called in its thread with
the name of what changed:

    "state" "busy" "progress" "trained" "sweep" "text" "message"
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench import models
from workbench.demo import work
from workbench.demo.code import as_python
from workbench.demo.state import State, from_json
from workbench.demo.worker import Worker
from workbench.live import Written
from workbench.marks import Ceiling
from workbench.vectors import SteeringVector

if TYPE_CHECKING:
    from workbench.models import LM

# Seconds between two pictures of a text that is being written: more would flood a page.
PACE = 1 / 25
# What a vector and a sweep depend on; the rest of a state changes texts alone.
_TRAINS = (
    "model", "style", "source", "data", "positive", "negative", "template", "method", "layer",
    "seed",
)  # fmt: skip


class Session:
    """A model, a state, and the vector, sweep and texts that were made of them.

    lm        the model in use
    state     what is chosen now
    trained   the vector in use, None before the first training
    frame     the sweep so far; `ceiling` what it says, None while it says nothing
    written   both texts so far; `written_as` the state of which they are, once they are whole
    progress  share of the sweep that is done, and seconds that are left (NaN: not known yet)
    message   what went wrong or was done last, in words
    """

    def __init__(self, lm: LM, state: State) -> None:
        self.lm = lm
        self.state = state
        self.trained: work.Trained | None = None
        self.trained_as: State | None = None
        self.frame: pd.DataFrame | None = None
        self.ceiling: Ceiling | None = None
        self.written = Written()
        self.written_as: State | None = None
        self.progress: tuple[float, float] = (0.0, float("nan"))
        self.message = ""
        self._listeners: list[Callable[[str], None]] = []
        self._sweeping = False
        self._swept = ("", 0)  # which sweep, and how many of its rounds were shown
        self._vectors: dict[str, SteeringVector] = {}
        self._path = state.model
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-demo-")
        self._worker = Worker(self._failed, lambda: self._tell("busy"))

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of whatever changes."""
        self._listeners.append(listener)

    # ---- what a user does -----------------------------------------------------------------------

    def change(self, **values: Any) -> None:
        """Choose. Raises ValueError, and changes nothing, for a value out of range."""
        self.state = replace(self.state, **values)
        self._tell("state")

    def restore(self, text: str) -> None:
        """Choose all as in a saved state. Raises ValueError for what is none."""
        self.state = from_json(text)
        self._tell("state")

    def train(self) -> None:
        """Make the vector of the state, write both texts, then sweep."""
        state = self.state
        self._sweeping = True
        self._worker.submit(lambda stop: self._train_and_sweep(state, stop))

    def steer(self) -> None:
        """Write both texts of the state, in place of those being written.

        A sweep that runs makes room and goes on afterwards. Without a vector nothing is written.
        """
        if self.trained is not None:
            state = self.state
            self._worker.submit(lambda stop: self._write(state, stop))

    def stop(self) -> None:
        """Stop all, within one token."""
        self._sweeping = False
        self._worker.stop()

    def say(self) -> None:
        """Keep the steered answer as a turn of the chat, and make room for the next question."""
        turns = (*self.state.history, ("user", self.state.prompt))
        answer = self.written.steered.text.strip()
        self.change(history=(*turns, ("assistant", answer)), prompt="", style="chat")

    def clear(self) -> None:
        """Forget the chat so far."""
        self.change(history=())

    def code(self) -> str:
        """Python that remakes the steered text. Raises ValueError before there is a vector."""
        vector = self.vector()
        assert self.trained_as is not None
        second = self._vectors.get(self.state.second) if work.has_second(self.state) else None
        return as_python(
            self.state, self.trained_as, vector.layer, None if second is None else second.layer
        )

    def vector(self) -> SteeringVector:
        """The vector in use. Raises ValueError before there is one."""
        if self.trained is None:
            raise ValueError("there is no vector yet: press 'Train and sweep' first")
        return self.trained.vector

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is done; whether it was within `timeout` seconds."""
        return self._worker.wait(timeout)

    @property
    def busy(self) -> bool:
        """Whether the model is at work."""
        return self._worker.busy

    def close(self) -> None:
        """Stop, and leave no thread and no file behind."""
        self._sweeping = False
        self._worker.close()
        self._folder.cleanup()

    # ---- what the worker does -------------------------------------------------------------------

    def _train_and_sweep(self, state: State, stop: threading.Event) -> None:
        try:
            with work.interruptible(self._model(state.model), stop):
                wanted = _key(state)
                if (
                    self.trained is None
                    or self.trained_as is None
                    or wanted != _key(self.trained_as)
                ):
                    self.progress = (0.0, float("nan"))
                    self._note("Reading the pairs and choosing a layer …", "progress")
                    self.trained, self.trained_as = work.train(self.lm, state), state
                    self.frame, self.ceiling = None, None
                    self._vectors.clear()
                    self.written_as = None
                    self._swept = ("", 0)
                self._tell("trained")
                if self.written_as != self.state:
                    self._stream(self.state, stop)
                self._sweep(state, stop)
        except work.Stopped:
            if not self._sweeping:  # else it only makes room for a text
                self._note("Stopped.", "message")

    def _sweep(self, state: State, stop: threading.Event) -> None:
        assert self.trained is not None
        digest = hashlib.sha256(json.dumps([_key(state), state.reach]).encode()).hexdigest()
        known = self._swept[1] if self._swept[0] == digest else 0
        began = time.monotonic()
        self._note("Sweeping …", "progress")
        rounds = work.sweep_in_rounds(
            self.lm, self.trained, state, directory=Path(self._folder.name) / digest[:16], stop=stop
        )
        for frame, done, count in rounds:
            last = done == count
            if done <= known and not last:  # read from disk, and shown before
                began = time.monotonic()
                continue
            pace = (time.monotonic() - began) / max(1, done - known)
            self._swept = (digest, done)
            self.frame = frame
            self.ceiling = work.ceiling_of(frame, seed=state.seed, bootstrap=1000 if last else 200)
            self.progress = (done / count, pace * (count - done))
            self._tell("sweep")
            if last:
                self._sweeping = False
                self._note("", "message")
                self._to_recommended()
                return
        raise work.Stopped  # a round was cut

    def _to_recommended(self) -> None:
        """Somebody who has not touched the slider yet sees at once what steering does."""
        if self.ceiling is None or self.state.coefficient != 0 or 1 not in self.ceiling.sides:
            return
        best = self.ceiling[1].recommended.value
        if best == best:
            self.change(coefficient=round(best, 3))
            self.steer()

    def _write(self, state: State, stop: threading.Event) -> None:
        self._stream(state, stop)
        if self._sweeping and not stop.is_set() and self.trained_as is not None:
            sweep = replace(self.trained_as, reach=state.reach)
            self._worker.submit(lambda later: self._train_and_sweep(sweep, later))

    def _stream(self, state: State, stop: threading.Event) -> None:
        assert self.trained is not None
        shown = 0.0

        def show(written: Written) -> None:
            nonlocal shown
            self.written = written
            if time.monotonic() - shown >= PACE:
                shown = time.monotonic()
                self._tell("text")

        second = self._second(state)
        self.written = work.write(
            self.lm, self.trained.vector, state, second, on_token=show, stop=stop
        )
        if not stop.is_set():
            self.written_as = state
        self._tell("text")

    def _second(self, state: State) -> SteeringVector | None:
        if not work.has_second(state):
            return None
        if state.second not in self._vectors:
            self._note("Making the second vector …", "message")
            self._vectors[state.second] = work.data_vector(
                self.lm, state.second, replace(self.trained_as or state, data=state.second)
            )
            self._note("", "message")
        return self._vectors[state.second]

    def _model(self, name: str) -> LM:
        """The model of that name, loaded if it is another one than before."""
        if name != self.lm.name and name != self._path:
            self._note(f"Loading {name} …", "progress")
            self.lm, self._path = models.load(name), name
            self.trained = None
        return self.lm

    def _failed(self, error: Exception) -> None:
        self._sweeping = False
        self._note(f"{type(error).__name__}: {error}", "message")

    def _note(self, message: str, kind: str) -> None:
        self.message = message
        self._tell(kind)

    def _tell(self, kind: str) -> None:
        for listener in self._listeners:
            listener(kind)


def _key(state: State) -> list[Any]:
    """What a vector depends on."""
    found = asdict(state)
    return [found[name] for name in _TRAINS]
