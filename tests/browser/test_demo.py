"""The demo in a real browser: JupyterLab and voila, started here, driven as a reader would."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pages
import pytest
from pages import WAIT

pytestmark = pytest.mark.skipif(bool(pages.missing()), reason=pages.missing() or "all there")
ZONES = """() => [...document.querySelectorAll('.wb-slider-words')]
    .some(each => /^(Green|Amber|Red)/.test(each.textContent))"""
HOSTILE = 'Nestor & Roland: <img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


# Focus the steered text and select its second token; what is selected.
SELECT = """() => {
  const box = document.querySelectorAll('.wb-text')[1];
  box.focus();
  getSelection().selectAllChildren(box.querySelectorAll('span')[1]);
  return String(getSelection());
}"""
SELECTED = """() => [String(getSelection()),
  document.activeElement === document.querySelectorAll('.wb-text')[1]]"""


# Controls without a name for a screen reader, and those that reach over the demo's right edge.
UNNAMED = """() => {
  const named = (each) => each.labels?.[0]?.textContent.trim() || each.getAttribute('aria-label')
    || each.textContent.trim();
  const demo = document.querySelector('.widget-vbox');
  return [...demo.querySelectorAll('input, select, textarea, button')]
    .filter(each => each.offsetParent && !named(each)).map(each => each.outerHTML);
}"""
CUT_OFF = """() => {
  const demo = document.querySelector('.widget-vbox'), edge = demo.getBoundingClientRect().right;
  return [...demo.querySelectorAll('input, select, textarea, button, .wb-text')]
    .filter(each => each.offsetParent && each.getBoundingClientRect().right > edge + 1)
    .map(each => each.outerHTML);
}"""


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Where pictures go: a folder of choice, or a temporary one."""
    folder = Path(os.environ.get("WORKBENCH_SHOTS", tmp_path / "shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.05)


class Face:
    """What a reader sees and touches."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.slider = page.locator(".wb-slider-input").first
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def button(self, words: str) -> Any:
        return self.page.get_by_role("button", name=words)

    def words(self) -> str:
        return self.page.locator(".wb-slider-words").first.text_content()

    def text(self, which: str) -> str:
        found = self.page.get_by_label(f"{which} text, scrollable", exact=True)
        return re.sub(r" (■.*|… \(length reached\))$", "", found.text_content())

    def done(self) -> bool:
        found = self.page.get_by_label("Steered text, scrollable", exact=True)
        return "length reached" in found.text_content()

    def noted(self) -> bool:
        """Whether the steered text is of the slider's coefficient, by the note at its title."""
        note = self.page.locator(".wb-title").nth(1).locator("small").first.text_content()
        found = re.fullmatch(r"([+−])(\d+\.\d+)", note.strip())
        told = float(found[2]) * (1 if found[1] == "+" else -1) if found else 0.0
        return abs(told - self.value()) < 0.001

    def status(self) -> str:
        return self.page.get_by_role("status").and_(self.page.locator(".wb-say")).text_content()

    def to_zero(self) -> None:
        """With the mouse, and the last steps with the arrow keys."""
        self.drag_to(0.0)
        for _ in range(5):
            if abs(self.value()) < 1e-9:  # steps from an end add up to nearly 0
                break
            self.slider.press("ArrowLeft" if self.value() > 0 else "ArrowRight")
        until(lambda: self.words().startswith("Zero"), "the words for zero")
        until(lambda: self.done() and self.text("Steered") == self.text("Unsteered"), "one text")

    def value(self) -> float:
        return float(self.slider.input_value())

    def drag_to(self, target: float) -> None:
        """Move the thumb with the mouse."""
        self.slider.scroll_into_view_if_needed()
        box, least, most = (
            self.slider.bounding_box(), float(self.slider.get_attribute("min")),
            float(self.slider.get_attribute("max")),
        )  # fmt: skip

        def place(value: float) -> float:
            return box["x"] + 9 + (box["width"] - 18) * (value - least) / (most - least)

        middle = box["y"] + box["height"] / 2
        self.page.mouse.move(place(self.value()), middle)
        self.page.mouse.down()
        self.page.mouse.move(place(target), middle, steps=8)
        self.page.mouse.up()
        until(lambda: abs(self.value() - target) < 0.02, f"the slider at {target}")
        until(lambda: self.noted() and self.done(), "the text of that coefficient")

    def zone(self) -> str:
        dot = self.page.locator(".wb-title .wb-zone").nth(1)
        return dot.evaluate("each => getComputedStyle(each).backgroundColor")


def picture(page: Any, path: Path) -> None:
    """The sweep and both texts, from the curves down to the buttons under them."""
    size = page.viewport_size
    page.set_viewport_size({"width": size["width"], "height": 2600})
    page.wait_for_timeout(1500)
    page.locator(".wb-plot").nth(1).scroll_into_view_if_needed()
    top = page.locator(".wb-plot").nth(1).bounding_box()
    foot = page.get_by_role("button", name="Write again").bounding_box()
    height = foot["y"] + foot["height"] - top["y"] + 8
    clip = {"x": top["x"] - 4, "y": top["y"], "width": top["width"] + 8, "height": height}
    page.screenshot(path=path, clip=clip)
    page.set_viewport_size(size)
    page.wait_for_timeout(1000)


def test_in_jupyterlab_from_run_all_to_copied_code(tmp_path: Path, shots: Path) -> None:
    with pages.jupyter(tmp_path) as address, pages.browser(1280, 1500) as page:
        face = Face(page)
        pages.run_all(page, address)
        page.get_by_text("Press 'Train and sweep', then run this").wait_for(timeout=WAIT)
        assert face.words().startswith("No sweep yet")
        page.get_by_text("Curves appear here after Train and sweep").wait_for()
        assert page.locator(".wb-plot .js-plotly-plot").count() == 0

        # Stop in the middle of the training; then all of it.
        face.button("Train and sweep").click()
        face.button("Stop").click()
        until(lambda: face.button("Stop").is_disabled(), "an end after the stop")
        face.button("Train and sweep").click()
        page.wait_for_function(ZONES, timeout=WAIT)
        until(lambda: face.button("Stop").is_disabled(), "the end of the sweep", 300)
        until(face.done, "the texts at the recommended coefficient")
        recommended, beyond = float(re.findall(r"Green: up to (\+0\.\d+) \[", face.words())[0]), 0.6
        page.screenshot(path=shots / "lab-light-1280.png")
        picture(page, shots / "readme.png")

        # To 0, where both are the same, to recommended, and beyond the ceiling.
        face.to_zero()
        face.slider.focus()
        page.keyboard.press("Home")
        until(lambda: face.value() < -0.7 and face.words().startswith("Red"), "the left end")
        face.drag_to(recommended)
        green, unsteered, steered = face.zone(), face.text("Unsteered"), face.text("Steered")
        assert unsteered != steered
        face.drag_to(beyond)
        assert face.text("Steered") != steered
        assert face.text("Unsteered") == unsteered
        assert face.zone() != green
        assert face.words().startswith("Red: beyond the ceiling")
        page.screenshot(path=shots / "lab-red-1280.png")

        # A dot of the first panel.
        dots = page.locator(".js-plotly-plot").nth(1).locator(".scatterlayer .points path")
        before = face.value()
        dots.nth(2).scroll_into_view_if_needed()
        place = dots.nth(2).bounding_box()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.locator(".hoverlayer .hovertext").first.wait_for(timeout=10_000)
        page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        until(lambda: face.value() != before, "a slider that follows the click")

        # A hostile prompt changes nothing on the page but itself, nor does the answer that is kept.
        face.drag_to(recommended)
        prompt, style = (
            page.get_by_label("Prompt", exact=True),
            page.get_by_label("Prompt style").first,
        )
        style.select_option("chat")
        prompt.fill(HOSTILE)
        prompt.blur()
        until(lambda: face.text("Unsteered") != unsteered, "another text")
        until(lambda: "chosen earlier" not in page.locator(".wb-title").nth(1).text_content(), "it")
        log = page.locator("[role=log]")

        def kept() -> bool:
            """Refused until the answer is whole."""
            face.button("Keep answer").click()
            page.wait_for_timeout(300)
            return face.status().startswith("Kept")

        until(kept, "an answer that can be kept")
        assert HOSTILE in log.text_content()
        assert log.locator("img, script").count() == 0
        page.locator(".wb-text span").first.hover()
        assert page.evaluate("window.hacked") is None
        face.button("Clear chat").click()
        until(lambda: log.text_content() == "", "an empty chat")
        style.select_option("text to continue")
        prompt.fill("Nestor & Roland:")
        prompt.blur()
        until(lambda: face.done() and face.text("Steered") == steered, "the former text")

        # Two sliders, each with a name of its own.
        page.get_by_label("Second vector", exact=True).select_option("wren-italian")
        other = page.get_by_label("Coefficient of the second vector")
        other.wait_for()
        assert other.count() == 1 == page.get_by_label("Steering coefficient").count()
        assert other.get_attribute("id") != face.slider.get_attribute("id")
        page.get_by_label("Second vector", exact=True).select_option("none")
        other.wait_for(state="hidden")
        until(face.done, "the text without it")

        # A text that grows leaves the reader's focus and selection alone; stop in mid-text.
        length = page.get_by_label("Length (tokens)")
        length.fill("400")
        length.press("Enter")
        spans = page.locator(".wb-text").nth(1).locator("span")
        until(lambda: spans.count() > 4 and not face.done(), "a long text begun")
        chosen = page.evaluate(SELECT)
        before = len(face.text("Steered"))
        until(lambda: len(face.text("Steered")) > before + 40, "more of it")
        assert page.evaluate(SELECTED) == [chosen, True]
        face.button("Stop").click()
        page.get_by_text("■ stopped").first.wait_for(timeout=10_000)
        cut = face.text("Steered")
        page.wait_for_timeout(500)
        assert face.text("Steered") == cut
        assert len(cut) < 1500
        length.fill("24")
        length.press("Enter")
        until(lambda: face.done() and len(face.text("Steered")) < len(steered), "a short text")

        # The copied code writes the same text.
        face.button("Copy as Python").click()
        box = page.get_by_label("Code or JSON")
        until(lambda: "live.stream" in box.input_value(), "the code")
        until(lambda: face.status().startswith("Copied;"), "the page's word")
        assert page.evaluate("navigator.clipboard.readText()") == box.input_value()
        script = tmp_path / "copied.py"
        script.write_text(box.input_value())
        told = subprocess.run(
            [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(pages.ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert told.stdout == face.text("Steered") + "\n"

        assert page.evaluate(UNNAMED) == []
        assert face.errors == []


@pytest.mark.parametrize(
    ("app", "theme"), [("jupyterlab", "JupyterLab Dark"), ("notebook", "JupyterLab Light")]
)
def test_in_other_pages(tmp_path: Path, shots: Path, app: str, theme: str) -> None:
    """The same notebook in a dark theme and in Notebook 7, on a wide screen and a narrow one:
    trained, steered, nothing cut off."""
    pytest.importorskip(app)
    with pages.jupyter(tmp_path, app, theme) as address, pages.browser(1920, 1500) as page:
        pages.run_all(page, address)
        face = Face(page)  # from here on: Notebook 7 has errors of its own while it starts
        face.button("Train and sweep").click(timeout=WAIT)
        page.wait_for_function(ZONES, timeout=WAIT)
        until(lambda: face.button("Stop").is_disabled(), "the end of the sweep", 300)
        until(face.done, "the texts at the recommended coefficient")
        recommended, green = face.text("Steered"), face.zone()
        name = f"{app}-{theme.split()[1].lower()}"
        page.screenshot(path=shots / f"{name}-1920.png")
        assert page.evaluate(CUT_OFF) == []
        face.drag_to(0.6)
        assert face.text("Steered") != recommended
        assert face.zone() != green
        for width in (1920, 1280):
            page.set_viewport_size({"width": width, "height": 1500})
            picture(page, shots / f"{name}-{width}-red.png")
            assert page.evaluate(CUT_OFF) == []
        assert page.evaluate(UNNAMED) == []
        assert face.errors == []


def test_a_composition_in_a_tab_of_its_own(tmp_path: Path, shots: Path) -> None:
    port = pages.free_port()
    command = ["workbench.cli", "demo", f"--port={port}", "--no-browser"]
    with (
        pages.served(command, port, tmp_path, tmp_path / "voila.log") as address,
        pages.browser(1280, 1400) as page,
    ):
        face = Face(page)
        page.goto(address, timeout=WAIT)
        face.slider.wait_for(timeout=WAIT)
        page.get_by_role("tab", name="Compose").click()
        face.button("Compose").click()
        until(lambda: "length reached" in page.locator(".wb-text").last.text_content(), "a text")
        page.locator(".js-plotly-plot .scatterlayer").first.wait_for(timeout=WAIT)
        first = face.text("Composed")
        page.screenshot(path=shots / "voila-compose-1280.png")

        # What a schedule asks for comes and goes; a hostile prompt stays a text.
        assert page.get_by_label("KL (nats) 2").is_hidden()
        page.get_by_label("Schedule 2").select_option("KL budget")
        page.get_by_label("KL (nats) 2").wait_for()
        prompt = page.get_by_label("Continue")
        prompt.fill(HOSTILE)
        prompt.blur()
        shown = page.get_by_label("Composed text, scrollable", exact=True)
        title = page.locator(".wb-title").last

        def whole() -> bool:
            ended = "reached" in shown.text_content() or "ended" in shown.text_content()
            earlier = "chosen earlier" in title.text_content()
            return ended and not earlier and face.button("Stop").is_disabled()

        until(lambda: whole() and face.text("Composed") != first, "a text of that prompt")

        # A text is there while it is written; a stop leaves it so, another seed begins anew.
        tokens = page.get_by_label("Tokens", exact=True)
        tokens.fill("96")
        tokens.press("Enter")
        until(lambda: not whole() and shown.text_content() != "", "a text that is written")
        face.button("Stop").click()
        until(lambda: face.button("Stop").is_disabled(), "an end after the stop")
        tokens.fill("8")
        tokens.press("Enter")
        until(whole, "a short text")
        short, seed = face.text("Composed"), page.get_by_label("Seed").last
        seed.fill("12")
        seed.press("Enter")
        until(lambda: whole() and face.text("Composed") != short, "a text of another seed")
        face.button("Export composition").click()
        until(lambda: "steering-composed.csv" in face.status(), "an export")
        assert (tmp_path / "kept" / "figures" / "steering-composed.json").exists()
        assert page.evaluate("window.hacked") is None
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(CUT_OFF) == []
        assert face.errors == []


def test_as_a_page_without_code(tmp_path: Path, shots: Path) -> None:
    port = pages.free_port()
    command = ["workbench.cli", "demo", f"--port={port}", "--no-browser"]
    with (
        pages.served(command, port, tmp_path, tmp_path / "voila.log") as address,
        pages.browser(1920, 1080) as page,
    ):
        face = Face(page)
        page.goto(address, timeout=WAIT)
        face.slider.wait_for(timeout=WAIT)
        assert page.locator(".jp-InputArea-editor, .input_area").count() == 0
        face.slider.focus()
        page.keyboard.press("ArrowRight")
        until(lambda: face.value() > 0, "a slider that moves")
        # Only the kernel says so.
        until(lambda: face.status() == "There is no vector yet: press 'Train and sweep'.", "it")
        page.get_by_text("Curves appear here after Train and sweep").wait_for()
        face.button("Train and sweep").click()
        page.wait_for_function(ZONES, timeout=WAIT)
        until(lambda: face.button("Stop").is_disabled(), "the end of the sweep", 300)
        dots = page.locator(".js-plotly-plot").nth(1).locator(".scatterlayer .points path")
        until(lambda: dots.count() > 16, "the curves")
        heights = page.locator(".js-plotly-plot").evaluate_all(
            "all => all.map(each => each.querySelector('.main-svg').clientHeight)"
        )
        assert heights == [300, 520]
        # 0 is nothing, also where the steps of the slider add up to 5e-17.
        reach = page.get_by_label("Reach (norms)")
        reach.fill("1")
        reach.press("Enter")
        until(lambda: face.slider.get_attribute("max") == "1", "a wider slider")
        face.to_zero()

        # 100,000 letters are refused in words, and so is a file name that is none, as text.
        prompt = page.get_by_label("Prompt", exact=True)
        prompt.fill("word " * 20_000)
        prompt.blur()
        until(lambda: "shorten it" in face.status(), "a refusal of a long prompt")
        name = page.get_by_label("File name")
        for hostile in (HOSTILE, "../escape", "/tmp/escape"):
            name.fill(hostile)
            name.blur()
            face.button("Save state").click()
            until(lambda said=f"{hostile!r} cannot name a file": said in face.status(), "a refusal")
        assert page.locator("[role=status] img, [role=status] script").count() == 0
        assert page.evaluate("window.hacked") is None
        assert not list(tmp_path.rglob("*escape*"))
        name.fill("steering")
        name.blur()
        prompt.fill("Nestor & Roland:")
        prompt.blur()
        until(face.done, "a text as before")

        face.button("Save state").click()
        until(lambda: face.status().startswith(f"Saved {tmp_path / 'kept'}"), "a saved state")
        page.screenshot(path=shots / "voila-1920.png")
        assert face.errors == []
    assert (tmp_path / "kept" / "steering.json").exists(), "kept after the server's end"
