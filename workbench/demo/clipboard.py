"""Text for the reader's clipboard, which only the page can fill."""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import traitlets


class Clipboard(anywidget.AnyWidget):
    """Nothing to see: `copy` hands a text to the page, which puts it on the clipboard.

    A browser may refuse (a page that is not local, say): so show the text somewhere as well, and
    claim nothing before `answered` hears True.
    """

    _esm = """
    function render({ model }) {
      model.on("change:count", async () => {
        const count = model.get("count");
        let copied = true;
        try {
          await navigator.clipboard.writeText(model.get("text"));
        } catch {
          copied = false;
        }
        model.set("answer", copied ? count : -count);
        model.save_changes();
      });
    }
    export default { render };
    """
    text = traitlets.Unicode("").tag(sync=True)
    count = traitlets.Int(0).tag(sync=True)
    answer = traitlets.Int(0).tag(sync=True)

    def __init__(self, answered: Callable[[bool], None]) -> None:
        super().__init__()
        self.observe(lambda change: answered(change["new"] > 0), "answer")

    def copy(self, text: str) -> None:
        """Put a text on the clipboard."""
        with self.hold_sync():
            self.text = text
            self.count += 1
