"""A figure's page and pictures: HTML, PNG, SVG and PDF, the same bytes at every run.

The page is interactive and loads plotly's script from the file beside it, one for all pages of a
folder, or from the network where that file is missing. Pictures need Chrome or Chromium.
"""

import html
import inspect
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from kaleido.errors import ChromeNotFoundError
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from workbench import figures
from workbench.figures.look import INK, WIDTH
from workbench.reporting.browser import browser
from workbench.support.store import write_atomically

KINDS = ("png", "svg", "pdf")
HEIGHT = 420  # of a figure that does not say, in pixels
BAR = 36  # of a page's column of buttons, in pixels
SCRIPT = "plotly.min.js"

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title} ({name})</title><script src="{script}"></script>
<script>window.Plotly || document.write('<script src="https://cdn.plot.ly/plotly-{version}.min.js"><\\/script>')</script>
<style>
body {{ background: white; color: {ink}; margin: 2rem auto; max-width: {width}px;
  font-family: Arial, "Liberation Sans", Helvetica, sans-serif; line-height: 1.4 }}
h1 {{ font-size: 1.15rem }}
</style>
</head>
<body>
<h1>{title}</h1>
{figure}
{caption}
</body>
</html>
"""


def draw(drawings: Mapping[Path, go.Figure]) -> list[Path]:
    """Write the page and, with a browser, the images of figures.

    Each to its path plus a suffix. Returns the files written.
    """
    pages = [_page(figure, path) for path, figure in drawings.items()]
    files = {
        path.with_suffix(f".{kind}"): figure for path, figure in drawings.items() for kind in KINDS
    }
    return [*pages, *(files if files and render(files) else ())]


def _page(figure: go.Figure, path: Path) -> Path:
    """Write the interactive page of a figure, and the script that it needs."""
    page = path.with_suffix(".html")
    script = page.parent / SCRIPT
    version = get_plotlyjs_version()
    source = get_plotlyjs().encode()
    if not script.is_file() or script.stat().st_size != len(source):
        write_atomically(script, source)
    drawn = go.Figure(figure)  # with room for the buttons, which would lie on the end of a legend
    right = figure.layout.margin.r or figure.layout.template.layout.margin.r or 0
    drawn.update_layout(width=(figure.layout.width or WIDTH) + BAR, margin={"r": right + BAR})
    body = drawn.to_html(full_html=False, include_plotlyjs=False, div_id=path.name, auto_play=False)
    title, caption = _said(figure, path.name)
    text = PAGE.format(
        title=html.escape(title),
        name=html.escape(path.name),
        caption=f"<p>{html.escape(caption)}</p>" if caption else "",
        script=SCRIPT,
        version=version,
        figure=body,
        width=drawn.layout.width,
        ink=INK,
    )
    write_atomically(page, text.encode())
    return page


def _said(figure: go.Figure, name: str) -> tuple[str, str]:
    """A page's title and caption: what the figure's function says of itself, first and last.

    Its docstring says for whoever draws the figure what a reader needs to read it. A figure that no
    function of `workbench.figures` drew has its own title, or else the file's name.
    """
    meta = figure.layout.meta
    function = str(meta.get("function")) if isinstance(meta, Mapping) else ""
    text = inspect.getdoc(getattr(figures, function, None)) if function in figures.__all__ else None
    if not text:
        return str(figure.layout.title.text or name), ""
    first, *others = (" ".join(part.split()) for part in text.split("\n\n"))
    rest = " ".join(part for part in others if not part.startswith("Args:"))
    caption = re.sub(r"Raises \w+ .*|[`*]", "", rest)
    return first.rstrip(".").replace("`", ""), caption.strip()


def render(files: Mapping[Path, go.Figure]) -> bool:
    """Write images, their kind told by the suffix; without a browser False, with advice printed."""
    with tempfile.TemporaryDirectory() as place:
        drafts = [Path(place) / f"{index}{file.suffix}" for index, file in enumerate(files)]
        drawings = [
            {"fig": figure.to_dict(), "path": draft, "opts": _options(figure, draft.suffix)}
            for figure, draft in zip(files.values(), drafts, strict=True)
        ]
        try:
            errors = browser().write(drawings)
        except ChromeNotFoundError:
            print(f"no Chrome or Chromium found, so no images are written. To mend it: {_remedy()}")
            return False
        lacking = [
            file.name for draft, file in zip(drafts, files, strict=True) if not draft.exists()
        ]
        if lacking:
            why = f" ({errors[0]!r})" if errors else ""
            raise RuntimeError(
                f"the browser drew no {', '.join(lacking)}{why}: try again when the machine is "
                "less busy"
            )
        for draft, file in zip(drafts, files, strict=True):
            write_atomically(file, _same_every_time(draft.read_bytes(), file))
    return True


def _options(figure: go.Figure, suffix: str) -> dict[str, Any]:
    """How kaleido is to draw a figure: the kind of file, its size, and pixels a point."""
    return {
        "format": suffix[1:],
        "width": figure.layout.width or WIDTH,
        "height": figure.layout.height or HEIGHT,
        "scale": 2 if suffix == ".png" else 1,
    }


def _remedy() -> str:
    """The one command that installs a browser for the images."""
    if shutil.which("apt-get"):
        return "sudo apt-get install -y chromium"
    return "plotly_get_chrome -y"


def _same_every_time(content: bytes, file: Path) -> bytes:
    """Images without what differs from run to run: random identifiers (SVG) and dates (PDF).

    Lengths stay as they are, because a PDF finds its parts by offset.
    """
    if file.suffix == ".svg":
        found = re.search(rb'id="defs-([0-9a-f]{6})"', content)
        content = content.replace(found[1], b"figure") if found else content
        return re.sub(rb"\b(trace|cb)[0-9a-f]{6}\b", rb"\g<1>000000", content)
    if file.suffix == ".pdf":
        return re.sub(
            rb"(/(?:Creation|Mod)Date \(D:)\d{14}", rb"\g<1>" + b"20000101000000", content
        )
    return content
