"""The tab of compositions, without a page: what it shows, passes on, and keeps."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import workbench as wb
from workbench.demo import composing, work
from workbench.demo.app import Demo
from workbench.demo.mix import Mix, Part
from workbench.demo.session import Session
from workbench.demo.state import from_json
from workbench.loading.models import LM
from workbench.support import tables

SOON = 120.0
PARTS = Part("delta:italian", "dynamic", 0.75), Part("delta:mood", "diminishing", 0.5), Part()
SHORT = replace(Mix(), parts=PARTS, new_tokens=8)


@pytest.fixture
def demo(wren: LM, tmp_path: Path) -> Iterator[Demo]:
    state = replace(work.initial(wren), layer=2, new_tokens=8, mix=SHORT)
    made = Demo(Session(wren, state), tmp_path)
    yield made
    made.close()


def test_the_tab_shows_the_mix_and_passes_on(demo: Demo) -> None:
    tab, session = demo.composing, demo.session
    first, second, third = (row.fields for row in tab.rows)
    assert [each["adds"].value for each in (first, second, third)] == [
        "delta:italian", "delta:mood", "",
    ]  # fmt: skip
    assert first["top_p"].layout.display == "flex" != second["top_p"].layout.display
    assert third["strength"].disabled
    second["schedule"].value = "budget"
    assert second["nats"].layout.display == "flex"
    third["adds"].value = "data:wren-dialect"
    third["strength"].value = 0.25
    tab.prompt.value = "Greta & Otto:"
    tab.length.value = 6
    assert session.state.mix == Mix(
        (SHORT.parts[0], Part("delta:mood", "budget"), Part("data:wren-dialect", strength=0.25)),
        "Greta & Otto:", 6,
    )  # fmt: skip
    first["top_p"].value = 3.0
    assert "top p 3.0: give a share" in demo.status.text
    assert first["top_p"].value == 0.7, "back to what was"


def test_the_tab_shows_the_text_and_copies_its_code(demo: Demo) -> None:
    tab, session = demo.composing, demo.session
    tab.copy.click()
    assert "nothing is composed yet" in demo.status.text
    tab.start.click()
    assert session.wait(SOON)
    assert session.made.composed is not None
    assert "".join(cell[0] for cell in tab.text.cells) == session.made.composed.text.text
    assert tab.text.likely == composing.means(session.made.composed)
    assert tab.plot.figure is not None
    drawn = tab.plot.chart.figure
    demo.slider.dark = True
    assert tab.plot.chart.figure != drawn
    tab.copy.click()
    assert demo.kept.value == session.composed_code() == demo.clipboard.text
    former = session.composed_code()
    with session.lock:  # the text has not begun yet
        session.state = replace(session.state, text_seed=7)
        tab.fill()
        assert tab.text.note == "chosen earlier"
        assert session.composed_code() == former, "of the text that is shown"
    tab.prompt.value = "Greta & Otto:"
    assert session.wait(SOON)
    assert "'Greta & Otto:'" in session.composed_code(), "it follows"
    assert tab.text.note == ""


def test_what_both_tabs_depend_on_is_written_anew_where_it_is_looked_at(demo: Demo) -> None:
    session = demo.session
    demo.tabs.selected_index = 1
    demo.fields["text_seed"].value = 3
    assert demo.status.text == "", "nothing was asked for"
    assert not session.busy
    demo.composing.start.click()
    assert session.wait(SOON)
    demo.fields["temperature"].value = 1.3
    assert session.wait(SOON)
    assert session.composed().state.temperature == 1.3
    assert session.composed().state.text_seed == 3
    demo.composing.rows[0].fields["adds"].value = "delta:mood"
    assert "'mood' is chosen twice" in demo.status.text
    demo.tabs.selected_index = 0
    demo.fields["temperature"].value = 0.5
    assert "There is no vector yet" in demo.status.text


def test_another_property_begins_where_its_unit_is_sensible(demo: Demo) -> None:
    row = demo.composing.rows[0].fields
    row["strength"].value = 1.9
    row["adds"].value = "data:wren-mood"
    assert row["strength"].max == demo.session.state.reach
    assert row["strength"].value == demo.session.state.mix.parts[0].strength == 0.25
    assert "nobody knows how far" in demo.composing.rows[0].zone.value
    row["adds"].value = "delta:french"
    assert (row["strength"].value, row["strength"].max) == (0.75, 2.0)
    assert demo.composing.rows[0].zone.value == ""


def test_what_is_exported_makes_the_text_again(demo: Demo, tmp_path: Path) -> None:
    tab, session = demo.composing, demo.session
    tab.export.click()
    assert "nothing is composed yet" in demo.status.text
    tab.start.click()
    assert session.wait(SOON)
    tab.export.click()
    assert "steering-composed.csv" in demo.status.text
    found = session.composed()
    table = tables.read_csv(tmp_path / "figures" / "steering-composed.csv")
    pd.testing.assert_frame_equal(table, found.frame, check_exact=False)
    record = json.loads((tmp_path / "figures" / "steering-composed.json").read_text())
    assert record["text"] == found.text.text
    assert record["code"] == session.composed_code()
    again = Session(session.made.lm, from_json(json.dumps(record["state"])))
    again.compose()
    assert again.wait(SOON)
    assert again.composed().text.text == found.text.text
    again.close()
    tab.export.click()
    assert "exists: choose another file name" in demo.status.text


def test_what_a_model_writes_stays_text(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    written = composing.write

    def write(*given: Any, on_token: object, **more: Any) -> composing.Composition:
        found = written(*given, **more)
        return replace(found, frame=found.frame.assign(text=hostile))

    monkeypatch.setattr(composing, "write", write)
    demo.composing.start.click()
    assert demo.session.wait(SOON)
    drawn = demo.composing.plot.chart.figure
    assert "<img" not in drawn
    assert "\\u003cimg" not in drawn


def test_without_wren_nothing_is_chosen_and_what_to_hand_over_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lm = replace(wb.load("wren"), name="tiny")
    state = work.initial(lm)
    assert state.mix.parts == Mix().parts
    for fitting, said in (
        (["emotion"], "Deltas come with wren alone"), ([], "No bundled data set fits this model"),
    ):  # fmt: skip
        monkeypatch.setattr(work, "fitting", lambda *_, fitting=fitting: fitting)
        demo = Demo(Session(lm, state), tmp_path)
        assert said in demo.composing.tells.value
        assert "properties={'formal': step_deltas(" in demo.composing.tells.value
        demo.close()
