"""The browser that draws pictures: one for all of them, and another when it has ended."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kaleido.errors import ChromeNotFoundError

from workbench.reporting import browser as module
from workbench.reporting.browser import Browser, browser

FIGURE = {"data": [{"type": "scatter", "x": [0, 1], "y": [2, 3]}], "layout": {}}
OPTIONS = {"format": "svg", "width": 300, "height": 200, "scale": 1}


@pytest.fixture
def started() -> Iterator[Browser]:
    try:
        yield browser()
    except ChromeNotFoundError:
        pytest.skip("no Chrome or Chromium on this machine")
    module._browser(os.getpid()).close()


def drawing(path: Path, **changed: object) -> dict[str, object]:
    return {"fig": FIGURE, "path": path, "opts": OPTIONS} | changed


def run(code: str) -> subprocess.CompletedProcess[str]:
    given = [
        sys.executable,
        "-c",
        f"import os\nfrom workbench.reporting.browser import browser\n{code}",
    ]
    return subprocess.run(given, capture_output=True, text=True, timeout=120, check=True)


def test_one_browser_draws_all_pictures(started: Browser, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        assert browser() is started
        assert browser().write([drawing(tmp_path / name)]) == []
    first, second = ((tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first[:4] == second[:4] == b"<svg"


def test_after_what_cannot_be_drawn_comes_another_browser(started: Browser, tmp_path: Path) -> None:
    wrong = drawing(tmp_path / "a.svg", opts=OPTIONS | {"format": "nothing"})
    assert started.write([wrong])
    assert not (tmp_path / "a.svg").exists()
    assert not started.runs
    again = browser()
    assert again is not started
    assert again.write([drawing(tmp_path / "b.svg")]) == []
    assert (tmp_path / "b.svg").exists()


def test_a_browser_that_was_killed_says_so_and_leaves_nothing(
    started: Browser, tmp_path: Path
) -> None:
    started.kaleido.subprocess.kill()
    assert started.write([drawing(tmp_path / "a.svg")])
    assert is_ended(started)
    started.close()  # once more is no harm
    assert browser() is not started


class Hung:
    """A browser that starts, and then neither draws nor ends."""

    def __init__(self, **_: object) -> None:
        code = "import time; time.sleep(100)"
        self.subprocess = subprocess.Popen([sys.executable, "-c", code])

    async def open(self) -> None:
        await asyncio.sleep(0)

    async def write_fig_from_object(self, _: object) -> None:
        await asyncio.sleep(100)

    async def close(self) -> None:
        await asyncio.sleep(100)


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Browser:
    monkeypatch.setattr(module, "Kaleido", Hung)
    monkeypatch.setattr(module, "END", 0.1)
    return Browser()


def is_ended(found: Browser) -> bool:
    return not found.runs and not found.thread.is_alive()


def test_a_browser_that_hangs_is_ended(hung: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAW", 0.1)
    (error,) = hung.write([drawing(Path("a.svg"))])
    assert isinstance(error, TimeoutError)
    assert is_ended(hung)


def test_an_interrupt_ends_the_browser(hung: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hung.kaleido, "write_fig_from_object", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hung.write([drawing(Path("a.svg"))])
    assert is_ended(hung)


def test_a_browser_that_does_not_start_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Slow(Hung):
        async def open(self) -> None:
            made.append(self)
            await asyncio.sleep(100)

    monkeypatch.setattr(module, "Kaleido", Slow)
    for name in ("START", "END"):
        monkeypatch.setattr(module, name, 0.1)
    with pytest.raises(TimeoutError):
        Browser()
    assert made[0].subprocess.poll() is not None


def test_without_a_browser_every_call_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_: object) -> None:
        raise ChromeNotFoundError

    monkeypatch.setattr(module, "Kaleido", missing)
    module._browser.cache_clear()
    for _ in range(2):
        with pytest.raises(ChromeNotFoundError):
            browser()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
def test_it_ends_with_the_process(started: Browser) -> None:
    """Nothing hangs at the end, and nothing is left."""
    done = run("print(browser().kaleido.subprocess.pid)")
    assert not Path("/proc", done.stdout.strip()).exists()
