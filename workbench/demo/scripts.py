"""What the demo's own widgets run in the page."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent


def script(name: str) -> str:
    """A widget's script with what all of them share before it: each is a module of its own, so
    that none can import another."""
    return "\n".join((HERE / each).read_text(encoding="utf-8") for each in ("dom.js", name))
