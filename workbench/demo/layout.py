"""Where the widgets of the demo stand on the page, and under which headings."""

from __future__ import annotations

from typing import Any

import ipywidgets as ipw

from workbench.demo import controls, page


def arranged(demo: Any) -> tuple[ipw.Widget, ...]:
    """The rows of the page: `demo` has the widgets that app.py makes."""
    field, button = demo.fields, demo.buttons
    chosen = ("model", "source", "data", "positive", "negative", "template", "method", "layer",
              "reach")  # fmt: skip
    choose = controls.stack(
        controls.heading(1, "Choose"),
        controls.row(*(field[name] for name in chosen)),
        controls.heading(2, "Train and sweep"),
        controls.row(button.train, button.stop, demo.progress),
        demo.doing,
        demo.status,
        grow="1 1 460px",
    )
    layers = controls.stack(demo.layers.box, grow="1 1 380px")
    curves = controls.stack(demo.curves.box, grow="1 1 500px")
    more = ("style", "temperature", "text_seed", "new_tokens", "second")
    steer = controls.stack(
        controls.heading(3, "Steer"),
        demo.slider,
        controls.row(*demo.texts.values(), align="stretch"),
        ipw.HTML(page.legend()),
        demo.chat,
        controls.row(field["prompt"]),
        controls.row(*(field[name] for name in more)),
        demo.second,
        controls.row(button.again, button.say, button.clear),
        grow="1 1 560px",
    )
    keep = controls.stack(
        controls.heading(4, "Keep"),
        controls.row(
            demo.file, button.copy, button.vector, button.figure, button.keep, button.restore
        ),
        controls.row(demo.kept, demo.clipboard, demo.library),
        grow="1 1 100%",
    )
    steering = ipw.VBox([controls.row(choose, layers), controls.row(curves, steer)])
    # What is done and said stands in both tabs: views of the same widgets.
    # So do the controls that both texts depend on; what is said has a place that stays, so that
    # the text under it does not jump.
    said = ipw.VBox([demo.doing, demo.status], layout=ipw.Layout(min_height="28px"))
    composing = demo.composing.arranged(
        button.stop, demo.progress, below=said,
        shared=[field[name] for name in ("style", "temperature", "text_seed")],
    )  # fmt: skip
    demo.tabs.children = (steering, composing)
    demo.tabs.titles = ("Steer", "Compose")
    return (ipw.HTML(page.STYLE), demo.tabs, controls.row(keep))


def within(widget: ipw.Widget) -> list[ipw.Widget]:
    """All parts of a widget, which a kernel holds until each is closed: those in it, and of all
    their layouts and styles."""
    found = [each for name in ("layout", "style") if (each := getattr(widget, name, None))]
    for child in getattr(widget, "children", ()):
        found += [child, *within(child)]
    return found
