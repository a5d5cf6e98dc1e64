"""Texts on the page that grow and stay: the two texts (texts.js), and live regions (lines.js).

What changes goes to the page, not the whole again. Texts are made visible here (page.py) and put
in as text there, so none can become markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import anywidget
import traitlets

from workbench.demo import page
from workbench.demo.scripts import script
from workbench.demo.zones import Color
from workbench.generation.live import Text


class TextBox(anywidget.AnyWidget):
    """One of the two texts, token by token, with its title.

    cells  the text that was begun last as far as it then was, and again when it is whole
    more   what came since: {"text": which, "at": how many cells stood before, "cells": [...]}
    """

    _esm = script("texts.js")
    label = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    color = traitlets.Unicode("").tag(sync=True)
    likely = traitlets.Unicode("").tag(sync=True)
    ended = traitlets.Unicode("").tag(sync=True)
    cells: Any = traitlets.List().tag(sync=True)
    more: Any = traitlets.Dict({"text": 0, "at": 0, "cells": []}).tag(sync=True)

    def __init__(self, label: str, **options: Any) -> None:
        self._sent: tuple[page.Cell, ...] = ()
        self._count = 0  # the same tokens in another text are other news
        super().__init__(label=label, **options)

    def show(
        self, text: Text, note: str = "", mark: Color | None = None, *, below: str = ""
    ) -> None:
        """Show a text so far; `below` its title stands what is given, or how likely it is. What
        goes on where the one shown before ended is sent alone."""
        found = tuple(page.cells(text.pieces))
        before = len(self._sent)
        with self.hold_sync():
            self.note, self.likely = note, below or page.likelihood(text)
            self.color = page.ZONE_COLORS[mark] if mark else ""
            self.ended = page.ENDED[text.finish]
            if text.finish or found[:before] != self._sent or not before:
                self._count += 1
                self.cells = [list(astuple(cell)) for cell in found]
            elif len(found) > before:
                added = [list(astuple(cell)) for cell in found[before:]]
                self.more = {"text": self._count, "at": before, "cells": added}
        self._sent = found


class Lines(anywidget.AnyWidget):
    """Lines in a live region: role "status" for messages, "log" for the turns of a chat."""

    _esm = script("lines.js")
    role = traitlets.Unicode("status").tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    lines: Any = traitlets.List().tag(sync=True)

    def show(self, lines: Sequence[tuple[str, str]]) -> None:
        """Show (who, what) lines, the last twenty of them."""
        self.lines = [
            [page.visible(who, 100), page.visible(words, 2000)] for who, words in lines[-20:]
        ]

    def say(self, message: str) -> None:
        """Show one message, or nothing for ""."""
        self.show([("", message)] if message else [])

    @property
    def text(self) -> str:
        """All that is said."""
        return "\n".join(words for _, words in self.lines)
