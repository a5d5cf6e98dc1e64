"""What is made of states: a model, its vector, its sweep, both texts.

Each step takes an event that stops it within one forward of the model (only loading one is not
stopped), and leaves what was made before. Steps run in one thread at a time; any thread may look.
Knows nothing of who asks.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd

from workbench.demo import composing, work
from workbench.demo.properties import Given, Properties
from workbench.demo.shelf import Shelf
from workbench.demo.state import SWEEPS, TRAINS, State, differing
from workbench.demo.worker import CLOSED
from workbench.generation.live import Written
from workbench.loading import models
from workbench.support.quiet import without_bars
from workbench.sweeps.marks import Ceiling
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Seconds between two pictures of what grows: more of them would flood a page.
PACE = 1 / 25


@dataclass(frozen=True)
class Shown:
    """Both texts so far, the state of which they are, and whether they are whole."""

    written: Written = field(default_factory=Written)
    state: State | None = None
    whole: bool = False


class Making:
    """What was made last.

    trained   the vector in use, None before the first training; `trained_as` the state it is of
    frame     the sweep so far; `ceiling` what it says, None while it says nothing, and
              `conditions` under which its texts were written, in words
    shown     both texts, and of which state they are
    composed  the text that was composed last, perhaps so far; None before the first
    doing     what is being done, "" when nothing is; `progress` the share of it that is done, and
              the seconds that are left (NaN: not known)
    """

    def __init__(
        self,
        lm: LM,
        name: str,
        tell: Callable[[str], None],
        *,
        given: bool = False,
        properties: Mapping[str, Given],
    ) -> None:
        """`name` is what loads `lm` again, or, where it was `given` as it is in memory, perhaps
        another one; `tell` hears what changed, see session.py; `properties` were handed over."""
        self.trained: work.Trained | None = None
        self.trained_as: State | None = None
        self.frame: pd.DataFrame | None = None
        self.ceiling: Ceiling | None = None
        self.conditions = ""
        self.shown = Shown()
        self.composed: composing.Composition | None = None
        self.properties = Properties(properties)
        self.doing = ""
        self.progress: tuple[float, float] = (0.0, math.nan)
        self._lm: LM | None = lm
        self._name = name
        self._given = {name: lm} if given else {}
        self._tell = tell
        self._swept = ("", 0, 0.0)  # which sweep, how many of its rounds were shown, their share
        self._seconds: dict[str, SteeringVector] = {}
        self._shelf = Shelf()

    @property
    def swept(self) -> bool:
        """Whether the sweep of the vector in use is whole."""
        return self._swept[2] == 1

    @property
    def lm(self) -> LM:
        """The model in use. Raises RuntimeError once closed."""
        if self._lm is None:
            raise RuntimeError(CLOSED)
        return self._lm

    @property
    def given(self) -> bool:
        """Whether the model in use came as it is in memory, so that its name may load another."""
        return self._name in self._given

    @property
    def layers(self) -> int:
        """How many layers the model has, 0 once closed."""
        return 0 if self._lm is None else self._lm.layers

    def close(self) -> None:
        """Let go of the model and of all files."""
        self._shelf.close()
        self._lm = self.trained = None
        self._given.clear()
        self._seconds.clear()
        self.properties.close()

    def second(self, state: State) -> SteeringVector | None:
        """The second vector of a state, None where it has none or it is not made yet."""
        return self._seconds.get(state.second) if work.has_second(state) else None

    # ---- steps ----------------------------------------------------------------------------------

    def train(self, state: State, stop: threading.Event) -> None:
        """The vector of a state, if it is not the one in use. Raises work.Stopped."""
        self._load(state.model)
        if stop.is_set():
            raise work.Stopped
        if self.trained_as is None or differing(state, self.trained_as, TRAINS):
            self._do("Reading the pairs and choosing a layer …")
            with work.interruptible(
                self.lm, stop, self._reading(work.tokens_to_read(self.lm, state))
            ):
                trained = work.train(self.lm, state)
            self._use(trained, state)
        self._tell("trained")

    def sweep(self, state: State, stop: threading.Event) -> None:
        """The sweep of a state over the vector in use. Raises work.Stopped."""
        if self.trained is None:
            return
        key = [getattr(state, name) for name in SWEEPS]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        _, known, share = self._swept if self._swept[0] == digest else ("", 0, 0.0)
        self._do("Sweeping …", share)
        began = time.monotonic()
        with work.interruptible(self.lm, stop):
            for frame, done, count in work.sweep_in_rounds(
                self.lm, self.trained, state, directory=self._shelf.place(digest), stop=stop
            ):
                last = done == count
                if done <= known and not last:  # read from disk, and shown before
                    began = time.monotonic()
                    continue
                pace = (time.monotonic() - began) / max(1, done - known)
                self._swept = (digest, done, done / count)
                self.frame, self.conditions = frame, work.conditions(self.lm)
                bootstrap = 1000 if last else 200
                self.ceiling = work.ceiling_of(frame, seed=state.seed, bootstrap=bootstrap)
                self.progress = (done / count, pace * (count - done))
                self._tell("sweep")
                if last:
                    return
        raise work.Stopped  # a round was cut

    def write(self, state: State, stop: threading.Event) -> None:
        """Both texts of a state under the vector in use; nothing without one.

        Raises work.Stopped where the second vector was being made; a text that is stopped stays.
        """
        if self.trained is None:
            return
        vector = self.trained.vector

        def show(written: Written, whole: bool = False) -> None:
            self.shown = Shown(written, state, whole)
            self._tell("text")

        with work.interruptible(self.lm, stop):
            second = self._second(state)
        written = work.write(self.lm, vector, state, second, on_token=show, pace=PACE, stop=stop)
        show(written, not stop.is_set())

    def compose(self, state: State, stop: threading.Event) -> None:
        """The text of a state's mix; its properties are made first, where they are not yet.

        Raises ValueError, and work.Stopped where properties were being made: then the text before
        stays. A text that is stopped stays as far as it is.
        """
        self._load(state.model)
        if stop.is_set():
            raise work.Stopped
        made, mix = self.trained_as or state, state.mix
        vector = None if self.trained is None else self.trained.vector
        with work.interruptible(self.lm, stop):
            added = {
                part.name: self.properties.find(
                    self.lm, part, made, vector, mix.new_tokens, self._do
                )
                for part in mix.chosen
            }
        self._do("Composing …")
        began = time.monotonic()

        def show(composed: composing.Composition) -> None:
            self.composed = composed
            share = composed.steps / mix.new_tokens
            self.progress = (share, (time.monotonic() - began) * (1 / share - 1))
            self._tell("composed")

        show(composing.write(self.lm, state, added, made, on_token=show, pace=PACE, stop=stop))
        self.progress = (1.0, 0.0)

    def rest(self) -> None:
        """Nothing is done any more; the bar stays where it is."""
        self.doing = ""
        self._tell("progress")

    # ---- parts of them --------------------------------------------------------------------------

    def _load(self, name: str) -> None:
        if name == self._name:
            return
        self._do(f"Loading {name} … (cannot be stopped)")
        with without_bars():  # the page says what is done; a thread's bar would land anywhere
            self._lm, self._name = self._given.get(name) or models.load(name), name
        self.properties.forget()
        self._use(None, None)

    def _use(self, trained: work.Trained | None, state: State | None) -> None:
        """Use that vector; what was made with another one is no more."""
        self.trained, self.trained_as = trained, state
        self.frame, self.ceiling = None, None
        self.shown = replace(self.shown, whole=False)
        self._swept = ("", 0, 0.0)
        self._seconds.clear()

    def _reading(self, total: int) -> Callable[[int], None]:
        """What hears how many tokens are read, of `total` (0: not known), and tells the time
        left."""
        read = 0
        began = told = time.monotonic()

        def heard(tokens: int) -> None:
            nonlocal read, told
            read += tokens
            now = time.monotonic()
            if total and now - told >= 5 * PACE:
                told = now
                share = min(0.99, read / total)
                self.progress = (share, (now - began) * (1 / max(share, 1e-3) - 1))
                self._tell("progress")

        return heard

    def _second(self, state: State) -> SteeringVector | None:
        if not work.has_second(state):
            return None
        if state.second not in self._seconds:
            before = self.progress
            self._do("Making the second vector …")
            made = replace(self.trained_as or state, data=state.second)
            self._seconds[state.second] = work.data_vector(self.lm, state.second, made)
            self.progress = before
            self.rest()
        return self._seconds[state.second]

    def _do(self, doing: str, done: float = 0.0) -> None:
        """Say what is done from now on, so far by the share `done`."""
        self.doing, self.progress = doing, (done, math.nan)
        self._tell("progress")
