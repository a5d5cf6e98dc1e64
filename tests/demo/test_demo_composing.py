"""Compositions in the demo: what is chosen, what is made of it, its code, and the tab."""

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import workbench as wb
from workbench.composition import Same, compose
from workbench.demo import composing, work
from workbench.demo.app import Demo
from workbench.demo.mix import SCHEDULES, Mix, Part
from workbench.demo.session import Session
from workbench.demo.state import State, from_json
from workbench.models import LM
from workbench.schedules import Budget, Diminishing, Dynamic, Fixed, Start

SOON = 120.0


def mixed(*parts: Part, **values: object) -> Mix:
    return replace(Mix(), parts=(*parts, *[Part()] * (3 - len(parts))), **values)  # type: ignore[arg-type]


SHORT = mixed(
    Part("delta:italian", "dynamic", 0.75), Part("delta:mood", "diminishing", 0.5), new_tokens=8
)


@pytest.fixture
def state(wren: LM) -> State:
    return replace(work.initial(wren), layer=2, new_tokens=8, mix=SHORT)


@pytest.fixture
def session(wren: LM, state: State) -> Iterator[Session]:
    made = Session(wren, state)
    yield made
    made.close()


@pytest.fixture
def demo(session: Session, tmp_path: Path) -> Iterator[Demo]:
    made = Demo(session, tmp_path)
    yield made
    made.close()


def composed(session: Session) -> composing.Composition:
    session.compose()
    assert session.wait(SOON)
    assert session.message == ""
    assert session.made.composed is not None
    return session.made.composed


# ---- what is chosen -----------------------------------------------------------------------------


def test_a_part_says_its_schedule() -> None:
    assert {Part(schedule=name, strength=0.75).made() for name in SCHEDULES} == {
        Fixed(0.75), Start(0.75), Diminishing(0.75), Budget(10.0, most=0.75, probe=0.75),
        Dynamic(0.7, clip=(0.0, 0.75), per_token=False, probe=0.75),
    }  # fmt: skip
    assert type(Part(schedule="start").made()) is Start


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"adds": "delta:../x"}, "property 'delta:../x': give"),
        ({"adds": "data:nothing"}, "property 'data:nothing': give"),
        ({"schedule": "eval"}, "schedule 'eval': choose one of"),
        ({"strength": 2.5}, "strength 2.5: give a number from 0 to 2"),
        ({"strength": "1"}, "strength '1'"),
        ({"schedule": []}, "schedule"),
        ({"top_p": 1}, "top p 1: give a share"),
        ({"nats": -1}, "KL budget -1: give nats"),
    ],
)
def test_a_part_out_of_range_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Part(**values)  # type: ignore[arg-type]
    saved = json.loads(State().to_json())
    saved["mix"]["parts"][1] |= values
    with pytest.raises(ValueError, match=said):
        from_json(json.dumps(saved))


def test_a_mix_comes_back_from_a_saved_state_and_strange_ones_do_not(state: State) -> None:
    assert from_json(state.to_json()) == state
    saved = json.loads(state.to_json())
    del saved["mix"]
    assert from_json(json.dumps(saved)).mix == Mix(), "a state that was saved without one"
    for strange in (3, [], {}, {**SHORT.__dict__, "parts": "abc"},
                    {"parts": [3, 4, 5], "prompt": "", "new_tokens": 3},
                    {"parts": [], "prompt": "", "new_tokens": 3}):  # fmt: skip
        with pytest.raises(ValueError, match="mix"):
            replace(State(), mix=strange)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prompt to continue holds half a letter"):
        replace(State(), mix=replace(Mix(), prompt="\ud800"))
    with pytest.raises(ValueError, match="length"):
        replace(Mix(), new_tokens=97)


def test_nothing_and_the_same_twice_are_refused(session: Session) -> None:
    session.change(mix=Mix())
    with pytest.raises(ValueError, match="nothing to compose: choose a property"):
        session.compose()
    session.change(mix=mixed(Part("vector"), Part("vector")))
    with pytest.raises(ValueError, match="'vector in use' is chosen twice"):
        session.compose()


def test_what_is_offered_fits_the_model() -> None:
    names = [each for _, each in composing.offered(["wren-mood"], wren=True, chosen=Mix())]
    assert names[0] == ""
    assert {"vector", "data:wren-mood", "delta:italian"} <= set(names)
    other = [each for _, each in composing.offered(["emotion"], wren=False, chosen=SHORT)]
    assert other == ["", "vector", "data:emotion", "delta:italian", "delta:mood"], "as it is saved"


# ---- what is made -------------------------------------------------------------------------------


def test_a_text_is_what_compose_writes(session: Session, wren: LM) -> None:
    found = composed(session)
    properties = {name: composing.deltas(wren, name, 8) for name in ("italian", "mood")}
    schedules = {each.name: each.made() for each in SHORT.chosen}
    expected = compose(wren, [SHORT.prompt], properties, schedules, new_tokens=8)
    assert found.text.text == expected.texts[0]
    assert found.text.finish == "length"
    for name, table in expected.coefficients.items():
        own = found.frame[found.frame["property"] == name]["coefficient"]
        assert torch.allclose(torch.tensor(own.tolist()), table[0], atol=1e-5)
    assert "".join(found.frame["text"][:8]) == found.text.text
    said = [trace.name for trace in composing.figure(found).data]
    assert said == ["italian: dynamic", "mood: diminishing"]


def test_deltas_lead_towards_their_trait(wren: LM, state: State) -> None:
    """The other way round they would lead away from it."""
    mix = mixed(Part("delta:italian", "fixed", 0.5), new_tokens=16)
    deltas = {"italian": composing.deltas(wren, "italian", 16)}
    found = composing.write(wren, replace(state, mix=mix), deltas, state, {})
    assert "c'era una volta" in found.text.text


def test_vectors_are_composed_and_the_code_remakes_the_text(session: Session) -> None:
    session.train()
    assert session.wait(SOON)
    parts = Part("vector", "budget", 0.5), Part("data:wren-italian"), Part("delta:mood", "start")
    session.change(mix=mixed(*parts, new_tokens=8, prompt='Greta \'and\' """Otto:'))
    assert session.message == ""
    found = composed(session)
    vector = work.data_vector(session.made.lm, "wren-italian", session.state)
    properties = {
        "vector in use": Same(session.vector().at(1.0)),
        "wren-italian": Same(vector.at(1.0)),
        "mood": composing.deltas(session.made.lm, "mood", 8),
    }
    schedules = {each.name: each.made() for each in parts}
    prompt = session.state.mix.prompt
    expected = compose(session.made.lm, [prompt], properties, schedules, new_tokens=8)
    assert found.text.text == expected.texts[0]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(session.composed_code(), {})
    assert told.getvalue() == found.text.text + "\n"


def test_a_composition_makes_room_and_the_sweep_goes_on(session: Session) -> None:
    trained = threading.Event()

    def heard(kind: str) -> None:
        if kind == "trained":
            trained.set()

    session.listen(heard)
    session.train()
    assert trained.wait(SOON)
    composed(session)
    assert session.made.swept


def test_a_stop_leaves_the_former_text(session: Session) -> None:
    former = composed(session)
    session.change(mix=replace(SHORT, new_tokens=90, prompt="Otto & Greta:"))

    def stop(kind: str) -> None:
        if kind == "progress" and session.made.doing == "Composing …":
            session.stop()

    session.listen(stop)
    session.compose()
    assert session.wait(SOON)
    assert session.message == "Stopped."
    assert session.made.composed is former
    assert session.made.doing == ""


def test_what_cannot_be_made_is_said(session: Session) -> None:
    session.change(mix=mixed(Part("vector")))
    session.compose()
    assert session.wait(SOON)
    assert "no vector in use yet: press 'Train and sweep'" in session.message
    with pytest.raises(ValueError, match="nothing is composed yet: press 'Compose'"):
        session.composed_code()
    with pytest.raises(ValueError, match="deltas of italian are of wren, not of 'tiny'"):
        composing.deltas(replace(session.made.lm, name="tiny"), "italian", 8)


# ---- the tab ------------------------------------------------------------------------------------


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
    assert tab.text.cells[0][0] == session.made.composed.text.text
    assert tab.text.note == composing.means(session.made.composed)
    assert tab.plot.figure is not None
    drawn = tab.plot.chart.figure
    demo.slider.dark = True
    assert tab.plot.chart.figure != drawn
    tab.copy.click()
    assert demo.kept.value == session.composed_code() == demo.clipboard.text
    tab.prompt.value = "Greta & Otto:"
    assert tab.text.note.endswith(", chosen earlier")
    assert "'Nestor & Roland:'" in session.composed_code(), "of the text that is shown"


def test_what_a_model_writes_stays_text(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    written = composing.write

    def write(*given: object) -> composing.Composition:
        found = written(*given)  # type: ignore[arg-type]
        return replace(found, frame=found.frame.assign(text=hostile))

    monkeypatch.setattr(composing, "write", write)
    demo.composing.start.click()
    assert demo.session.wait(SOON)
    drawn = demo.composing.plot.chart.figure
    assert "<img" not in drawn
    assert "\\u003cimg" not in drawn


def test_without_wren_nothing_is_chosen() -> None:
    lm = replace(wb.load("wren"), name="tiny")
    assert work.initial(lm).mix.parts == Mix().parts
