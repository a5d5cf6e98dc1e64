"""The tab of compositions: a row for each property, the text, and coefficients over its tokens.

A face of a session as app.py is, in the same two threads and under the same lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets as ipw
import plotly.graph_objects as go

from workbench.demo import composing, controls, limits, page, work, zones
from workbench.demo.chart import Library
from workbench.demo.mix import MOST_TOKENS, PARTS, Part
from workbench.demo.plots import LivePlot
from workbench.demo.session import Session
from workbench.demo.texts import TextBox

_HEIGHT = 330  # pixels of the figure
_DRAWN = 1 / 5  # seconds between two figures of a text that grows: each is drawn anew
_SCHEDULES = [
    ("fixed", "fixed"), ("start", "start"), ("diminishing", "diminishing"),
    ("dynamic, by KL over top p", "dynamic"), ("KL budget", "budget"),
]  # fmt: skip
_TELLS = (
    "Up to three properties at once, each as strong at every token as its schedule says: "
    "<i>fixed</i> always, <i>start</i> at the first token alone, <i>diminishing</i> ever less; "
    "<i>dynamic</i> and <i>KL budget</i> look at how much the property would change the next "
    "token, and go up to the strength. A strength of 1 is the whole of a delta or, of a vector, "
    "one residual norm. Once a text is written, it follows every change."
)
_NONE = (
    " No bundled data set fits this model, and none of its deltas are known. Make a vector in the "
    "tab Steer, of two personas perhaps, or hand over vectors and deltas of your own: "
    "<code>demo(model, properties={'formal': step_deltas(lm, formal_prompts, casual_prompts)})"
    "</code>."
)
_GIVE = (
    " Deltas come with wren alone; those of this model are handed over: <code>demo(model, "
    "properties={'formal': step_deltas(lm, formal_prompts, casual_prompts)})</code>."
)


class Row:
    """The controls of one part of the mix; `changed` hears the name and value of a field."""

    def __init__(self, number: int, changed: Callable[[str, Any], None]) -> None:
        def like(words: str, width: str, grow: str = "0 1", **more: Any) -> dict[str, Any]:
            # The row's number tells the controls of different rows apart.
            return {
                "description": f"{words} {number}",
                "style": {"description_width": controls.LABELS},
                "layout": ipw.Layout(flex=f"{grow} {width}", min_width="170px", width="auto",
                                     margin="2px 8px 2px 0"),
                "continuous_update": False, **more,
            }  # fmt: skip

        def listed(words: str, width: str, **more: Any) -> dict[str, Any]:
            return {name: value for name, value in like(words, width, "1 1", **more).items()
                    if name != "continuous_update"}  # fmt: skip

        self.fields: dict[str, Any] = {
            "adds": ipw.Dropdown(**listed("Property", "250px")),
            "schedule": ipw.Dropdown(**listed("Schedule", "250px", options=_SCHEDULES)),
            "strength": ipw.FloatSlider(  # the text follows the hand
                **like("Strength", "320px", "1 1", min=0.0, step=0.01, continuous_update=True)
            ),
            "top_p": ipw.FloatText(**like("Top p", "100%", step=0.05)),
            "nats": ipw.FloatText(**like("KL (nats)", "100%", step=1.0)),
        }
        for name, box in self.fields.items():
            box.observe(lambda change, name=name: changed(name, change["new"]), "value")
        *always, top_p, nats = self.fields.values()
        # A place of its own for what comes and goes, so that rows stand in line.
        extra = ipw.Box([top_p, nats], layout=ipw.Layout(flex="0 1 190px", min_width="170px"))
        self.zone = ipw.HTML(layout=ipw.Layout(flex="1 1 100%", margin="0 8px 4px 116px"))
        self.box = controls.row(*always, extra, self.zone)

    def show(
        self,
        part: Part,
        options: list[tuple[str, str]],
        most: float,
        zone: tuple[zones.Color, str],
    ) -> None:
        """Stand at a part, which may be as strong as `most`; what its schedule does not ask for is
        away. `zone` is that of its strength, with words, "" for none."""
        box = self.fields["adds"]
        if list(box.options) != options:
            box.options = options
        self.fields["strength"].max = max(most, self.fields["strength"].value, part.strength)
        for name, field in self.fields.items():
            field.value = getattr(part, name)
        for name, schedule in (("top_p", "dynamic"), ("nats", "budget")):
            self.fields[name].layout.display = "flex" if part.schedule == schedule else "none"
        self.fields["strength"].max = most
        for name in ("schedule", "strength", "top_p", "nats"):
            self.fields[name].disabled = not part.adds
        self.zone.value = page.zone(*zone) if zone[1] else ""
        self.zone.layout.display = "flex" if zone[1] else "none"


class ComposingTab:
    """All of the tab: `children` from top to bottom.

    attempt  does something and says what cannot be done, see `app.Demo`
    """

    def __init__(
        self, session: Session, library: Library, attempt: Callable[[Callable[[], Any]], None]
    ) -> None:
        self.session, self._attempt = session, attempt
        self._filling = False
        self._drawn = 0.0
        self.rows = [
            Row(number + 1, lambda name, value, number=number: self._choose(number, name, value))
            for number in range(PARTS)
        ]
        wide = {"description_width": controls.LABELS}
        self.prompt = ipw.Textarea(
            description="Continue", rows=2, continuous_update=False, style=wide,
            tooltip="The prompt that is continued",
            layout=ipw.Layout(flex="1 1 420px", width="auto", margin="2px 8px 2px 0"),
        )  # fmt: skip
        self.length = ipw.BoundedIntText(
            description="Tokens", min=1, max=MOST_TOKENS, style=wide,
            layout=ipw.Layout(
                flex="1 1 250px", min_width="200px", width="auto", margin="2px 8px 2px 0"
            ),
        )  # fmt: skip
        self.start = controls.button("Compose", "pencil", "Write the text", "primary")
        self.copy = controls.button("Copy composition", "copy", "Code that remakes the text")
        self.export = controls.button(
            "Export composition", "picture-o",
            "Write figure and coefficients, with the text and what makes it again",
        )  # fmt: skip
        self.tells = ipw.HTML()
        self.text = TextBox("Composed", layout=ipw.Layout(width="100%", margin="6px 0 12px"))
        self.plot = LivePlot(
            "Coefficients over the tokens of the composed text", _HEIGHT,
            "Coefficients appear here after Compose", library,
        )  # fmt: skip
        self.prompt.observe(lambda change: self._change(prompt=change["new"]), "value")
        self.length.observe(lambda change: self._change(new_tokens=change["new"]), "value")
        self.start.on_click(lambda _: attempt(session.compose))

    def arranged(
        self, *beside: ipw.Widget, below: ipw.Widget, shared: Sequence[ipw.Widget]
    ) -> ipw.VBox:
        """The tab's content; `beside` the button that starts, `below` it what is said, and controls
        `shared` with the other tab."""
        return ipw.VBox([
            self.tells,
            *(row.box for row in self.rows),
            controls.row(self.prompt),
            controls.row(self.length, *shared),
            controls.row(self.start, *beside, self.copy, self.export),
            below,
            self.text,
            self.plot.box,
        ])  # fmt: skip

    def fill(self) -> None:
        """All controls as the state has them."""
        made, state, mix = self.session.made, self.session.state, self.session.state.mix
        lm = made.lm if made.layers else None  # not closed
        fitting, wren = work.fitting(lm) if lm else [], lm is not None and lm.name == "wren"
        given = [*made.properties.given]
        options = composing.offered(
            fitting, wren=wren, given=given, chosen=[each.adds for each in mix.parts]
        )
        more = "" if wren or given else _GIVE if fitting else _NONE
        self.tells.value = f'<div class="wb-say" style="white-space:normal">{_TELLS}{more}</div>'
        self._filling = True
        try:
            for row, part in zip(self.rows, mix.parts, strict=True):
                end, zone = limits.most(part, state, made), limits.zone(part, state, made)
                row.show(part, options, end, zone)
            self.prompt.value, self.length.value = mix.prompt, mix.new_tokens
        finally:
            self._filling = False
        self._note()

    @property
    def ended(self) -> bool:
        """Whether no text grows."""
        composed = self.session.made.composed
        return composed is None or composed.text.finish != ""

    def drawn(self) -> go.Figure | None:
        """The coefficients of the text so far; None before the first, and where the last figure is
        too young for another."""
        composed, now = self.session.made.composed, time.monotonic()
        if composed is None or (not self.ended and now - self._drawn < _DRAWN):
            return None
        self._drawn = now
        return composing.figure(composed)

    def show(self, figure: go.Figure | None) -> None:
        """Show the text so far, and a figure if there is another one."""
        if figure is not None:
            self.plot.show(figure)
        self._note()

    def _note(self) -> None:
        composed = self.session.made.composed
        if composed is not None:
            later = "" if self.session.composed_current() else "chosen earlier"
            self.text.show(composed.text, later, below=composing.means(composed))

    def _choose(self, number: int, name: str, value: Any) -> None:
        with self.session.lock:
            state, made = self.session.state, self.session.made
            values = {name: value}
            if name == "adds" and value:  # as strong as before would be in another unit perhaps
                values["strength"] = limits.first(value, state, made)
            parts = list(state.mix.parts)

            def changed() -> None:
                parts[number] = replace(parts[number], **values)
                self._chosen(parts=tuple(parts))

            self._pass_on(changed)

    def _change(self, **values: Any) -> None:
        self._pass_on(lambda: self._chosen(**values))

    def _chosen(self, **values: Any) -> None:
        self.session.change(mix=replace(self.session.state.mix, **values))
        self.session.follow_mix()

    def _pass_on(self, act: Callable[[], None]) -> None:
        with self.session.lock:
            if not self._filling:  # by a reader, not by the state
                self._attempt(act)
                self.fill()  # back to what was, where it was refused
