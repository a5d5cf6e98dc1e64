"""JupyterLab, Notebook 7 and voila started on loopback, and Debian's Chromium to look at them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "03_interactive_demo.ipynb"
PLACES = {"jupyterlab": "lab/tree", "notebook": "notebooks"}  # of a notebook, in an address
WAIT = 300_000  # milliseconds for what takes long on a busy machine
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def missing() -> str:
    """What a browser test lacks here, "" if nothing."""
    if chromium() is None:
        return "no chromium in the path"
    for name in ("playwright", "jupyterlab", "voila"):
        try:
            __import__(name)
        except ImportError:
            return f"{name} is not installed"
    return ""


def chromium() -> str | None:
    """The path of Chromium or Chrome."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def served(command: Sequence[str], port: int, folder: Path, log: Path) -> Iterator[str]:
    """Run a server until the block ends; its address, once it answers.

    Raises RuntimeError with the end of its log if it does not within a minute.
    """
    own = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": "1",
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env={**os.environ, **own},
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                if server.poll() is not None:
                    break
                try:
                    # No page is asked for: voila would start a kernel of its own for it.
                    socket.create_connection(("127.0.0.1", port), timeout=60).close()
                except OSError:
                    time.sleep(0.25)
                else:
                    yield address
                    return
            raise RuntimeError(f"{command[0]} does not answer:\n{log.read_text()[-3000:]}")
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextmanager
def jupyter(
    folder: Path, app: str = "jupyterlab", theme: str = "JupyterLab Light"
) -> Iterator[str]:
    """The address of a copy of the notebook, in JupyterLab or, as "notebook", in Notebook 7."""
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, folder / "notebooks" / NOTEBOOK)
    settings = folder / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    port = free_port()
    command = [
        app, "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
        f"--notebook-dir={folder / 'notebooks'}", "--IdentityProvider.token=",
        "--ServerApp.password=", "--ServerApp.open_browser=False",
    ]  # fmt: skip
    with served(command, port, folder, folder / f"{app}.log") as address:
        yield f"{address}/{PLACES[app]}/{NOTEBOOK}"


def run_all(page: Any, address: str) -> None:
    """Open a notebook and run all its cells, by clicks."""
    page.goto(address, timeout=WAIT)
    page.get_by_text("(ipykernel)").first.wait_for(timeout=WAIT)  # before, the mark says idle too
    mark = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    mark.first.wait_for(timeout=WAIT, state="attached")
    page.wait_for_timeout(2000)  # cells that are run before the page has settled are dropped
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


@contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A page of Chromium, which may use the clipboard."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = opened.new_page(viewport={"width": width, "height": height})
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        try:
            yield page
        finally:
            opened.close()
