"""The demo as widgets: a face of a session. It shows what the session holds and passes on what a
reader does; it decides nothing.

Both threads that reach it, the reader's and the worker's, hold the session's lock while they do so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as ipw

from workbench.demo import controls, page, showing, work, zones
from workbench.demo.chart import Library
from workbench.demo.clipboard import Clipboard
from workbench.demo.composing_tab import ComposingTab
from workbench.demo.layout import arranged, within
from workbench.demo.plots import LivePlot, separation
from workbench.demo.session import Session
from workbench.demo.state import WRITES
from workbench.demo.texts import Lines, TextBox
from workbench.reporting import report
from workbench.support import tables
from workbench.support.store import write_atomically

_WIDE = {"description_width": "108px"}


class Demo(ipw.VBox):
    """Choose, train and sweep, steer, compose, keep.

    session  what is done and what came of it; usable without any widget
    folder   where vectors, figures and states are kept
    cell     the notebook's cell that made it, "" elsewhere
    """

    def __init__(self, session: Session, folder: str | Path = "kept") -> None:
        self.session = session
        self.folder = Path(folder).resolve()
        self.cell = ""
        self.fields = controls.fields()
        self.buttons = controls.buttons()
        self.slider = controls.slider("Steering coefficient")
        self.second = controls.slider("Coefficient of the second vector")
        self.library = Library()
        self.layers = LivePlot(
            "How well each layer tells the pairs apart", 300,
            "The layers appear here after Train and sweep", self.library,
        )  # fmt: skip
        self.curves = LivePlot(
            "Curves of the sweep", 520, "Curves appear here after Train and sweep", self.library,
            clicked=self._pick,
        )  # fmt: skip
        self.composing = ComposingTab(session, self.library, self._try)
        self.tabs = ipw.Tab()
        self.progress = ipw.FloatProgress(
            max=1.0, description="Progress",
            layout=ipw.Layout(flex="1 1 200px", min_width="160px", margin="2px 8px 2px 0"),
        )  # fmt: skip
        self.doing, self.status = ipw.HTML(), Lines(role="status")
        self.chat = Lines(role="log", label="Chat so far")
        self.texts = {
            name: TextBox(
                name.capitalize(),
                layout=ipw.Layout(flex="1 1 260px", min_width="0", margin="0 8px 0 0"),
            )
            for name in ("unsteered", "steered")
        }
        self.file = ipw.Text(description="File name", value="steering", style=_WIDE)
        self.kept = ipw.Textarea(
            description="Code or JSON", rows=6, style=_WIDE,
            placeholder="Copied code appears here; paste a saved state here to restore it",
            layout=ipw.Layout(width="auto", flex="1 1 100%"),
        )  # fmt: skip
        self.clipboard = Clipboard(self._copied)
        self._filling = False
        super().__init__(arranged(self))
        self._connect()
        for kind in ("state", "busy", "text", "message"):
            self._shown(kind)

    # ---- what a reader does ---------------------------------------------------------------------

    def _connect(self) -> None:
        moved = {
            **self.fields, "coefficient": self.slider, "second_coefficient": self.second,
        }  # fmt: skip
        for name, box in moved.items():
            box.observe(lambda change, name=name: self._choose(name, change["new"]), "value")
        # What draws takes a second to arrive: it comes before the first curve is to grow.
        self.tabs.observe(lambda _: self.library.load(), "selected_index")
        self.slider.observe(lambda change: self._recolor(change["new"]), "dark")
        session = self.session
        button = self.buttons
        for pressed, act in (
            (button.train, session.train), (button.stop, session.stop),
            (button.again, session.steer), (button.say, session.say),
            (button.clear, session.clear), (button.copy, lambda: self._copy(session.code)),
            (button.vector, self._save_vector), (button.figure, self._export),
            (button.keep, self._save), (button.restore, lambda: session.restore(self.kept.value)),
            (self.composing.copy, lambda: self._copy(session.composed_code)),
            (self.composing.export, self._export_composed),
        ):  # fmt: skip
            pressed.on_click(lambda _, act=act: self._try(act))
        session.listen(self._shown)

    def _try(self, act: Callable[[], Any]) -> None:
        """Do it; what cannot be done is said, not raised."""
        with self.session.lock:
            try:
                act()
            except (ValueError, OSError, RuntimeError) as error:
                self.session.note(str(error))

    def _choose(self, name: str, value: Any) -> None:
        with self.session.lock:
            if self._filling:  # set by the state, not by a reader
                return
            if name == "layer" and value == controls.AUTO:
                value = None
            if value != getattr(self.session.state, name):
                self._try(lambda: self._change(name, value))
                self._fill()  # back to what was, where it was refused

    def _change(self, name: str, value: Any) -> None:
        self.session.change(**{name: value})
        if name in WRITES:  # of what both tabs depend on, the text that is looked at follows
            (self.session.follow_mix if self.tabs.selected_index == 1 else self.session.steer)()

    def _pick(self, coefficient: float) -> None:
        """A dot of the sweep was clicked."""
        self._try(lambda: self._change("coefficient", coefficient))

    def _copy(self, code: Callable[[], str]) -> None:
        self.kept.value = code()
        self.session.note("The code stands in the box below.")
        self.clipboard.copy(self.kept.value)

    def _copied(self, done: bool) -> None:
        """The page has answered."""
        said = "Copied" if done else "The browser let nobody copy"
        self.session.note(f"{said}; the code stands in the box below.")

    def _path(self, suffix: str, room: str = "") -> Path:
        """A new file's path, in a `room` of the folder. Raises ValueError for a name that is not a
        plain one, and FileExistsError for one that is taken."""
        tables.check_name(self.file.value)
        path = self.folder / room / (self.file.value + suffix)
        if path.exists():
            raise FileExistsError(f"{path} exists: choose another file name")
        return path

    def _save_vector(self) -> None:
        vector, path = self.session.vector(), self._path(".safetensors")
        vector.save(path)
        self.session.note(f"Saved {path}")

    def _export(self) -> None:
        figure = showing.figure(self.session)
        path = self._path(".csv", "figures")
        export = report.export(
            figure, path.stem, data=self.session.made.frame, directory=self.folder
        )  # fmt: skip
        self.session.note(f"Saved {export!r} in {path.parent}")

    def _export_composed(self) -> None:
        path = self._path("-composed.csv", "figures")
        export = self.session.composed_export(path.stem, self.folder)
        self.session.note(f"Saved {export!r} in {path.parent}")

    def _save(self) -> None:
        path = self._path(".json")
        self.kept.value = self.session.state.to_json()
        write_atomically(path, self.kept.value.encode())
        self.session.note(f"Saved {path}; the state also stands in the box below.")

    # ---- what is shown --------------------------------------------------------------------------

    def _shown(self, kind: str) -> None:
        """Show what changed; called in the worker's thread too."""
        # Drawn before the lock is taken, for which a press on Stop and the slider would wait.
        curves = showing.figure(self.session) if kind == "sweep" else None
        composed = self.composing.drawn() if kind == "composed" else None
        with self.session.lock:
            made = self.session.made
            if kind == "busy":
                self.buttons.stop.disabled = not self.session.busy
            if kind == "message":
                self.status.say(self.session.message)
            if kind == "state":
                self.status.say(self.session.message)
                self._fill()
            if kind == "trained":
                found = made.trained and separation(made.trained.vector)
                self.layers.show(found, "No pairs were held out to compare the layers")
            if kind == "sweep":
                self.curves.show(curves)
            if kind == "composed":
                self.composing.show(composed)
                kind = "grown" if not self.composing.ended else kind
            if kind in ("trained", "sweep", "composed"):
                self._fill()
            if kind in ("state", "trained", "sweep", "text", "composed"):
                for box, (text, note, mark) in zip(
                    self.texts.values(), showing.columns(self.session), strict=True
                ):
                    box.show(text, note, mark)
                self.buttons.say.disabled = not self.session.keepable()
            self._show_progress()

    def _fill(self) -> None:
        """All controls as the state has them."""
        session, state = self.session, self.session.state
        self._filling = True
        try:
            self._fill_fields()
            made = session.made
            holds, why = showing.zones_of(session, state)
            for slider, ceiling, value, words in (
                (self.slider, holds, state.coefficient, why),
                (self.second, None, state.second_coefficient, zones.UNSWEPT),
            ):  # fmt: skip
                slider.show(
                    ceiling, value, max(state.reach, abs(value)), words=words,
                    conditions=made.conditions,
                )  # fmt: skip
        finally:
            self._filling = False
        self.chat.show(state.history)
        self.composing.fill()

    def _fill_fields(self) -> None:
        state = self.session.state
        self._offer()
        for name, box in self.fields.items():
            value = getattr(state, name)
            box.value = controls.AUTO if value is None else value
        own = state.source == "own"
        for name in ("positive", "negative", "template"):
            self.fields[name].layout.display = "flex" if own else "none"
        self.second.layout.display = "flex" if state.second else "none"

    def _offer(self) -> None:
        """The choices that the model leaves, and what is chosen, from a saved state perhaps."""
        made, state = self.session.made, self.session.state
        if made.layers:  # not closed
            fitting, chats = work.fitting(made.lm), work.chats(made.lm)
        else:
            fitting, chats = [], False
        layers = max(made.layers, (state.layer or 0) + 1)
        offered: dict[str, list[tuple[str, Any]]] = {
            "layer": controls.layer_options(layers),
            "style": controls.style_options(chats, state.style),
            "data": [(name, name) for name in sorted({*fitting, state.data})],
            "second": [
                ("none", ""),
                *((name, name) for name in sorted({*fitting, state.second} - {""})),
            ],
        }
        for name, options in offered.items():
            box = self.fields[name]
            if list(box.options) != options:  # a new list would fall back to its first entry
                box.options = options
        self.fields["style"].disabled = len(offered["style"]) == 1

    def _show_progress(self) -> None:
        made = self.session.made
        done, left = made.progress
        self.progress.value = done
        said = made.doing
        if said and 0 < done < 1 and not math.isnan(left):
            said += f" about {math.ceil(left)} s left"
        self.doing.value = f'<div class="wb-say wb-small">{page.plain(said)}</div>' if said else ""

    def _recolor(self, dark: bool) -> None:
        with self.session.lock:
            self.layers.recolor(dark)
            self.curves.recolor(dark)
            self.composing.plot.recolor(dark)

    # ---- without a page -------------------------------------------------------------------------

    def snapshot(self, folder: str | Path) -> None:
        """Put both texts and the sweep below a cell, as output that shows without widgets; where
        nobody watches, train first. See `showing.snapshot`."""
        showing.snapshot(self.session, folder)

    def close(self) -> None:
        """End the session and all widgets, and let go of the model."""
        self.session.close()
        parts = within(self)
        # The page has either a plot's words or its chart.
        for plot in (self.layers, self.curves, self.composing.plot):
            for widget in (plot.empty, plot.chart):
                parts += [widget, *within(widget)]
        for part in parts:
            part.close()
        super().close()
