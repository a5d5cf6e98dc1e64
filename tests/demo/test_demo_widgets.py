"""The demo's widgets: they show the session, pass on what a reader does, and never undo it."""

import gc
import json
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ipywidgets.widgets.widget import _instances
from transformers.utils import logging

import workbench as wb
from workbench import widgets
from workbench.contrast import catalogue
from workbench.demo import cell, page, serve, work
from workbench.demo.app import Demo
from workbench.demo.session import Session
from workbench.demo.texts import Lines, TextBox
from workbench.generation.live import Piece, Text
from workbench.loading.checkpoints import absolute
from workbench.loading.models import LM

SOON = 120.0


@pytest.fixture
def demo(wren: LM, tmp_path: Path) -> Iterator[Demo]:
    made = Demo(Session(wren, replace(work.initial(wren), layer=2, new_tokens=8)), tmp_path)
    yield made
    made.close()


def trained(demo: Demo) -> Demo:
    demo.buttons.train.click()
    assert demo.session.wait(SOON)
    assert demo.session.message == ""
    return demo


def test_the_widgets_show_the_session_and_pass_on(demo: Demo, tmp_path: Path) -> None:
    demo.fields["layer"].value = 3
    assert demo.session.state.layer == 3
    assert "press 'Train and sweep'" in demo.status.text
    demo.buttons.copy.click()
    assert "no vector yet" in demo.status.text
    trained(demo)
    assert demo.curves.figure is not None
    assert demo.layers.figure is not None
    demo.slider.value = 0.5
    assert demo.session.wait(SOON)
    assert demo.session.current()
    assert demo.texts["steered"].note == "+0.500"
    demo._pick(-0.25)
    assert demo.slider.value == -0.25
    assert demo.session.wait(SOON)
    demo.buttons.copy.click()
    assert "vector.at(-0.25)" in demo.kept.value == demo.clipboard.text
    demo.file.value = "../escape"
    demo.buttons.vector.click()
    assert not list(tmp_path.parent.glob("escape*"))
    demo.file.value = "mine"
    taken = tmp_path / "figures" / "mine.csv"
    taken.parent.mkdir()
    taken.touch()
    demo.buttons.figure.click()
    assert f"{taken} exists: choose another file name" in demo.status.text
    taken.unlink()
    taken.parent.rmdir()
    demo.buttons.vector.click()
    demo.buttons.keep.click()
    assert {path.name for path in tmp_path.iterdir()} == {"mine.safetensors", "mine.json"}
    demo.slider.value = 0.0
    demo.kept.value = (tmp_path / "mine.json").read_text()
    demo.buttons.restore.click()
    assert demo.session.state.coefficient == -0.25 == demo.slider.value
    assert demo.session.wait(SOON)
    assert demo.texts["steered"].note == "\u22120.250", "the texts follow"


def test_what_is_said_stays_until_something_else_is(demo: Demo, tmp_path: Path) -> None:
    trained(demo)
    demo.fields["temperature"].value = -3.0
    assert demo.session.wait(SOON)
    assert demo.session.state.temperature == 0.7 == demo.fields["temperature"].value
    assert "temperature -3.0: give a number" in demo.status.text
    demo.file.value = "mine"
    demo.buttons.keep.click()
    demo.session.steer()
    assert demo.session.wait(SOON)
    assert demo.status.text.startswith(f"Saved {tmp_path / 'mine.json'}")
    demo.buttons.keep.click()
    assert "exists: choose another file name" in demo.status.text


def test_copied_is_said_when_the_page_says_so(demo: Demo) -> None:
    trained(demo)
    demo.buttons.copy.click()
    assert demo.status.text == "The code stands in the box below."
    demo.clipboard.set_trait("answer", -demo.clipboard.count)
    assert demo.status.text.startswith("The browser let nobody copy")
    demo.buttons.copy.click()
    demo.clipboard.set_trait("answer", demo.clipboard.count)
    assert demo.status.text.startswith("Copied;")


def test_before_the_training_words_stand_in_place_of_figures(demo: Demo) -> None:
    assert demo.curves.box.children == (demo.curves.empty,)
    assert "Curves appear here after Train and sweep" in demo.curves.empty.value
    trained(demo)
    assert demo.curves.box.children == (demo.curves.chart,)
    assert demo.layers.box.children == (demo.layers.chart,)
    assert demo.curves.box.layout.height == "520px"
    assert demo.layers.figure is not None
    assert demo.layers.figure.layout.xaxis2.title.text == "Layer (dashed: as asked)"
    demo.layers.show(None, "No pairs were held out")
    assert "No pairs were held out" in demo.layers.empty.value
    assert demo.layers.box.children == (demo.layers.empty,)


def test_plotly_goes_to_the_page_once_and_only_with_a_figure(demo: Demo) -> None:
    assert demo.library.source == "" == demo.curves.chart.figure
    sent: list[str] = []
    demo.library.observe(lambda change: sent.append(change["new"]), "source")
    trained(demo)
    assert len(sent) == 1
    assert len(sent[0]) > 1_000_000 > len(demo.curves.chart.figure) > 0
    drawn = demo.curves.chart.figure
    assert json.loads(drawn)["layout"]["height"] == 520
    demo.slider.dark = True
    assert demo.curves.chart.figure != drawn


def test_a_click_on_a_dot_moves_the_slider_and_other_messages_do_not(demo: Demo) -> None:
    chart = demo.curves.chart
    chart._handle_custom_msg({"clicked": 0.25}, [])
    assert demo.slider.value == 0.25
    for place in (None, "0.5", math.nan, math.inf, [0.5], {"x": 0.5}):
        chart._handle_custom_msg({"clicked": place}, [])
    chart._handle_custom_msg("clicked", [])
    demo.layers.chart._handle_custom_msg({"clicked": 0.5}, [])
    assert demo.slider.value == 0.25
    chart._handle_custom_msg({"clicked": 1e6}, [])
    assert demo.slider.value == 0.25
    assert "coefficient 1000000.0: give a number" in demo.status.text


def test_no_bar_of_a_bundled_model_is_left_on_the_page(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    demo = widgets.demo("wren", folder=tmp_path)
    try:
        demo.session.made._name = "another"
        demo.session.made._load("wren")
    finally:
        demo.close()
    told = capfd.readouterr()
    assert told.out + told.err == ""
    assert logging.is_progress_bar_enabled()


def test_only_what_fits_the_model_is_offered(demo: Demo, tmp_path: Path) -> None:
    sets = [name for _, name in demo.fields["data"].options]
    assert "wren-mood" in sets
    assert all(name.startswith("wren-") for name in sets)
    assert [name for _, name in demo.fields["second"].options] == ["", *sets]
    assert [style for _, style in demo.fields["style"].options] == ["base", "chat"]
    plain = wb.load("wren")
    plain.tokenizer.chat_template = None
    other = Demo(Session(plain, work.initial(plain)), tmp_path)
    try:
        style = other.fields["style"]
        assert [name for _, name in style.options] == ["base"]
        assert style.disabled
        foreign = next(name for name in catalogue.bundled() if name not in sets)
        saved = replace(other.session.state, style="chat", data=foreign)
        other.kept.value = saved.to_json()
        other.buttons.restore.click()
        assert other.session.state == saved, "what was saved is shown as it is"
        assert style.value == "chat"
        assert not style.disabled
        assert other.fields["data"].value == foreign
    finally:
        other.close()


def test_an_answer_is_kept_only_in_a_chat_with_a_text(demo: Demo) -> None:
    keep = demo.buttons.say
    assert keep.disabled
    demo.fields["style"].value = "chat"
    assert keep.disabled, "no text yet"
    trained(demo)
    assert not keep.disabled
    demo.fields["prompt"].value = "Another question"
    assert demo.session.wait(SOON)
    assert not keep.disabled
    demo.fields["style"].value = "base"
    assert demo.session.wait(SOON)
    assert keep.disabled


def test_zones_hold_for_the_style_that_was_swept(demo: Demo) -> None:
    trained(demo)
    demo.slider.value = 0.1
    assert demo.session.wait(SOON)
    assert {zone["name"] for zone in demo.slider.zones} != {"unknown"}
    demo.fields["style"].value = "chat"
    assert demo.session.wait(SOON)
    assert demo.texts["steered"].color == page.ZONE_COLORS["unknown"]
    assert {zone["name"] for zone in demo.slider.zones} == {"unknown"}
    assert demo.slider.words.startswith("Not swept in this prompt style")
    demo.fields["style"].value = "base"
    assert demo.session.wait(SOON)
    assert {zone["name"] for zone in demo.slider.zones} != {"unknown"}


def test_what_fails_makes_no_folder(demo: Demo, tmp_path: Path) -> None:
    demo.folder = tmp_path / "kept"
    demo.buttons.figure.click()
    assert "no sweep yet" in demo.status.text
    demo.buttons.vector.click()
    trained(demo)
    for name in ("../x", ""):
        demo.file.value = name
        for button in (demo.buttons.figure, demo.buttons.vector, demo.buttons.keep):
            button.click()
    assert not demo.folder.exists()


def test_texts_are_of_the_state_that_wrote_them(demo: Demo) -> None:
    trained(demo)
    demo.slider.value = 0.3
    assert demo.session.wait(SOON)
    demo.session.change(coefficient=0.6)
    assert demo.texts["steered"].note == "+0.300, chosen earlier"


def test_with_a_second_vector_no_zone_is_claimed(demo: Demo) -> None:
    trained(demo)
    demo.slider.value = 0.1
    assert demo.session.wait(SOON)
    assert demo.texts["steered"].color != page.ZONE_COLORS["unknown"]
    assert "6 tokens, temperature 1" in demo.slider.words
    assert demo.slider.reasons.startswith("+: ")
    demo.fields["second"].value = "wren-italian"
    demo.second.value = 0.6
    assert demo.session.wait(SOON)
    assert demo.texts["steered"].color == page.ZONE_COLORS["unknown"]
    said = "Not swept: zones hold for the first vector alone."
    assert demo.slider.words == demo.second.words == said
    assert {zone["name"] for zone in demo.slider.zones} == {"unknown"}
    assert demo.slider.reasons == ""
    demo.second.value = 0.0
    assert demo.slider.words != said == demo.second.words


def test_a_drag_in_a_sweep_round_is_not_undone(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader moves the slider while the worker shows a round, from the state before the move."""
    moved: list[threading.Thread] = []

    def slow_fill() -> None:
        if threading.current_thread() is not threading.main_thread() and not moved:
            moved.append(mover)
            mover.start()
            mover.join(0.5)  # it may have to wait for the lock
        fill()

    def move() -> None:
        demo.slider.value = 0.42

    mover = threading.Thread(target=move)
    fill = demo._fill_fields
    monkeypatch.setattr(demo, "_fill_fields", slow_fill)
    demo.buttons.train.click()
    assert demo.session.wait(SOON)
    assert moved
    mover.join()
    assert demo.session.wait(SOON)
    assert demo.session.state.coefficient == 0.42 == demo.slider.value
    assert demo.session.current()


def test_filling_the_controls_changes_no_state(demo: Demo) -> None:
    demo.kept.value = replace(demo.session.state, layer=99, coefficient=3.0).to_json()
    demo.buttons.restore.click()
    assert demo.session.state.layer == 99 == demo.fields["layer"].value
    assert demo.session.state.coefficient == 3.0 == demo.slider.value
    before = demo.session.state
    for field, value in (("coefficient", 10**400), ("layer", 10**7), ("prompt", "\ud800")):
        saved = json.loads(before.to_json())
        saved[field] = value
        demo.kept.value = json.dumps(saved)
        demo.buttons.restore.click()
        assert demo.session.state == before
        assert field in demo.status.text


def test_after_close_everything_is_refused_in_words(demo: Demo) -> None:
    demo.close()
    demo.slider.value = 0.2
    demo.buttons.train.click()
    assert demo.session.message == "this demo is closed; make a new one"


def test_close_leaves_no_thread_no_model_and_no_widget(tmp_path: Path) -> None:
    threads, widgets_before = set(threading.enumerate()), set(_instances)
    lm = wb.load("wren")
    gone = weakref.ref(lm)
    demo = Demo(Session(lm, work.initial(lm)), tmp_path)
    del lm
    demo.close()
    gc.collect()
    assert gone() is None
    left = {thread.name for thread in set(threading.enumerate()) - threads}
    assert "workbench-demo" not in left
    assert {type(_instances[name]).__name__ for name in set(_instances) - widgets_before} == set()


def test_a_cell_that_runs_again_closes_its_former_demo(
    wren: LM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, object] = {}
    parent = {"metadata": {"cellId": "one"}}
    kernel = SimpleNamespace(get_parent=lambda channel: parent)
    shell = SimpleNamespace(kernel=kernel, user_ns=names)
    monkeypatch.setattr(cell, "get_ipython", lambda: shell)
    names["demo"] = first = widgets.demo(wren, folder=tmp_path)
    parent["metadata"]["cellId"] = "two"
    names["other"] = other = widgets.demo(wren, folder=tmp_path)
    parent["metadata"]["cellId"] = "one"
    again = widgets.demo(wren, folder=tmp_path)
    with pytest.raises(RuntimeError, match="this demo is closed"):
        first.session.change(coefficient=0.1)
    other.session.change(coefficient=0.1)
    again.session.change(coefficient=0.1)
    other.close()
    again.close()
    assert not cell.watched()


def test_a_headless_run_does_not_pass_without_a_sweep(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no sweep today")

    monkeypatch.setattr(work, "sweep_in_rounds", fail)
    with pytest.raises(RuntimeError, match="ValueError: no sweep today"):
        demo.snapshot(tmp_path)


def test_a_growing_text_is_sent_piece_by_piece() -> None:
    box = TextBox("Steered")
    sent: list[tuple[str, int]] = []
    box.observe(lambda change: sent.append(("whole", len(change["new"]))), "cells")
    box.observe(lambda change: sent.append(("more", len(change["new"]["cells"]))), "more")
    pieces = tuple(Piece(f" {number}", -2.0) for number in range(50))
    for length in (1, 2, 5, 30):
        box.show(Text(pieces[:length]))
    assert sent == [("whole", 1), ("more", 1), ("more", 3), ("more", 25)]
    box.show(Text(pieces, finish="length"))
    assert sent[-1] == ("whole", 50)
    box.show(Text(pieces[:3]))
    assert sent[-1] == ("whole", 3)
    box.show(Text((Piece("<b>\x1b", -9.0),)))
    assert box.cells == [["<b>\\x1b", "rgba(213,94,0,0.62)", "\u22129.00 nats"]]


def test_lines_are_visible_text() -> None:
    lines = Lines(role="log")
    lines.show([("user", "<i>\u202e"), ("assistant", "x" * 5000)])
    assert lines.lines[0] == ["user", "<i>\\u202e"]
    assert len(lines.lines[1][1]) == 2000
    lines.say("")
    assert lines.lines == []


def test_the_page_is_for_this_machine_and_keeps_files_where_it_was_asked(tmp_path: Path) -> None:
    command = serve.command(tmp_path / "x.ipynb", port=8866, browser=False)
    assert "--Voila.ip=127.0.0.1" in command
    folder = tmp_path / "ke'pt"
    words, made = serve.notebook("x'); import os  # ", folder).cells
    assert words.cell_type == "markdown"
    assert "Train and sweep" in words.source
    literal = repr(str(folder))
    assert made.source.endswith(f'widgets.demo("x\'); import os  # ", folder={literal})')
    with pytest.raises(ValueError, match="port 0"):
        serve.command(tmp_path, port=0, browser=False)


def test_a_bundled_name_is_no_folder_and_a_folder_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("wren", "mine"):
        (tmp_path / name).mkdir()
    mine = str((tmp_path / "mine").resolve())
    shown = {"wren": "wren", "mine": mine, "~/mine": mine, "some/model": "some/model"}
    for name, loads in shown.items():
        assert absolute(name) == loads
        assert f"widgets.demo({loads!r}, " in serve.notebook(name, tmp_path).cells[1].source


def test_the_served_notebook_names_the_folder_of_whoever_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("voila")
    seen: list[str] = []

    def run(command: list[str]) -> int:
        seen.append(Path(command[3]).read_text())
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "_run", run)
    assert serve.serve() == 0
    assert str(tmp_path / "kept") in seen[0]


def test_the_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    told = tmp_path / "server"
    server = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    command = [sys.executable, "-c", server]
    code = f"from workbench.demo import serve; serve._run({command!r})"
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=Path(wb.__file__).parents[1])
    end = time.monotonic() + SOON
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    starter.terminate()
    assert starter.wait(SOON) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
