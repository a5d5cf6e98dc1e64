"""How quickly the demo's page answers: JupyterLab and Chromium, started here and driven by clicks.

From the last event of the slider, another text being written, to the frame that shows the first
token of the new one: what kernel, messages and browser take together. Needs what the browser tests
need (tests/browser/pages.py); knows nothing of the demo beyond its page.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from timing import ROOT

# Move there; after 0.12 s, the text being written, to `target`; milliseconds until its first token
# is on the page. A note beside the title says of which coefficient a text is.
MOVE = """async ([former, target]) => {
  const input = document.querySelector('.wb-slider-input');
  const text = document.querySelectorAll('.wb-text')[1];
  const note = text.parentElement.querySelector('.wb-title small');
  const frame = () => new Promise(requestAnimationFrame);
  const move = (value) => {
    input.value = value;
    input.dispatchEvent(new Event('input'));
  };
  move(former);
  await new Promise(done => setTimeout(done, 120));
  const began = performance.now();
  move(target);
  const wanted = `+${Number(input.value).toFixed(3)}`;
  while (note.textContent !== wanted || !text.querySelector('span')) {
    if (performance.now() - began > 20000) throw new Error(`no text at ${wanted}`);
    await frame();
  }
  await frame();
  return performance.now() - began;
}"""


def settle(moves: int) -> list[float] | str:
    """Milliseconds of each move; or what is missing for a measure."""
    sys.path.insert(0, str(ROOT / "tests" / "browser"))
    try:
        import pages
    except ImportError:
        return "not measured: tests/browser is missing"
    finally:
        sys.path.pop(0)
    if pages.missing():
        return f"not measured: {pages.missing()}"
    with (
        tempfile.TemporaryDirectory(prefix="workbench-page-") as folder,
        pages.jupyter(Path(folder)) as address,
        pages.browser(1280, 1500) as page,
    ):
        pages.run_all(page, address)
        _train(page, pages.WAIT)
        return [
            page.evaluate(MOVE, [0.1 + 0.01 * move, 0.105 + 0.01 * move]) for move in range(moves)
        ]


def _train(page: Any, wait: float) -> None:
    """A vector and no sweep: texts are written as soon as there is a vector."""
    page.get_by_role("button", name="Train and sweep").click(timeout=wait)
    page.locator(".wb-text").nth(1).locator("span").first.wait_for(timeout=wait)
    stop = page.get_by_role("button", name="Stop")
    stop.click()
    page.wait_for_function("each => each.disabled", arg=stop.element_handle(), timeout=wait)
