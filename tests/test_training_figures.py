"""Losses of training as figures, and while they come."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import IPython.core.getipython
import IPython.display
import numpy as np
import pandas as pd
import pytest

from workbench import figures
from workbench.figures.live_losses import LiveLosses


def history(steps: int = 12, *, losing: bool = True) -> pd.DataFrame:
    step = np.arange(steps)
    return pd.DataFrame(
        {
            "step": step,
            "epoch": step // 6,
            "loss": 3.0 - 0.1 * step,
            "winning": 0.5,
            "losing": 0.5 + 0.1 * step if losing else np.nan,
            "held_out": np.where(step % 6 == 5, 2.5, np.nan),
        }
    )


def test_every_run_has_its_panels_and_held_out_losses_their_steps() -> None:
    frame = pd.concat([history().assign(run="<b>one"), history(losing=False).assign(run="two")])
    figure = figures.loss_curves(frame)
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["&lt;b&gt;one", "two"]
    held = [trace for trace in figure.data if trace.name == "held-out pairs"]
    assert [list(trace.x) for trace in held] == [[5, 11], [5, 11]]
    assert [trace.name for trace in figure.data].count("losing") == 1
    assert len([trace for trace in figure.data if trace.showlegend is not False]) == 5


def test_a_running_median_is_drawn_over_the_steps() -> None:
    frame = history()
    frame.loc[6, "loss"] = 100.0
    lines = [t for t in figures.loss_curves(frame).data if t.name == "objective"]
    assert max(lines[0].y) < 3.1


def test_live_losses_draw_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    class Place:
        def update(self, bundle: Any, raw: bool) -> None:
            assert raw
            drawn.append(len(bundle.get("application/vnd.plotly.v1+json", {}).get("data", ())))

    def display(bundle: Any, **_: Any) -> Place:
        place = Place()
        place.update(bundle, True)
        return place

    monkeypatch.setattr(IPython.core.getipython, "get_ipython", object)
    monkeypatch.setattr(IPython.display, "display", display)
    live = LiveLosses(every=4)
    for row in history().to_dict("records"):
        live({str(name): float(value) for name, value in row.items()})
    # Steps 0, 4 and 8, and the ends of the epochs, 5 and 11.
    assert len(drawn) == 5
    assert all(drawn)
    live.clear()
    assert drawn[5:] == [0]
    assert live.frame["loss"].tolist() == history()["loss"].tolist()


def test_outside_of_a_notebook_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    live = LiveLosses(every=1)
    live({name: float(value) for name, value in history(1).iloc[0].items()})
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="every 0"):
        LiveLosses(every=0)


def test_a_trained_vector_in_place_of_its_losses_is_told_so() -> None:
    with pytest.raises(
        ValueError, match=r"frame is 'v'; give .*loss_curves\(loss_history\("
    ) as told:
        figures.loss_curves("v")  # type: ignore[arg-type]
    module = str(told.value).split("from ")[-1]
    assert callable(import_module(module).loss_history)
