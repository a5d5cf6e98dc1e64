"""Text for the reader's clipboard, which only the page can fill."""

from __future__ import annotations

import anywidget
import traitlets


class Clipboard(anywidget.AnyWidget):
    """Nothing to see: `copy` hands a text to the page, which puts it on the clipboard.

    A browser may refuse (a page that is not local, say): so show the text somewhere as well.
    """

    _esm = """
    function render({ model }) {
      model.on("change:count", () => {
        navigator.clipboard?.writeText(model.get("text")).catch(() => {});
      });
    }
    export default { render };
    """
    text = traitlets.Unicode("").tag(sync=True)
    count = traitlets.Int(0).tag(sync=True)

    def copy(self, text: str) -> None:
        """Put a text on the clipboard."""
        with self.hold_sync():
            self.text = text
            self.count += 1
