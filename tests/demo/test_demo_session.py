"""The demo without a page: training, sweeping, steering, stopping, and the copied code."""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import workbench as wb
from workbench import widgets
from workbench.demo import work
from workbench.demo.session import Session
from workbench.demo.shelf import Shelf
from workbench.demo.state import State, steps
from workbench.loading import models
from workbench.loading.models import LM

SOON = 120.0


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
    assert session.made.progress[0] == 1
    assert session.made.frame is not None
    assert session.vector().layer == 1
    assert told.index("trained") < told.index("sweep")
    assert told.count("sweep") == 2
    plain = wb.generate(
        wren, [session.state.prompt], new_tokens=12, temperature=0.7, seed=session.state.text_seed
    )
    assert session.made.shown.written.baseline.text == plain.texts[0]


def test_a_bad_prompt_is_said_and_does_not_cost_the_sweep(session: Session) -> None:
    session.change(style="base", prompt="")
    said: list[str] = []
    session.listen(lambda kind: kind == "message" and said.append(session.message))
    session.train()
    assert session.wait(SOON)
    assert any("prompt" in message and "empty" in message for message in said)
    assert session.made.swept


def test_another_reach_asks_for_another_sweep(session: Session) -> None:
    session.train()
    assert session.wait(SOON)
    session.change(reach=session.state.reach * 2)
    assert session.message == "For the new reach, press 'Train and sweep'."
    session.change(reach=session.state.reach / 2)
    assert session.message == ""


def test_what_is_done_next_has_no_time_left_of_what_was_done_before(session: Session) -> None:
    session.train()
    assert session.wait(SOON)
    told: dict[str, tuple[float, float]] = {}
    session.listen(lambda _: told.setdefault(session.made.doing, session.made.progress))
    session.change(second="wren-italian", second_coefficient=0.2)
    session.steer()
    assert session.wait(SOON)
    assert told["Making the second vector …"][0] == 0
    assert session.made.progress[0] == 1


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
    assert session.made.progress[0] == 1
    assert session.current()
    assert session.state.coefficient == 0.31
    expected = work.write(session.made.lm, session.vector(), session.state)
    assert session.made.shown.written == expected


def test_a_stop_ends_the_text(session: Session) -> None:
    session.train()
    session.wait(SOON)
    session.change(new_tokens=300, coefficient=0.1)
    begun = threading.Event()
    session.listen(lambda kind: kind == "text" and begun.set())
    session.steer()
    assert begun.wait(SOON)
    session.stop()
    assert session.wait(SOON)
    assert session.made.shown.written.steered.finish == "stopped"
    assert len(session.made.shown.written.steered.ids) < 300
    assert not session.current()
    with pytest.raises(ValueError, match="the texts shown are not whole"):
        session.code()


def test_a_stop_ends_the_sweep(session: Session) -> None:
    rounds = []

    def stop_at_the_first(kind: str) -> None:
        if kind == "sweep":
            rounds.append(session.made.progress[0])
            session.stop()

    session.listen(stop_at_the_first)
    session.train()
    assert session.wait(SOON)
    assert rounds == [0.5]
    assert session.message == "Stopped."
    session.steer()
    assert session.wait(SOON)
    assert rounds == [0.5], "a text must not take up a sweep that was stopped"


def when(session: Session, kind: str, act: Callable[[], None]) -> None:
    """Do something in the worker's thread when that is told for the first time."""
    done: list[str] = []

    def listen(told: str) -> None:
        if told == kind and not done:
            done.append(told)
            act()

    session.listen(listen)


def test_a_move_in_a_retraining_keeps_what_was_asked(session: Session) -> None:
    session.train()
    assert session.wait(SOON)
    session.change(data="wren-italian")

    def move() -> None:
        session.change(coefficient=0.123)
        session.steer()

    when(session, "progress", move)
    session.train()
    assert session.wait(SOON)
    assert session.made.trained_as is not None
    assert session.made.trained_as.data == "wren-italian"
    assert session.made.progress[0] == 1
    assert session.current()
    assert session.state.coefficient == 0.123
    assert session.message == ""


def test_a_training_asked_while_a_text_ends_is_not_undone_by_the_former_sweep(
    session: Session,
) -> None:
    session.train()
    assert session.wait(SOON)
    session._tasks.wanted = session.state  # as if its sweep still made room

    def ask() -> None:
        session.change(data="wren-italian")
        session.train()

    session.steer()
    when(session, "text", ask)
    assert session.wait(SOON)
    assert session.made.trained_as is not None
    assert session.made.trained_as.data == "wren-italian"


def test_a_stop_ends_the_making_of_a_second_vector(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))  # nothing has been read before
    session.train()
    assert session.wait(SOON)
    session.change(second="wren-italian", second_coefficient=0.2, coefficient=0.1)
    seen: list[str] = []

    def stop() -> None:
        seen.append(session.made.doing)
        session.stop()

    when(session, "progress", stop)
    session.steer()
    assert session.wait(SOON)
    assert seen == ["Making the second vector …"]
    assert session.made.second(session.state) is None
    assert session.made.doing == ""
    with pytest.raises(ValueError, match="the texts shown are not whole"):
        session.code()


def test_training_says_how_long_it_takes(session: Session) -> None:
    shares: list[tuple[float, float]] = []
    session.listen(
        lambda kind: (
            session.made.doing.startswith("Reading") and shares.append(session.made.progress)
        )
    )
    session.change(layer=None)
    session.train()
    assert session.wait(SOON)
    known = [(share, left) for share, left in shares if 0 < share < 1]
    assert known, "no share was told"
    assert all(left >= 0 for _, left in known)
    assert known == sorted(known, key=lambda each: each[0])


def test_a_stop_in_training_leaves_no_vector(session: Session) -> None:
    session.change(layer=None, method="logistic")
    begun = threading.Event()
    session.listen(lambda kind: kind == "progress" and begun.set())
    session.train()
    assert begun.wait(SOON)
    session.stop()
    assert session.wait(SOON)
    assert session.message == "Stopped."
    assert session.made.trained is None
    with pytest.raises(ValueError, match="no vector yet: press 'Train and sweep' first"):
        session.code()


@pytest.mark.parametrize(
    "changes",
    [
        {"coefficient": 0.3},
        {"coefficient": 0.3, "layer": None, "second": "wren-italian", "second_coefficient": 0.1},
        {"coefficient": -0.2, "second": "wren-italian", "second_coefficient": 0.15},
        {"style": "chat", "prompt": "Tell me a story about Linda.", "coefficient": 0.2,
         "history": (("user", "Hello."), ("assistant", "Hey."))},
        {"style": "chat", "prompt": "Tell me a story about Linda.", "coefficient": 0.2,
         "second": "wren-italian", "second_coefficient": -0.1, "temperature": 1.0},
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
    assert printed.getvalue() == session.made.shown.written.steered.text + "\n"
    assert session.made.shown.written.steered.text != session.made.shown.written.baseline.text


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


def test_a_state_whose_model_cannot_be_loaded_is_kept_and_another_can_be_chosen(
    session: Session, tmp_path: Path
) -> None:
    session.train()
    assert session.wait(SOON)
    wanted = replace(session.state, model=str(tmp_path / "<b>gone</b>"), coefficient=0.2)
    session.restore(wanted.to_json())
    assert session.message == "For the new model, press 'Train and sweep'."
    assert session.wait(SOON)
    assert session.current(), "the texts are of the model in use"
    assert f"wb.load({'wren'!r})" in session.code()
    session.train()
    assert session.wait(SOON)
    assert "gone" in session.message
    assert "FileNotFoundError" in session.message or "ValueError" in session.message
    assert session.state == wanted
    assert session.made.lm.name == "wren"
    session.change(model="wren")
    session.train()
    assert session.wait(SOON)
    assert session.message == ""
    assert session.made.progress[0] == 1
    assert session.current()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"temperature": 0.0, "new_tokens": 1, "text_seed": 2**53}, ""),
        ({"temperature": 10.0, "text_seed": 0}, ""),
        ({"new_tokens": 4096}, "4096 new tokens"),
        ({"prompt": "word " * 20_000}, "shorten it"),
        ({"prompt": " \n"}, "is empty; give it at least one word"),
    ],
)
def test_the_ends_of_what_can_be_chosen(session: Session, values: dict, said: str) -> None:
    session.train()
    assert session.wait(SOON)
    session.change(**values)
    session.steer()
    assert session.wait(SOON)
    assert said in session.message
    assert session.current() == (said == "")


def test_the_chat_keeps_whole_answers_once_and_clears(session: Session) -> None:
    with pytest.raises(ValueError, match="choose the prompt style 'chat' first"):
        session.say()
    session.change(style="chat", prompt="Tell me a story about Linda.", coefficient=0.1)
    with pytest.raises(ValueError, match="the texts shown are not whole"):
        session.say()
    session.train()
    assert session.wait(SOON)
    answer = session.made.shown.written.steered.text.strip()
    assert answer
    session.say()
    kept = (("user", "Tell me a story about Linda."), ("assistant", answer))
    assert session.state.history == kept
    assert session.state.prompt == ""
    with pytest.raises(ValueError, match="the texts shown are not whole, or not of what"):
        session.say()
    assert session.state.history == kept
    saved = session.state.to_json()
    session.clear()
    assert session.wait(SOON)
    assert session.state.history == ()
    assert session.current(), "the texts follow"
    session.restore(saved)
    assert session.wait(SOON)
    assert session.state.history == kept
    assert session.current()


def test_what_is_not_trained_yet_is_said(session: Session) -> None:
    session.steer()
    assert session.message == "There is no vector yet: press 'Train and sweep'."
    session.train()
    assert session.wait(SOON)
    session.change(method="logistic", layer=2)
    assert session.message == "For the new method, layer, press 'Train and sweep'."
    session.change(method="mean_difference", layer=1)
    assert session.message == ""


def test_the_slider_jumps_after_the_first_sweep_alone(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = SimpleNamespace(recommended=SimpleNamespace(value=0.25))
    fake = type("Fake", (), {"sides": {1: side}, "__getitem__": lambda self, sign: side})()
    monkeypatch.setattr(work, "ceiling_of", lambda *_, **__: fake)
    session.train()
    assert session.wait(SOON)
    assert session.state.coefficient == 0.25
    assert session.current()
    session.change(coefficient=0.0, seed=5)
    session.train()
    assert session.wait(SOON)
    assert session.state.coefficient == 0.0


def test_another_model_is_called_by_what_loads_it(stories: LM, tmp_path: Path) -> None:
    demo = widgets.demo(stories, folder=tmp_path)
    session = demo.session
    assert Path(session.state.model).is_dir()
    assert demo.fields["model"].value == session.state.model
    session.change(layer=2, new_tokens=10, coefficient=0.3)
    session.train()
    assert session.wait(SOON)
    assert session.message == ""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(session.code(), {})
    assert printed.getvalue() == session.made.shown.written.steered.text + "\n"
    assert "# The demo was given a loaded model" in session.code()
    session.change(model="wren", data="wren-mood")
    assert session.message.startswith("For the new model")
    session.train()
    assert session.wait(SOON)
    assert session.made.lm.name == "wren"
    demo.close()


def test_a_model_that_was_given_is_used_again_and_its_code_says_how_to_load_it(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = wb.load("wren", dtype="float64")
    session = Session(lm, state, given=True)
    session.train()
    assert session.wait(SOON)
    assert "load it here as it was loaded there" in session.code()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(session.code(), {})
    assert printed.getvalue() == session.made.shown.written.steered.text + "\n"
    other = wb.load("wren")
    monkeypatch.setattr(models, "load", lambda name: other)
    for name, used, said in (("another", other, "wb.load('another')"), ("wren", lm, "float64")):
        session.change(model=name)
        session.train()
        assert session.wait(SOON)
        assert session.made.lm is used
        assert said in session.code()
    session.close()


def test_a_stop_while_a_model_loads_ends_all_after_it(
    session: Session, wren: LM, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    session.listen(lambda _: session.made.doing and said.append(session.made.doing))

    def load(name: str) -> LM:
        session.stop()
        return wren

    monkeypatch.setattr(models, "load", load)
    session.change(model="another")
    session.train()
    assert session.wait(SOON)
    assert set(said) == {"Loading another … (cannot be stopped)"}
    assert session.message == "Stopped."
    assert session.made.trained is None


def test_the_latest_sweeps_are_kept_and_no_more() -> None:
    shelf = Shelf()
    for number in range(20):
        shelf.place(str(number)).mkdir()
    left = {path.name for path in shelf.place("19").parent.iterdir()}
    assert left == {str(number) for number in range(14, 20)}
    shelf.place("14")
    shelf.place("20").mkdir()
    assert {path.name for path in shelf.place("20").parent.iterdir()} == {
        "14", "16", "17", "18", "19", "20"
    }  # fmt: skip
    place = shelf.place("20").parent
    shelf.close()
    assert not place.exists()
