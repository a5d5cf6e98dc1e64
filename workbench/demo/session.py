"""One sitting at the demo: a state, what is made of it (making.py), and who is told. No widgets.

All that touches the model runs in one worker (worker.py). The state is changed by whoever uses the
session and, after the first sweep, by the worker, each holding `lock`. Listeners are called by the
one and by the other, with the name of what changed:

    "state" "busy" "progress" "trained" "sweep" "text" "composed" "message"
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.demo import composing, work
from workbench.demo.code import as_python
from workbench.demo.making import Making
from workbench.demo.state import SWEEPS, WRITES, State, differing, from_json
from workbench.demo.worker import CLOSED, Worker
from workbench.vectors import SteeringVector

if TYPE_CHECKING:
    from workbench.marks import Ceiling
    from workbench.models import LM

_PRESS = "press 'Train and sweep'"


class Session:
    """What a reader of the demo does, whatever the face.

    state    what is chosen now; at first its `model` is what loads `lm` again
    made     the vector, sweep and texts that were made last, and the model
    message  what went wrong or was done last, in words
    lock     held while the state changes; a listener that shows it may hold it longer
    """

    def __init__(self, lm: LM, state: State, *, given: bool = False) -> None:
        """`given`: `lm` came as it is in memory, and its name need not load the same."""
        self.lock = threading.RLock()
        self.state = state
        self.made = Making(lm, state.model, self._tell, given=given)
        self.message = ""
        self._wanted: State | None = None  # asked to be trained and swept, and not done yet
        self._first = True  # no sweep has ended yet
        self._closed = False
        self._listeners: list[Callable[[str], None]] = []
        self._worker = Worker(self._failed, lambda: self._tell("busy"))

    @property
    def busy(self) -> bool:
        """Whether the model is at work."""
        return self._worker.busy

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the name of whatever changes."""
        self._listeners.append(listener)

    # ---- what a user does -----------------------------------------------------------------------

    def change(self, **values: Any) -> None:
        """Choose. Raises ValueError, and changes nothing, for a value out of range, and
        RuntimeError once closed."""
        with self.lock:
            self._choose(replace(self.state, **values))

    def restore(self, text: str) -> None:
        """Choose all as in a saved state, and write its texts. Raises ValueError for what is none,
        and RuntimeError once closed."""
        with self.lock:
            self._choose(from_json(text))
            self.steer()

    def train(self) -> None:
        """Make the vector of the state, write both texts, then sweep."""
        with self.lock:
            wanted = self._wanted = self.state
            self.note("")
            self._worker.submit(lambda stop: self._train_and_sweep(wanted, stop))

    def steer(self) -> None:
        """Write both texts of the state, in place of those being written.

        A training or sweep that runs makes room and goes on afterwards. Without a vector nothing is
        written, and the message says so.
        """
        with self.lock:
            if self.made.trained is None:
                self.note(self._hint())
                return
            state = self.state
            self._worker.submit(lambda stop: self._write(state, stop))

    def compose(self) -> None:
        """Write the text of the state's mix; what runs makes room, as for `steer`.

        Raises ValueError for a mix without a property, or with one twice.
        """
        with self.lock:
            state = self.state
            names = ", ".join(each.name for each in state.mix.chosen)
            self.note(f"Composing with {names} …")
            self._worker.submit(lambda stop: self._compose(state, stop))

    def stop(self) -> None:
        """Stop all, within one token; but a model that is being loaded is loaded first."""
        with self.lock:
            self._wanted = None
            self._worker.stop()

    def say(self) -> None:
        """Keep the steered answer as a turn of the chat, and make room for the next question.

        Raises ValueError unless this is a chat and its answer is there, whole and not empty.
        """
        with self.lock:
            if self.state.style != "chat":
                raise ValueError("answers are kept in a chat: choose the prompt style 'chat' first")
            self._require_current()
            answer = self.made.shown.written.steered.text.strip()
            if not answer:
                raise ValueError("the steered answer is empty: there is nothing to keep")
            turns = (("user", self.state.prompt), ("assistant", answer))
            self.change(history=(*self.state.history, *turns), prompt="")
            self.note("Kept. Write the next question into the prompt.")

    def keepable(self) -> bool:
        """Whether there is an answer that `say` would keep."""
        return (
            self.state.style == "chat"
            and self.current()
            and bool(self.made.shown.written.steered.text.strip())
        )

    def clear(self) -> None:
        """Forget the chat so far, and write the texts without it."""
        with self.lock:
            self.change(history=())
            self.steer()

    def code(self) -> str:
        """Python that remakes the steered text that is shown.

        Raises ValueError before there is a vector, and while the texts are not whole or not those
        of the state.
        """
        with self.lock:
            vector = self.vector()
            self._require_current()
            made, second = self.made.trained_as or self.state, self.made.second(self.state)
            return as_python(
                self.state, made, vector.layer, None if second is None else second.layer,
                dtype=self._dtype(),
            )  # fmt: skip

    def composed_code(self) -> str:
        """Python that remakes the composed text that is shown. Raises ValueError before there is
        one."""
        with self.lock:
            if self.made.composed is None:
                raise ValueError("nothing is composed yet: press 'Compose' first")
            return composing.as_python(self.made.composed, dtype=self._dtype())

    def vector(self) -> SteeringVector:
        """The vector in use. Raises ValueError before there is one."""
        if self.made.trained is None:
            raise ValueError(f"there is no vector yet: {_PRESS} first")
        return self.made.trained.vector

    def current(self) -> bool:
        """Whether the texts shown are whole and those of the state."""
        shown = self.made.shown
        return (
            shown.whole
            and shown.state is not None
            and not differing(shown.state, self.state, WRITES)
        )

    def ceiling_for(self, state: State) -> Ceiling | None:
        """The ceiling that holds for the texts of a state: none with a second vector, nor in
        another prompt style than that of the sweep."""
        swept = self.made.trained_as
        if swept is None or swept.style != state.style or work.has_second(state):
            return None
        return self.made.ceiling

    def note(self, message: str) -> None:
        """Say something; it stands until something else is said or chosen."""
        self.message = message
        self._tell("message")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is done; whether it was within `timeout` seconds."""
        return self._worker.wait(timeout)

    def close(self) -> None:
        """Stop, and leave no thread, no file and no model behind."""
        self._closed = True
        self.stop()
        self._worker.close()
        self.made.close()

    # ---- what the worker does -------------------------------------------------------------------

    def _train_and_sweep(self, state: State, stop: threading.Event) -> None:
        try:
            self.made.train(state, stop)
            if not self.current():
                self._write_beside(stop)
            self.made.sweep(state, stop)
        except work.Stopped:
            if self._wanted is None:  # else it only makes room for a text
                self.note("Stopped.")
        except Exception:
            self._done(state)
            raise
        else:
            self._done(state)
            self._to_recommended(stop)
        finally:
            self.made.rest()

    def _write_beside(self, stop: threading.Event) -> None:
        """Both texts before the sweep, which does not hang on the prompt: a bad one is said."""
        try:
            self.made.write(self.state, stop)
        except ValueError as error:
            self._failed(error)

    def _to_recommended(self, stop: threading.Event) -> None:
        """Somebody who has not touched the slider yet sees at once what steering does: only after
        the first sweep, since a slider at 0 is later meant to be there."""
        with self.lock:
            first, self._first = self._first, False
            ceiling = self.made.ceiling
            if (
                not first
                or ceiling is None
                or self.state.coefficient != 0
                or 1 not in ceiling.sides
            ):
                return
            best = ceiling[1].recommended.value
            if math.isnan(best):
                return
            self.change(coefficient=round(best, 3))
            state = self.state
            self._worker.follow(lambda later: self._write(state, later), after=stop)

    def _write(self, state: State, stop: threading.Event) -> None:
        try:
            self.made.write(state, stop)
        except work.Stopped:
            self.made.rest()
        finally:
            self._go_on(stop)

    def _compose(self, state: State, stop: threading.Event) -> None:
        try:
            self.made.compose(state, stop)
            self.note("")
        except work.Stopped:
            self.note("Stopped.")
        finally:
            self.made.rest()
            self._go_on(stop)

    def _go_on(self, stop: threading.Event) -> None:
        """A training or sweep that made room."""
        wanted = self._wanted
        if wanted is not None:
            self._worker.follow(lambda later: self._train_and_sweep(wanted, later), after=stop)

    def _done(self, state: State) -> None:
        with self.lock:
            if self._wanted is state:
                self._wanted = None

    # ---- who is told ----------------------------------------------------------------------------

    def _choose(self, state: State) -> None:
        if self._closed:
            raise RuntimeError(CLOSED)
        # A mix needs no training, so that nothing is said of one.
        alone = state.mix != self.state.mix and state == replace(self.state, mix=state.mix)
        self.state = state
        self.message = "" if alone else self._hint()
        self._tell("state")

    def _hint(self) -> str:
        """What must be done before all that is chosen counts; "" if nothing."""
        made = self._wanted or self.made.trained_as
        if made is None:
            return f"There is no vector yet: {_PRESS}."
        changed = differing(made, self.state, SWEEPS)
        names = ", ".join(changed).replace("_", " ")
        return f"For the new {names}, {_PRESS}." if changed else ""

    def _dtype(self) -> str:
        """That of a model that came as it is in memory, else ""."""
        return str(self.made.lm.dtype).removeprefix("torch.") if self.made.given else ""

    def _require_current(self) -> None:
        if not self.current():
            raise ValueError(
                "the texts shown are not whole, or not of what is chosen now: wait for them, or "
                "press 'Write again'"
            )

    def _failed(self, error: Exception) -> None:
        self.note(f"{type(error).__name__}: {error}")

    def _tell(self, kind: str) -> None:
        for listener in tuple(self._listeners):
            listener(kind)
