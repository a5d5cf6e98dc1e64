"""The demo as widgets: a face of a session. It shows what the session holds and passes on what a
reader does; it decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import plotly.graph_objects as go
from IPython.core.getipython import get_ipython
from IPython.display import HTML, display

from workbench import figures, report, tables
from workbench.demo import controls, page, work, zones
from workbench.demo.clipboard import Clipboard
from workbench.demo.plots import LivePlot, separation
from workbench.demo.session import Session
from workbench.store import write_atomically

# What changes the texts, and what the next training.
_WRITES = ("prompt", "second", "temperature", "text_seed", "new_tokens", "style")


class Demo(ipw.VBox):
    """Choose, train and sweep, steer, keep.

    session  what is done and what came of it; usable without any widget
    folder   where vectors, figures and states are kept
    """

    def __init__(self, session: Session, folder: str | Path = "kept") -> None:
        self.session = session
        self.folder = Path(folder)
        self.fields = controls.fields(session.lm.layers)
        self.buttons = controls.buttons()
        self.slider = controls.slider("Steering coefficient")
        self.second = controls.slider("Coefficient of the second vector")
        self.layers = LivePlot(260)
        self.curves = LivePlot(520, clicked=self._pick)
        self.progress = ipw.FloatProgress(
            max=1.0, description="Sweep", layout=ipw.Layout(flex="1 1 200px", min_width="160px")
        )
        self.status, self.chat = ipw.HTML(page.say("")), ipw.HTML()
        self.texts = {"baseline": ipw.HTML(), "steered": ipw.HTML()}
        self.file = ipw.Text(
            description="File name", value="steering", style={"description_width": "108px"}
        )
        self.kept = ipw.Textarea(
            description="Code or JSON", rows=6, style={"description_width": "108px"},
            placeholder="Copied code appears here; paste a saved state here to restore it",
            layout=ipw.Layout(width="auto", flex="1 1 100%"),
        )  # fmt: skip
        self.clipboard = Clipboard()
        super().__init__(self._arranged())
        self._connect()
        for kind in ("state", "busy", "text"):
            self._shown(kind)

    # ---- what a reader does ---------------------------------------------------------------------

    def _connect(self) -> None:
        for name, box in self.fields.items():
            box.observe(lambda change, name=name: self._choose(name, change["new"]), "value")
        self.slider.observe(lambda change: self._choose("coefficient", change["new"]), "value")
        self.second.observe(
            lambda change: self._choose("second_coefficient", change["new"]), "value"
        )
        self.slider.observe(self._recolor, "dark")
        for name, act in {
            "train": self.session.train, "stop": self.session.stop, "again": self.session.steer,
            "say": self.session.say, "clear": self.session.clear, "copy": self._copy,
            "vector": self._save_vector, "figure": self._export, "keep": self._save,
            "restore": lambda: self.session.restore(self.kept.value),
        }.items():  # fmt: skip
            getattr(self.buttons, name).on_click(lambda _, act=act: self._try(act))
        self.session.listen(self._shown)

    def _try(self, act: Callable[[], Any]) -> None:
        """Do it; what cannot be done is said, not raised."""
        try:
            act()
        except (ValueError, OSError, RuntimeError) as error:
            self.status.value = page.say(str(error))

    def _choose(self, name: str, value: Any) -> None:
        if name == "layer" and value == controls.AUTO:
            value = None
        if value == getattr(self.session.state, name):
            return
        self._try(lambda: self.session.change(**{name: value}))
        self._fill()  # back to what was, where it was refused
        if name in (*_WRITES, "coefficient", "second_coefficient"):
            self.session.steer()

    def _pick(self, coefficient: float) -> None:
        """A dot of the sweep was clicked."""
        self.session.change(coefficient=coefficient)
        self.session.steer()

    def _copy(self) -> None:
        self.kept.value = self.session.code()
        self.clipboard.copy(self.kept.value)
        self.status.value = page.say("Copied; the code also stands in the box below.")

    def _path(self, suffix: str) -> Path:
        """A new file's path. Raises ValueError for a name that is not a plain one."""
        tables.check_name(self.file.value)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / (self.file.value + suffix)

    def _save_vector(self) -> None:
        vector, path = self.session.vector(), self._path(".safetensors")
        vector.save(path)
        self.status.value = page.say(f"Saved {path}")

    def _export(self) -> None:
        self._path("")
        figure = self.figure()
        export = report.export(
            figure, self.file.value, data=self.session.frame, directory=self.folder
        )
        self.status.value = page.say(f"Saved {export!r} in {self.folder / 'figures'}")

    def _save(self) -> None:
        path = self._path(".json")
        self.kept.value = self.session.state.to_json()
        write_atomically(path, self.kept.value.encode())
        self.status.value = page.say(f"Saved {path}; the state also stands in the box below.")

    # ---- what is shown --------------------------------------------------------------------------

    def _shown(self, kind: str) -> None:
        """Show what changed; called in the worker's thread too."""
        session = self.session
        if kind == "state":
            self._fill()
        elif kind == "busy":
            self.buttons.stop.disabled = not session.busy
        elif kind in ("text", "trained", "sweep"):
            if kind == "trained" and session.trained is not None:
                found = session.trained.vector
                self.layers.show(separation(found))
            if kind == "sweep":
                self.curves.show(self.figure())
                self._fill()
            self._show_texts()
        self._show_progress()

    def _fill(self) -> None:
        """All controls as the state has them."""
        session, state = self.session, self.session.state
        options = controls.layer_options(max(session.lm.layers, (state.layer or 0) + 1))
        if len(self.fields["layer"].options) != len(options):
            self.fields["layer"].options = options
        for name, box in self.fields.items():
            value = getattr(state, name)
            box.value = controls.AUTO if value is None else value
        own = state.source == "own"
        for name in ("positive", "negative", "template"):
            self.fields[name].layout.display = "flex" if own else "none"
        self.second.layout.display = "flex" if state.second else "none"
        self.slider.show(session.ceiling, state.coefficient, self._ends(state.coefficient))
        self.second.show(None, state.second_coefficient, self._ends(state.second_coefficient))
        self.chat.value = page.chat(state.history) if state.history else ""

    def _ends(self, coefficient: float) -> float:
        """How far a slider goes: to the reach, and to a coefficient beyond it."""
        return max(self.session.state.reach, abs(coefficient))

    def _show_texts(self) -> None:
        self.texts["baseline"].value, self.texts["steered"].value = self._columns()

    def _columns(self) -> tuple[str, str]:
        session = self.session
        coefficient = session.state.coefficient
        zone = zones.color(session.ceiling, coefficient)
        said = f"{coefficient:+.3f}".replace("-", "−")
        return (
            page.column("Unsteered", "", session.written.baseline),
            page.column("Steered", said, session.written.steered, mark=zone),
        )

    def _show_progress(self) -> None:
        done, left = self.session.progress
        self.progress.value = done
        message = self.session.message
        if self.session.busy and 0 < done < 1 and not math.isnan(left):
            message = f"{message} about {math.ceil(left)} s left"
        if self.status.value != page.say(message):
            self.status.value = page.say(message)

    def _recolor(self, change: Any) -> None:
        self.layers.recolor(change["new"])
        self.curves.recolor(change["new"])

    # ---- without a page -------------------------------------------------------------------------

    def figure(self) -> go.Figure:
        """The sweep so far. Raises ValueError before there is one."""
        frame = self.session.frame
        if frame is None:
            raise ValueError("there is no sweep yet: press 'Train and sweep' first")
        trained = self.session.trained
        trait = str(trained.vector.provenance.get("trait") or "trait") if trained else "trait"
        ceiling = self.session.ceiling
        marks = None if ceiling is None else ceiling.marks()
        return figures.sweep_curves(frame, ceiling=marks, trait=trait)

    def snapshot(self, folder: str | Path) -> None:
        """Put both texts and the sweep below a cell, as output that shows without widgets.

        Where nobody watches (see `watched`) this trains first if nothing is trained, and waits; a
        reader's page it must not freeze, so there it shows what there is. The figure is also
        written to the `folder` of a report, as "03_demo_sweep". Raises RuntimeError for what went
        wrong in training.
        """
        if not watched():
            if self.session.trained is None and not self.session.busy:
                self.session.train()
            self.session.wait()
            if self.session.trained is None:
                raise RuntimeError(self.session.message)
        if self.session.frame is None:
            display(HTML(page.say("Nothing to show yet. Press 'Train and sweep', then run this.")))
            return
        words = zones.words(self.session.ceiling, self.session.state.coefficient)
        display(HTML(page.side_by_side(self._columns()) + page.say(words) + page.legend()))
        frame = self.session.frame
        display(report.export(self.figure(), "03_demo_sweep", data=frame, directory=folder))

    def close(self) -> None:
        """End the session and all widgets."""
        self.session.close()
        super().close()

    # ---- where it stands ------------------------------------------------------------------------

    def _arranged(self) -> tuple[ipw.Widget, ...]:
        field, button = self.fields, self.buttons
        chosen = ("model", "source", "data", "positive", "negative", "template", "method", "layer",
                  "reach")  # fmt: skip
        choose = controls.stack(
            controls.heading(1, "Choose"),
            controls.row(*(field[name] for name in chosen)),
            controls.heading(2, "Train and sweep"),
            controls.row(button.train, button.stop, self.progress),
            self.status,
            grow="1 1 460px",
        )
        layers = controls.stack(self.layers.widget, grow="1 1 380px")
        curves = controls.stack(self.curves.widget, grow="1 1 500px")
        more = ("style", "temperature", "text_seed", "new_tokens", "second")
        for each in self.texts.values():
            each.layout = ipw.Layout(flex="1 1 260px", min_width="0", margin="0 8px 0 0")
        steer = controls.stack(
            controls.heading(3, "Steer"),
            self.slider,
            controls.row(*self.texts.values()),
            ipw.HTML(page.legend()),
            self.chat,
            controls.row(field["prompt"]),
            controls.row(*(field[name] for name in more)),
            self.second,
            controls.row(button.again, button.say, button.clear),
            grow="1 1 560px",
        )
        keep = controls.stack(
            controls.heading(4, "Keep"),
            controls.row(
                self.file, button.copy, button.vector, button.figure, button.keep, button.restore
            ),
            controls.row(self.kept, self.clipboard),
            grow="1 1 100%",
        )
        return (
            ipw.HTML(page.STYLE),
            controls.row(choose, layers),
            controls.row(curves, steer),
            controls.row(keep),
        )


def watched() -> bool:
    """Whether a reader runs this cell: only then may a kernel ask for input."""
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def demo(lm: Any, *, seed: int = 0, folder: str | Path = "kept") -> Demo:
    """The demo of a model, see `workbench.widgets.demo`."""
    return Demo(Session(lm, work.initial(lm, seed)), folder)
