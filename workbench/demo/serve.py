"""The demo as a page without code: voila over a notebook of one cell, on this machine only."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workbench.loading.checkpoints import absolute
from workbench.support.checks import check_whole

# Nobody else on the network may reach a page that runs a kernel.
LOOPBACK = "127.0.0.1"
# For somebody who has never steered a model, and sees no notebook around the demo.
INTRODUCTION = """# Steering a language model

A *steering vector* is added to what the model computes at one of its layers, and the text changes:
its mood, its language, whatever the vector was made for. Press **Train and sweep** and wait for the
curves. Then move the slider: it says how much of the vector is added. The left text is the plain
model's, the right one is steered. At a **green** coefficient `find_ceiling` calls at least nine in
ten of the texts that it tried intact, at an **amber** one at least half, at a **red** one fewer. It
misses faults: where a curve of coherence is shown, that is another judge, and a stricter one. The
darker a word is shaded, the less likely it is to the plain model. Coefficients are in *residual
norms*: 1 adds a vector as long as what the layer itself holds."""


def notebook(model: str, folder: Path) -> nbformat.NotebookNode:
    """A notebook that says what steering is and shows the demo of a model, which keeps files in
    `folder`: an absolute path, since the page's kernel works elsewhere. Names are literals there,
    never code."""
    quiet = "from transformers.utils import logging\nlogging.disable_progress_bar()"
    shown = f"widgets.demo({absolute(model)!r}, folder={str(folder)!r})"
    source = f"{quiet}\nfrom workbench import widgets\n{shown}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cells = [new_markdown_cell(INTRODUCTION), new_code_cell(source)]
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def command(page: Path, *, port: int, browser: bool) -> list[str]:
    """How voila is started. Raises ValueError for a port out of range."""
    check_whole("port", port, 1, 65535)
    return [
        sys.executable, "-m", "voila", str(page), f"--Voila.ip={LOOPBACK}", f"--port={port}",
        "--show_tracebacks=True", "--VoilaConfiguration.file_allowlist=[]",
        *([] if browser else ["--no-browser"]),
    ]  # fmt: skip


def serve(model: str = "wren", *, port: int = 8866, browser: bool = True) -> int:
    """Serve until interrupted; the exit status. What a reader keeps lands in `kept` here.

    Raises ValueError for a port out of range, and RuntimeError where voila is not installed.
    """
    if importlib.util.find_spec("voila") is None:
        raise RuntimeError('voila is missing: pip install -e ".[demo,notebooks]"')
    with tempfile.TemporaryDirectory(prefix="workbench-demo-") as folder:
        page = Path(folder) / "demo.ipynb"
        nbformat.write(notebook(model, Path("kept").resolve()), page)
        return _run(command(page, port=port, browser=browser))


def _run(arguments: list[str]) -> int:
    """Run a server until it ends or this process is interrupted or asked to end: it ends with it.
    Its exit status, 0 after an interrupt."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, end)
    server = subprocess.Popen(arguments)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()
        signal.signal(signal.SIGTERM, former)
