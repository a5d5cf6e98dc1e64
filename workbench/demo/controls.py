"""The controls of the demo: one widget for each field of a state, and the buttons.

Every control has a label in words, which screen readers read too. Knows nothing of what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as ipw

from workbench.demo.slider import ZoneSlider
from workbench.extraction.methods import METHODS

LABELS = "108px"  # the width of a control's words
_WIDE = {"description_width": LABELS}
AUTO = -1  # a dropdown takes None for nothing chosen


def _layout(grow: str = "1 1 250px", **more: str) -> ipw.Layout:
    return ipw.Layout(flex=grow, min_width="200px", width="auto", margin="2px 8px 2px 0", **more)


def fields() -> dict[str, Any]:
    """For each field of a state that a control of ipywidgets holds: the control. What may be chosen
    as style, data set, layer and second vector depends on the model: these lists are empty."""

    def like(words: str, grow: str = "1 1 250px", **more: Any) -> dict[str, Any]:
        return {"description": words, "style": _WIDE, "layout": _layout(grow), **more}

    def typed(words: str, grow: str = "1 1 250px", **more: Any) -> dict[str, Any]:
        """Told when it is left or Enter is pressed, not at every letter."""
        return like(words, grow, continuous_update=False, **more)

    boxes: dict[str, Any] = {
        "model": ipw.Text(**typed("Model", placeholder="wren, a hub id or a path")),
        "style": ipw.Dropdown(**like("Prompt style")),
        "source": ipw.Dropdown(
            **like("Contrast", options=[("data set", "data"), ("two personas", "own")])
        ),
        "data": ipw.Dropdown(**like("Data set")),
        "positive": ipw.Textarea(**typed("Positive", rows=2)),
        "negative": ipw.Textarea(**typed("Negative", rows=2)),
        "template": ipw.Text(**typed("Template", "1 1 100%")),
        "method": ipw.Dropdown(**like("Method", options=list(METHODS))),
        "layer": ipw.Dropdown(**like("Layer")),
        "reach": ipw.FloatText(**typed("Reach (norms)", step=0.25)),
        "prompt": ipw.Textarea(**typed("Prompt", "1 1 100%", rows=2)),
        "second": ipw.Dropdown(**like("Second vector")),
        "temperature": ipw.FloatText(**typed("Temperature", step=0.1)),
        "text_seed": ipw.IntText(**typed("Seed")),
        "new_tokens": ipw.IntText(**typed("Length (tokens)")),
    }
    for name, said in HINTS.items():
        boxes[name].tooltip = said
    return boxes


HINTS: Mapping[str, str] = {
    "style": "A chat needs a model with a chat template",
    "positive": "Personas that show the trait, one a line",
    "negative": "Their opposites, one a line, as many",
    "template": "What is said to the model, with {persona} in it",
    "reach": "Ends of the sweep and of the slider, in residual norms",
    "second": "A data set whose vector is added too",
}


def layer_options(layers: int) -> list[tuple[str, int]]:
    """Choices of a layer for a model that has so many; AUTO leaves it to the pairs."""
    return [("found by itself", AUTO), *((str(layer), layer) for layer in range(layers))]


def style_options(chats: bool, chosen: str) -> list[tuple[str, str]]:
    """Choices of a style for a model with a chat template (`chats`) or without; there a chat stands
    in the list only if it is `chosen`, in a saved state."""
    if chats:
        return [("text to continue", "base"), ("chat", "chat")]
    lacking = [("chat (this model has no template)", "chat")] if chosen == "chat" else []
    return [("text to continue", "base"), *lacking]


def button(words: str, icon: str, hint: str, style: str = "") -> ipw.Button:
    """A button with its words, a picture and a hint."""
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
        train=button("Train and sweep", "play", "Make the vector, then sweep its coefficient",
                     "primary"),
        stop=button("Stop", "stop", "Stop all within one token, but for the loading of a model"),
        again=button("Write again", "refresh", "Write both texts anew"),
        say=button("Keep answer", "comment", "Add question and steered answer to the chat"),
        clear=button("Clear chat", "eraser", "Forget the chat so far"),
        copy=button("Copy as Python", "copy", "Code that remakes exactly the steered text"),
        vector=button("Save vector", "save", "Write the vector as a safetensors file"),
        figure=button("Export figure", "picture-o", "Write the sweep as pictures and a table"),
        keep=button("Save state", "download", "Write all that is chosen as JSON"),
        restore=button("Restore state", "upload", "Choose all as the JSON in the box says"),
    )  # fmt: skip


def slider(label: str) -> ZoneSlider:
    """A slider over all the width there is."""
    return ZoneSlider(label=label, layout=ipw.Layout(width="100%"))


def heading(number: int, words: str) -> ipw.HTML:
    """A numbered heading."""
    return ipw.HTML(
        f'<h3 class="wb-say" style="margin:10px 0 2px;font-size:16px;font-weight:600">'
        f"{number} · {words}</h3>"
    )


def row(*children: ipw.Widget, grow: str = "1 1 100%", align: str = "flex-start") -> ipw.Box:
    """Children beside each other, as many as there is room for; `align` "stretch": equally high."""
    return ipw.Box(
        children,
        layout=ipw.Layout(
            display="flex", flex_flow="row wrap", align_items=align, flex=grow,
            min_width="0", overflow="visible",
        ),
    )  # fmt: skip


def stack(*children: ipw.Widget, grow: str) -> ipw.VBox:
    """Children below each other, in a row of stacks."""
    return ipw.VBox(
        children,
        layout=ipw.Layout(flex=grow, min_width="0", overflow="hidden", margin="0 12px 0 0"),
    )
