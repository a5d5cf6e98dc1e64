"""The controls of the demo: one widget for each field of a state, and the buttons.

Every control has a label in words, which screen readers read too. Knows nothing of what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as ipw

from workbench import catalogue
from workbench.demo.slider import ZoneSlider
from workbench.methods import METHODS

_WIDE = {"description_width": "108px"}
_AUTO = "found by itself"


def _layout(grow: str = "1 1 250px", **more: str) -> ipw.Layout:
    return ipw.Layout(flex=grow, min_width="200px", width="auto", margin="2px 8px 2px 0", **more)


def fields(layers: int) -> dict[str, Any]:
    """For each field of a state that a control of ipywidgets holds: the control.

    layers  of the model
    """
    sets = catalogue.bundled()
    style: dict[str, Any] = {"style": _WIDE, "layout": _layout()}
    late = {"continuous_update": False}
    boxes: dict[str, Any] = {
        "model": ipw.Text(description="Model", placeholder="wren, a hub id or a path",
                          **late, **style),
        "style": ipw.Dropdown(description="Prompt style",
                              options=[("text to continue", "base"), ("chat", "chat")], **style),
        "source": ipw.Dropdown(description="Contrast",
                               options=[("data set", "data"), ("two personas", "own")], **style),
        "data": ipw.Dropdown(description="Data set", options=sets, **style),
        "positive": ipw.Textarea(description="Positive", rows=2, **late, **style),
        "negative": ipw.Textarea(description="Negative", rows=2, **late, **style),
        "template": ipw.Text(description="Template", **late, **style),
        "method": ipw.Dropdown(description="Method", options=list(METHODS), **style),
        "layer": ipw.Dropdown(description="Layer", options=layer_options(layers), **style),
        "reach": ipw.FloatText(description="Reach (norms)", step=0.25, **late, **style),
        "prompt": ipw.Textarea(description="Prompt", rows=2, **late,
                               style=_WIDE, layout=_layout("1 1 100%")),
        "second": ipw.Dropdown(description="Second vector",
                               options=[("none", ""), *((name, name) for name in sets)], **style),
        "temperature": ipw.FloatText(description="Temperature", step=0.1, **late, **style),
        "text_seed": ipw.IntText(description="Seed", **late, **style),
        "new_tokens": ipw.IntText(description="Length (tokens)", **late, **style),
    }  # fmt: skip
    for name, said in HINTS.items():
        boxes[name].tooltip = said
    return boxes


HINTS: Mapping[str, str] = {
    "positive": "Personas that show the trait, one a line",
    "negative": "Their opposites, one a line, as many",
    "template": "What is said to the model, with {persona} in it",
    "reach": "Ends of the sweep and of the slider, in residual norms",
    "second": "A data set whose vector is added too",
}


def layer_options(layers: int) -> list[tuple[str, int | None]]:
    """Choices of a layer for a model that has so many."""
    return [(_AUTO, None), *((str(layer), layer) for layer in range(layers))]


def _button(words: str, icon: str, hint: str, style: str = "") -> ipw.Button:
    return ipw.Button(
        description=words, icon=icon, tooltip=hint, button_style=style,
        layout=ipw.Layout(width="auto", margin="2px 8px 2px 0"),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Buttons:
    """All buttons of the demo."""

    train: ipw.Button
    stop: ipw.Button
    again: ipw.Button
    say: ipw.Button
    clear: ipw.Button
    copy: ipw.Button
    vector: ipw.Button
    figure: ipw.Button
    keep: ipw.Button
    restore: ipw.Button


def buttons() -> Buttons:
    """The buttons, each with its words and a hint."""
    return Buttons(
        train=_button("Train and sweep", "play", "Make the vector, then sweep its coefficient",
                      "primary"),
        stop=_button("Stop", "stop", "Stop all within one token"),
        again=_button("Write again", "refresh", "Write both texts anew"),
        say=_button("Keep answer", "comment", "Add question and steered answer to the chat"),
        clear=_button("Clear chat", "eraser", "Forget the chat so far"),
        copy=_button("Copy as Python", "copy", "Code that remakes exactly the steered text"),
        vector=_button("Save vector", "save", "Write the vector as a safetensors file"),
        figure=_button("Export figure", "picture-o", "Write the sweep as pictures and a table"),
        keep=_button("Save state", "download", "Write all that is chosen as JSON"),
        restore=_button("Restore state", "upload", "Choose all as the JSON in the box says"),
    )  # fmt: skip


def slider(label: str) -> ZoneSlider:
    """A slider over all the width there is."""
    return ZoneSlider(label=label, layout=ipw.Layout(width="100%"))


def heading(number: int, words: str) -> ipw.HTML:
    """A numbered heading."""
    return ipw.HTML(
        f'<h3 class="wb-say" style="margin:10px 0 2px;font-size:16px">{number} · {words}</h3>'
    )


def row(*children: ipw.Widget, grow: str = "1 1 100%") -> ipw.Box:
    """Children beside each other, as many as there is room for."""
    return ipw.Box(
        children,
        layout=ipw.Layout(
            display="flex", flex_flow="row wrap", align_items="flex-start", flex=grow,
            min_width="0", overflow="visible",
        ),
    )  # fmt: skip


def stack(*children: ipw.Widget, grow: str) -> ipw.VBox:
    """Children below each other, in a row of stacks."""
    return ipw.VBox(
        children,
        layout=ipw.Layout(flex=grow, min_width="0", overflow="hidden", margin="0 12px 0 0"),
    )
