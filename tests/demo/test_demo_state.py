"""States of the demo: what they hold, what they refuse, how they are saved."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.demo.state import LARGEST, LONGEST, State, from_json, steps

HOSTILE = "<script>alert(1)</script>\u202e\x00\x1b[2J'\"\\{}%"


@settings(max_examples=50, deadline=None)
@given(
    prompt=st.text(max_size=200),
    coefficient=st.floats(-100, 100),
    layer=st.none() | st.integers(0, 200),
    history=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=50))),
)
def test_a_saved_state_comes_back_the_same(prompt, coefficient, layer, history) -> None:
    state = State(prompt=prompt, coefficient=coefficient, layer=layer, history=tuple(history))
    assert from_json(state.to_json()) == state
    assert state.to_json().isascii()


def test_texts_may_hold_anything_and_be_long() -> None:
    state = State(prompt=HOSTILE + "x" * 100_000, positive=HOSTILE, template="{persona}" + HOSTILE)
    assert from_json(state.to_json()) == state


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model", "", "model '': give 'wren', a hub id or a path"),
        ("model", "a\x00b", r"model 'a\\x00b'"),
        ("model", 3, "model 3: give a text"),
        ("style", "loud", "style 'loud': choose one of 'base', 'chat'"),
        ("source", None, "source None: choose one of"),
        ("data", "../../etc/passwd", "data '../../etc/passwd': choose one of 'emotion'"),
        ("second", "none", "second 'none': choose one of ''"),
        ("method", "eval", "method 'eval': choose one of 'mean_difference'"),
        ("template", "no place", "template 'no place': write {persona} where it goes"),
        ("layer", -1, "layer -1: give a whole number"),
        ("layer", True, "layer True: give a whole number"),
        ("layer", 10_000_000, "layer 10000000: give a whole number from 0 to 999"),
        ("coefficient", 10**400, "coefficient 10000.*: give a number from -100 to 100"),
        ("reach", 10**400, "reach 10000.*: give a number"),
        ("temperature", 10**400, "temperature 10000.*: give a number"),
        ("prompt", "a\ud800", r"prompt holds half a letter, '\\ud800': leave it out"),
        ("history", [["user", "\udfff"]], r"content holds half a letter, '\\udfff'"),
        ("coefficient", float("nan"), "coefficient nan: give a number from -100 to 100"),
        ("coefficient", "1", "coefficient '1'"),
        ("second_coefficient", 1e9, "second_coefficient 1000000000.0"),
        ("reach", 0, "reach 0: give a number"),
        ("temperature", -0.1, "temperature -0.1: give a number from 0 to 10"),
        ("text_seed", -1, "text_seed -1: give a whole number"),
        ("seed", 2**60, "seed 1152921504606846976: give a whole number"),
        ("new_tokens", 0, "new_tokens 0: give a whole number"),
        ("prompt", "x" * (LONGEST + 1), f"prompt has {LONGEST + 1} letters"),
        ("prompt", None, "prompt None: give a text"),
        ("history", "abc", "history 'abc': give at most 1000 turns"),
        ("history", [["user"]], r"history holds \['user'\]: a turn is \[role, content\]"),
        ("history", [["root", "x"]], "role 'root': choose one of 'system'"),
        ("history", [["user", 3]], "content 3: give a text"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_value_and_a_remedy(
    field: str, value: object, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        replace(State(), **{field: value})  # type: ignore[arg-type]
    saved = json.loads(State().to_json())
    saved[field] = value
    with pytest.raises(ValueError, match=r"."):
        from_json(json.dumps(saved))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("[1]", "lacks the key 'workbench_demo'"),
        ("{}", "lacks the key 'workbench_demo'"),
        ('{"workbench_demo": 2}', "workbench_demo 2: this version reads 1"),
        ('{"workbench_demo": 1, "__class__": "x"}', "unknown key '__class__': a state has"),
        ('{"workbench_demo": 1, "coefficient": NaN}', "NaN is no number here"),
        ("[" * 200_000, "no JSON"),
        (" " * (LARGEST + 1), "at most"),
    ],
)
def test_strange_files_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_json(text)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(ValueError, match="style") as caught:
        State(style="x" * 100_000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_what_the_model_gets() -> None:
    assert State(prompt="go on").asked == "go on"
    chat = State(style="chat", prompt="and?", history=(("user", "hi"), ("assistant", "ho")))
    assert chat.asked == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "and?"},
    ]


def test_a_sweep_grows_from_the_middle_to_both_ends() -> None:
    assert steps(0.5, 2) == [[-0.25, 0.0, 0.25], [-0.5, 0.5]]
    with pytest.raises(ValueError, match="reach inf"):
        steps(float("inf"), 2)
    assert set(asdict(State())) == set(json.loads(State().to_json())) - {"workbench_demo"}
