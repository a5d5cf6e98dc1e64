"""One sitting at the demo: a state, what is made of it (making.py), and who is told. No widgets.

All that touches the model runs in one worker (tasks.py). The state is changed by whoever uses the
session and, after the first sweep, by the worker, each holding `lock`. Listeners are called by the
one and by the other, with the name of what changed:

    "state" "busy" "progress" "trained" "sweep" "text" "composed" "message"
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.demo import composing, work
from workbench.demo.code import as_python
from workbench.demo.making import Given, Making
from workbench.demo.state import SWEEPS, WRITES, State, differing, from_json
from workbench.demo.tasks import Tasks
from workbench.demo.worker import CLOSED
from workbench.reporting import report
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM
    from workbench.sweeps.marks import Ceiling

_PRESS = "press 'Train and sweep'"


class Session:
    """What a reader of the demo does, whatever the face.

    state    what is chosen now; at first its `model` is what loads `lm` again
    made     the vector, sweep and texts that were made last, and the model
    message  what went wrong or was done last, in words
    lock     held while the state changes; a listener that shows it may hold it longer
    """

    def __init__(
        self,
        lm: LM,
        state: State,
        *,
        given: bool = False,
        properties: Mapping[str, Given] | None = None,
    ) -> None:
        """`given`: `lm` came as it is in memory, and its name need not load the same.

        `properties` to compose with, by name, beside those that the demo makes. Raises ValueError
        for what is neither a vector nor deltas, and for a name that is not one short line.
        """
        self.lock = threading.RLock()
        self.state = state
        self.made = Making(lm, state.model, self._tell, given=given, properties=properties or {})
        self.message = ""
        self._composes = False  # a text was asked for: it follows what is chosen
        self._closed = False
        self._listeners: list[Callable[[str], None]] = []
        self._tasks = Tasks(self, lambda: self._tell("busy"))

    @property
    def busy(self) -> bool:
        """Whether the model is at work."""
        return self._tasks.worker.busy

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
            self.note("")
            self._tasks.train(self.state)

    def steer(self) -> None:
        """Write both texts of the state, in place of those being written.

        A training or sweep that runs makes room and goes on afterwards. Without a vector nothing is
        written, and the message says so.
        """
        with self.lock:
            if self.made.trained is None:
                self.note(self._hint())
                return
            self._tasks.write(self.state)

    def compose(self) -> None:
        """Write the text of the state's mix in place of the one being written; what else runs makes
        room, as for `steer`. From now on `follow_mix` does so too.

        Raises ValueError for a mix without a property, or with one twice.
        """
        with self.lock:
            _ = self.state.mix.chosen
            self._composes = True
            self.note("")
            self._tasks.compose(self.state)

    def follow_mix(self) -> None:
        """Something was chosen that a composed text depends on: write it anew, if one was asked for
        before. Raises ValueError as `compose`, and then none is being written either."""
        with self.lock:
            if not self._composes:
                self.note("")
                return
            try:
                self.compose()
            except ValueError:
                self._tasks.drop()
                raise

    def stop(self) -> None:
        """Stop all, within one token; but a model that is being loaded is loaded first."""
        with self.lock:
            self._tasks.stop()

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

    def composed(self) -> composing.Composition:
        """The composed text that is shown. Raises ValueError before there is one, and unless it is
        whole."""
        found = self.made.composed
        if found is None:
            raise ValueError("nothing is composed yet: press 'Compose' first")
        if not found.whole:
            raise ValueError("the composed text is not whole: wait for it, or press 'Compose'")
        return found

    def composed_code(self) -> str:
        """Python that remakes the composed text that is shown. Raises ValueError as `composed`."""
        with self.lock:
            return composing.as_python(self.composed(), dtype=self._dtype())

    def composed_export(self, name: str, folder: Path) -> report.Export:
        """Keep the composed text that is shown, its coefficients, and what makes it again; see
        `composing.export`. Raises ValueError as `composed`, and as `report.export`."""
        with self.lock:
            found, lm, dtype = self.composed(), self.made.lm, self._dtype()
        return composing.export(found, lm, name, folder, dtype=dtype)

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

    def composed_current(self) -> bool:
        """Whether the composed text shown is of what is chosen now, whole or not yet."""
        found = self.made.composed
        made = self.made.trained_as or self.state
        return found is not None and composing.is_of(found, self.state, made)

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
        return self._tasks.worker.wait(timeout)

    def close(self) -> None:
        """Stop, and leave no thread, no file and no model behind."""
        self._closed = True
        self.stop()
        self._tasks.worker.close()
        self.made.close()

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
        made = self._tasks.wanted or self.made.trained_as
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

    def _tell(self, kind: str) -> None:
        for listener in tuple(self._listeners):
            listener(kind)
