"""The demo without a page: training, sweeping, steering, stopping, and the copied code."""

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest

import workbench as wb
from workbench import live, widgets
from workbench.demo import app, serve, work
from workbench.demo.session import Session
from workbench.demo.state import State, steps
from workbench.models import LM

SOON = 120.0


@pytest.fixture(scope="module")
def wren() -> LM:
    return wb.load("wren")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"JUDGED": 4, "CONTROLLED": 4, "TOKENS": 6, "STEPS": 2}.items():
        monkeypatch.setattr(work, name, value)


@pytest.fixture
def state(wren: LM) -> State:
    return replace(work.initial(wren), layer=1, new_tokens=12)


@pytest.fixture
def session(wren: LM, state: State) -> Iterator[Session]:
    made = Session(wren, state)
    yield made
    made.close()


def test_training_ends_with_vector_sweep_and_texts(session: Session, wren: LM) -> None:
    told: list[str] = []
    session.listen(told.append)
    session.train()
    assert session.wait(SOON)
    assert session.message == ""
    assert session.progress[0] == 1
    assert session.frame is not None
    assert session.vector().layer == 1
    assert told.index("trained") < told.index("sweep")
    assert told.count("sweep") == 2
    plain = wb.generate(
        wren, [session.state.prompt], new_tokens=12, temperature=0.7, seed=session.state.text_seed
    )
    assert session.written.baseline.text == plain.texts[0]


def test_a_sweep_in_rounds_is_a_sweep(wren: LM, state: State, tmp_path: Path) -> None:
    trained = work.train(wren, state)
    grown = list(work.sweep_in_rounds(wren, trained, state, directory=tmp_path))
    assert [(done, count) for _, done, count in grown] == [(1, 2), (2, 2)]
    assert len(grown[0][0]) < len(grown[1][0])
    whole = wb.sweep(
        wren, trained.vector, trained.prompts, sorted(chain(*steps(state.reach, 2))),
        new_tokens=6, temperature=1.0, seed=0, judges=trained.judges, kl=False, progress=False,
    )  # fmt: skip
    pd.testing.assert_frame_equal(grown[-1][0], whole, atol=1e-4)
    assert grown[-1][0].attrs["coefficients"] == whole.attrs["coefficients"]
    again = list(work.sweep_in_rounds(wren, trained, state, directory=tmp_path))
    pd.testing.assert_frame_equal(again[-1][0], grown[-1][0])


def test_moves_while_a_sweep_runs_make_room_and_the_sweep_ends(session: Session) -> None:
    trained = threading.Event()
    session.listen(lambda kind: kind == "trained" and trained.set())
    session.train()
    assert trained.wait(SOON)
    for coefficient in (0.1, 0.2, 0.31):
        session.change(coefficient=coefficient)
        session.steer()
    assert session.wait(SOON)
    assert session.progress[0] == 1
    assert session.written_as == session.state
    assert session.state.coefficient == 0.31
    expected = work.write(session.lm, session.vector(), session.state)
    assert session.written == expected


def test_a_stop_ends_the_text_and_the_sweep(session: Session) -> None:
    session.train()
    session.wait(SOON)
    session.change(new_tokens=300, coefficient=0.1)
    begun = threading.Event()
    session.listen(lambda kind: kind == "text" and begun.set())
    session.steer()
    assert begun.wait(SOON)
    session.stop()
    assert session.wait(SOON)
    assert session.written.steered.finish == "stopped"
    assert len(session.written.steered.ids) < 300
    assert session.written_as != session.state


def test_a_stop_in_training_leaves_no_vector(session: Session) -> None:
    session.change(layer=None, method="logistic")
    begun = threading.Event()
    session.listen(lambda kind: kind == "progress" and begun.set())
    session.train()
    assert begun.wait(SOON)
    session.stop()
    assert session.wait(SOON)
    assert session.message == "Stopped."
    assert session.trained is None
    with pytest.raises(ValueError, match="no vector yet: press 'Train and sweep' first"):
        session.code()


@pytest.mark.parametrize(
    "changes",
    [
        {"coefficient": 0.3},
        {"coefficient": -0.2, "second": "wren-italian", "second_coefficient": 0.15},
        {"style": "chat", "prompt": "Tell me a story about Linda.", "coefficient": 0.2,
         "history": (("user", "Hello."), ("assistant", "Hey."))},
        {"source": "own", "positive": "glad", "negative": "sad", "coefficient": 0.4,
         "prompt": "x'\"\n<b>\u202e Nestor & Roland:"},
    ],
)  # fmt: skip
def test_the_copied_code_writes_the_same_text(session: Session, changes: dict) -> None:
    session.change(**changes)
    session.train()
    assert session.wait(SOON)
    assert session.message == ""
    session.steer()
    assert session.wait(SOON)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(session.code(), {})
    assert printed.getvalue() == session.written.steered.text + "\n"
    assert session.written.steered.text != session.written.baseline.text


def test_what_cannot_be_is_said_and_the_demo_lives_on(session: Session) -> None:
    session.change(source="own", positive="a\nb", negative="c")
    session.train()
    assert session.wait(SOON)
    assert "2 positive and 1 negative personas: write as many on both sides" in session.message
    session.change(source="data", layer=99)
    session.train()
    assert session.wait(SOON)
    assert "layer 99: 'wren' has layers 0 to 5" in session.message
    before = session.state
    with pytest.raises(ValueError, match="temperature -1"):
        session.change(temperature=-1)
    assert session.state == before


def test_the_chat_keeps_and_clears(session: Session) -> None:
    session.written = live.Written(steered=live.Text((live.Piece(" ho ", -1.0),)))
    session.change(prompt="hi")
    session.say()
    assert session.state.history == (("user", "hi"), ("assistant", "ho"))
    assert session.state.style == "chat"
    saved = session.state.to_json()
    session.clear()
    assert session.state.history == ()
    session.restore(saved)
    assert len(session.state.history) == 2


def test_the_widgets_show_the_session_and_pass_on(wren: LM, tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    demo = widgets.demo(wren, folder=tmp_path)
    demo.fields["layer"].value = 2
    demo.fields["new_tokens"].value = 8
    demo.fields["temperature"].value = -3.0
    assert demo.session.state.layer == 2
    assert demo.session.state.temperature == 0.7 == demo.fields["temperature"].value
    assert "temperature -3.0: give a number" in demo.status.value
    demo.buttons.copy.click()
    assert "no vector yet" in demo.status.value
    demo.buttons.train.click()
    assert demo.session.wait(SOON)
    assert len(demo.curves.widget.data) > 0
    assert len(demo.layers.widget.data) > 0
    demo.slider.value = 0.5
    assert demo.session.wait(SOON)
    assert demo.session.written_as == demo.session.state
    assert "+0.500" in demo.texts["steered"].value
    demo._pick(-0.25)
    assert demo.slider.value == -0.25
    demo.buttons.copy.click()
    assert "vector.at(-0.25)" in demo.kept.value == demo.clipboard.text
    demo.file.value = "../escape"
    demo.buttons.vector.click()
    assert not list(tmp_path.parent.glob("escape*"))
    demo.file.value = "mine"
    demo.buttons.vector.click()
    demo.buttons.keep.click()
    assert {path.name for path in tmp_path.iterdir()} == {"mine.safetensors", "mine.json"}
    demo.slider.value = 0.0
    demo.kept.value = (tmp_path / "mine.json").read_text()
    demo.buttons.restore.click()
    assert demo.session.state.coefficient == -0.25 == demo.slider.value
    demo.close()
    left = {thread.name for thread in set(threading.enumerate()) - threads}
    assert "workbench-demo" not in left


def test_a_cell_that_nobody_watches_may_wait() -> None:
    assert not app.watched()


def test_the_page_is_for_this_machine_and_holds_a_name_as_a_literal(tmp_path: Path) -> None:
    command = serve.command(tmp_path / "x.ipynb", port=8866, browser=False)
    assert "--Voila.ip=127.0.0.1" in command
    (cell,) = serve.notebook("x'); import os  # ").cells
    assert cell.source.endswith('widgets.demo("x\'); import os  # ")')
    with pytest.raises(ValueError, match="port 0"):
        serve.command(tmp_path, port=0, browser=False)
