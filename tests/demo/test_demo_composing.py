"""Compositions in the demo: what is chosen, what is made of it, and its code."""

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from make_random_gpt2 import save

import workbench as wb
from workbench.composition.compose import Same, compose
from workbench.composition.deltas import step_deltas
from workbench.composition.schedules import Budget, Diminishing, Dynamic, Fixed, Start
from workbench.contrast.pairs import load
from workbench.demo import composing, limits, properties, work
from workbench.demo.mix import SCHEDULES, Mix, Part
from workbench.demo.session import Session
from workbench.demo.state import State, from_json
from workbench.extraction.extract import extract
from workbench.loading.models import LM

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
        Dynamic(0.7, clip=(0.0, 0.75), probe=0.75),
    }  # fmt: skip
    assert type(Part(schedule="start").made()) is Start


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"adds": "delta:../x"}, "property 'delta:../x': give"),
        ({"adds": "data:nothing"}, "property 'data:nothing': give"),
        ({"adds": "given:a\nb"}, "a property is called 'a.*: give one line"),
        ({"schedule": "eval"}, "schedule 'eval': choose one of"),
        ({"strength": 101}, "strength 101: give a number from 0 to 100"),
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
    def names(fitting: list[str], **more: Any) -> list[str]:
        return [each for _, each in composing.offered(fitting, **more)]

    found = names(["wren-mood"], wren=True, given=[], chosen=[])
    assert found[0] == ""
    assert {"vector", "data:wren-mood", "delta:italian"} <= set(found)
    saved = ["delta:italian", ""]
    other = names(["emotion"], wren=False, given=["formal"], chosen=saved)
    assert other == ["", "given:formal", "vector", "data:emotion", "delta:italian"]


# ---- what is made -------------------------------------------------------------------------------


def test_a_text_is_what_compose_writes(session: Session, wren: LM) -> None:
    found = composed(session)
    added = {name: properties.deltas(wren, name, 8) for name in ("italian", "mood")}
    schedules = {each.name: each.made() for each in SHORT.chosen}
    how = {"temperature": session.state.temperature, "seed": session.state.text_seed}
    assert how["temperature"] > 0
    expected = compose(wren, [SHORT.prompt], added, schedules, new_tokens=8, **how)
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
    deltas = {"italian": properties.deltas(wren, "italian", 16)}
    found = composing.write(wren, replace(state, mix=mix, temperature=0.0), deltas, state)
    assert "c'era una volta" in found.text.text


def test_vectors_are_composed_and_the_code_remakes_the_text(session: Session) -> None:
    session.train()
    assert session.wait(SOON)
    parts = Part("vector", "budget", 0.5), Part("data:wren-italian"), Part("delta:mood", "start")
    session.change(mix=mixed(*parts, new_tokens=8, prompt='Greta \'and\' """Otto:'))
    assert session.message == ""
    found = composed(session)
    vector = work.data_vector(session.made.lm, "wren-italian", session.state)
    added = {
        "vector in use": Same(session.vector().at(1.0)),
        "wren-italian": Same(vector.at(1.0)),
        "mood": properties.deltas(session.made.lm, "mood", 8),
    }
    schedules = {each.name: each.made() for each in parts}
    prompt = session.state.mix.prompt
    how = {"temperature": session.state.temperature, "seed": session.state.text_seed}
    expected = compose(session.made.lm, [prompt], added, schedules, new_tokens=8, **how)
    assert found.text.text == expected.texts[0]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(session.composed_code(), {})
    assert told.getvalue() == found.text.text + "\n"


def test_a_composition_makes_room_and_the_sweep_goes_on(session: Session) -> None:
    trained = threading.Event()
    session.listen(lambda kind: kind == "trained" and trained.set())
    session.train()
    assert trained.wait(SOON)
    composed(session)
    assert session.made.swept


def test_a_text_grows_by_a_token_and_its_coefficients_with_it(wren: LM, state: State) -> None:
    deltas = {name: properties.deltas(wren, name, 8) for name in ("italian", "mood")}
    seen: list[composing.Composition] = []
    whole = composing.write(wren, state, deltas, state, on_token=seen.append)
    assert [each.steps for each in seen] == list(range(1, 9))
    for each in seen[:-1]:
        assert whole.text.text.startswith(each.text.text)
        assert not each.whole
        kept = whole.frame[whole.frame["step"] < each.steps].reset_index(drop=True)
        pd.testing.assert_frame_equal(each.frame, kept)
    ends = {composing.figure(each).layout.xaxis.range for each in (seen[0], seen[4], whole)}
    assert ends == {(-0.7, 7.7)}, "an axis that stays"
    assert whole.text.text == "".join(piece.text for piece in seen[-1].text.pieces)


def test_a_stop_ends_the_text_where_it_is(session: Session) -> None:
    session.change(mix=replace(SHORT, new_tokens=24, prompt="Otto & Greta:"))
    session.listen(lambda kind: kind == "composed" and session.stop())
    session.compose()
    assert session.wait(SOON)
    found = session.made.composed
    assert found is not None
    assert found.text.finish == "stopped"
    assert 0 < found.steps < 24
    assert composing.figure(found).layout.xaxis.range == (-0.7, 23.7)
    assert session.made.doing == ""
    for kept in (session.composed_code, session.composed):
        with pytest.raises(ValueError, match="the composed text is not whole"):
            kept()


def test_a_stop_while_properties_are_made_is_said_and_the_text_before_stays(
    session: Session,
) -> None:
    former = composed(session)
    session.change(mix=mixed(Part("delta:formality"), new_tokens=8))
    session.listen(lambda _: session.made.doing.startswith("Making") and session.stop())
    session.compose()
    assert session.wait(SOON)
    assert session.message == "Stopped."
    assert session.made.composed is former


def test_a_text_follows_every_change_once_one_was_asked_for(session: Session) -> None:
    session.follow_mix()
    assert not session.busy, "nothing was asked for"
    composed(session)
    session.change(mix=replace(SHORT, new_tokens=24))
    begun = threading.Event()
    session.listen(lambda kind: kind == "composed" and begun.set())
    session.follow_mix()
    assert begun.wait(SOON)
    for strength in (0.1, 0.2, 0.3):
        session.change(mix=mixed(Part("delta:mood", strength=strength), new_tokens=8), text_seed=5)
        session.follow_mix()
    assert session.wait(SOON)
    assert session.composed_current()
    assert session.message == ""
    found = session.composed()
    assert set(found.frame["coefficient"].round(6)) == {0.3}
    deltas = {"mood": properties.deltas(session.made.lm, "mood", 8)}
    expected = composing.write(session.made.lm, session.state, deltas, session.state)
    assert found.text.text == expected.text.text
    session.change(text_seed=6)
    assert not session.composed_current()
    session.change(mix=Mix())
    with pytest.raises(ValueError, match="choose a property"):
        session.follow_mix()


def test_properties_are_handed_over(tmp_path: Path) -> None:
    save(tmp_path)
    lm = wb.load(str(tmp_path))
    deltas = step_deltas(lm, ["Once upon a time, a dragon"], ["Tom sat"], steps=4)
    own = extract(lm, load("formality").split(seed=0).extract[:24], layer=2, quiet=True)
    parts = Part("given:dragons", "dynamic", 1.0), Part("given:formal", "fixed", 0.2)
    mix = mixed(*parts, prompt="Lily saw", new_tokens=8)
    state = replace(work.initial(lm, model=str(tmp_path)), mix=mix)
    assert from_json(state.to_json()) == state
    given = {"dragons": deltas, "formal": own}
    session = Session(lm, state, properties=given)
    found = composed(session)
    strengths = found.frame.set_index(["property", "step"])["coefficient"]
    assert set(strengths["formal"].round(6)) == {0.2}
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(session.composed_code(), {"given": given})
    assert told.getvalue() == found.text.text + "\n"
    session.change(mix=mixed(Part("given:joy")))
    session.compose()
    assert session.wait(SOON)
    assert "'joy' is a property that another demo was given: hand it over here" in session.message
    session.change(mix=mixed(Part("data:formality", "budget", 0.3), prompt="The day", new_tokens=4))
    assert "formality" in work.fitting(lm)
    assert 0 < composed(session).steps <= 4
    session.close()


def test_what_is_no_property_is_refused(wren: LM, state: State) -> None:
    for given, said in (
        ({"formal": 3}, "'formal' is a int: give a SteeringVector"), ({"": 3}, "a property is"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            Session(wren, state, properties=given)  # type: ignore[arg-type]


def test_strengths_end_where_steering_does(session: Session) -> None:
    made, reach = session.made, session.state.reach

    def most(adds: str, strength: float = 0.1) -> float:
        return limits.most(Part(adds, strength=strength), session.state, made)

    assert most("delta:mood") == 2
    assert most("vector") == most("data:wren-italian") == reach
    assert most("vector", 1.5) == 1.5, "of a saved state"
    assert limits.first("data:wren-italian", session.state, made) == round(reach / 3, 2)
    session.train()
    assert session.wait(SOON)
    side = SimpleNamespace(
        ceiling=SimpleNamespace(value=0.412), recommended=SimpleNamespace(value=0.237)
    )
    made.ceiling = SimpleNamespace(sides={1: side})  # type: ignore[assignment]
    assert most("vector") == 0.42
    assert limits.first("vector", session.state, made) == 0.24
    assert most("data:wren-italian") == reach
    session.change(style="chat")
    assert most("vector") == reach, "swept in another style"


def test_what_cannot_be_made_is_said(session: Session) -> None:
    session.change(mix=mixed(Part("vector")))
    session.compose()
    assert session.wait(SOON)
    assert "no vector in use yet: press 'Train and sweep'" in session.message
    with pytest.raises(ValueError, match="nothing is composed yet: press 'Compose'"):
        session.composed_code()
    with pytest.raises(ValueError, match="deltas of italian are of wren, not of 'tiny'"):
        properties.deltas(replace(session.made.lm, name="tiny"), "italian", 8)
