"""In-context data sets: read, dealt once, and made into prompts that say what they should."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.composition.in_context import (
    Example,
    Examples,
    answers,
    contrast,
    deal,
    find_examples,
    in_context,
    load_examples,
    questions,
)


def made_up(size: int, name: str = "A", instruction: str = "Answer.") -> Examples:
    items = tuple(
        Example(f" What is {name}{i}?", f" It is {name.lower()}{i}. ") for i in range(size)
    )
    return Examples(items, instruction, name)


def write(folder: Path, name: str, rows: object, instruction: str | None = "Rispondi.") -> Path:
    own = folder / name.partition("_")[0]
    own.mkdir(parents=True, exist_ok=True)
    path = own / f"{name}.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    if instruction is not None:
        (own / f"{own.name}_instr.txt").write_text(instruction, "utf-8")
    return path


@pytest.mark.parametrize("text", ["Che cos'è?", "Qu'est-ce que c'est ?", "¿Qué es?", "这是什么？"])
def test_a_data_set_is_read_with_its_instruction(tmp_path: Path, text: str) -> None:
    write(tmp_path, "ITA_train", [{"input": text, "output": "così"}], f"{text}\n")
    read = find_examples("ITA_train", tmp_path)
    assert read.items == (Example(text, "così"),)
    assert read.name == "ITA_train"
    assert in_context([(0,)], read) == [f"{text}\nQ: {text}\nA:"]


def test_an_instruction_may_be_given_or_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "ITA_train", [{"input": "a", "output": "b"}], None)
    with pytest.raises(FileNotFoundError, match=r"no instruction for .*ITA_instr.txt"):
        load_examples(path)
    assert load_examples(path, "Answer.").instruction == "Answer."
    assert in_context([(0,)], load_examples(path, "")) == ["Q: a\nA:"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"input": "a"}, "holds no list"),
        ([], "'X_train' is empty"),
        ([{"input": "a", "output": "b"}, {"input": "a"}], "row 1 of .* has no text as 'output'"),
        ([{"input": " ", "output": "b"}], "row 0 of .* has no text as 'input'"),
        ([{"input": 3, "output": "b"}], "no text as 'input'"),
        (["a"], "no text as 'input'"),
    ],
)
def test_files_that_hold_something_else_are_refused(
    tmp_path: Path, rows: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_examples(write(tmp_path, "X_train", rows))


def test_a_missing_data_set_names_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, "FRA_train", [{"input": "a", "output": "b"}])
    with pytest.raises(FileNotFoundError, match=r"no data set 'ITA_train'.* are FRA_train"):
        find_examples("ITA_train", tmp_path)
    broken = tmp_path / "FRA" / "FRA_train.json"
    broken.write_text("[{", "utf-8")
    with pytest.raises(ValueError, match="is not readable as json"):
        load_examples(broken)
    with pytest.raises(FileNotFoundError, match="no file at"):
        load_examples(tmp_path / "none.json")


@given(
    k=st.integers(0, 5), support=st.integers(0, 6), evaluation=st.integers(0, 6),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_no_item_is_dealt_twice_and_k_examples_are_k(
    k: int, support: int, evaluation: int, seed: int
) -> None:
    data = made_up(80)
    sizes = {"icl_examples": k, "support": support, "evaluation_size": evaluation, "seed": seed}
    if not support + evaluation:
        with pytest.raises(ValueError, match="at least one prompt"):
            deal([data], **sizes)
        return
    dealt = deal([data], **sizes)
    rows = dealt.extraction + dealt.evaluation
    assert (len(dealt.extraction), len(dealt.evaluation)) == (support, evaluation)
    assert {len(row) for row in rows} == {k + 1}
    everything = [index for row in rows for index in row]
    assert len(set(everything)) == len(everything)
    assert dealt == deal([data], **sizes)
    assert all(prompt.count("\nA: ") == k for prompt in in_context(rows, data))


def test_another_seed_deals_otherwise() -> None:
    small = {"icl_examples": 1, "support": 3, "evaluation_size": 3}
    assert deal([made_up(40)], **small, seed=0) != deal([made_up(40)], **small, seed=1)


def test_a_question_held_twice_is_dealt_once() -> None:
    twice = Examples((*made_up(5).items, *made_up(5).items), name="twice")
    sizes = {"icl_examples": 0, "evaluation_size": 0}
    rows = deal([twice, made_up(10)], support=5, **sizes).extraction
    assert len({twice.items[index].input for (index,) in rows}) == 5
    message = "need 6 different questions; 'twice' and 'A' hold 5, enough for 5 prompts"
    with pytest.raises(ValueError, match=message):
        deal([twice, made_up(10)], support=6, **sizes)


def test_questions_of_another_deal_are_left_out() -> None:
    data = made_up(6)
    taken = [item.input for item in data.items[:4]]
    sizes = {"icl_examples": 0, "evaluation_size": 0, "without": taken}
    assert set(deal([data], support=2, **sizes).extraction) == {(4,), (5,)}
    with pytest.raises(ValueError, match="'A' hold 2, enough for 2 prompts"):
        deal([data], support=3, **sizes)


def test_a_question_of_two_sets_at_different_places_is_dealt_once() -> None:
    data = made_up(6)
    other = Examples(data.items[::-1], name="other")
    sizes = {"icl_examples": 0, "evaluation_size": 0}
    assert set(deal([data, other], support=3, **sizes).extraction) == {(0,), (1,), (2,)}
    with pytest.raises(ValueError, match="hold 3, enough for 3 prompts"):
        deal([data, other], support=4, **sizes)


def test_a_hash_names_what_is_said() -> None:
    assert made_up(3).hash == made_up(3).hash != made_up(4).hash
    assert made_up(3).hash != made_up(3, instruction="Reply.").hash
    assert made_up(4).head(3).hash == made_up(3).hash


def test_counts_that_do_not_fit_are_refused() -> None:
    message = "30 prompts for extraction and 50 for evaluation, each of 4 examples .* need 400"
    with pytest.raises(ValueError, match=message):
        deal([made_up(150)])
    with pytest.raises(ValueError, match=r"'A' and 'B' hold \[3, 4\] examples"):
        deal([made_up(3), made_up(4, "B")], support=1, evaluation_size=0)
    for name in ("icl_examples", "support", "evaluation_size"):
        with pytest.raises(ValueError, match=name):
            deal([made_up(9)], **{name: -1})


def test_prompts_say_the_examples_and_then_the_question() -> None:
    data = made_up(3)
    rows = [(2, 0, 1)]
    assert in_context(rows, data) == [
        "Answer.\nQ: What is A2?\nA: It is a2.\n\nQ: What is A0?\nA: It is a0.\n\n"
        "Q: What is A1?\nA:"
    ]
    assert questions(rows, data) == ["Q: What is A1?\nA:"]
    assert answers(rows, data) == ["It is a1."]


def test_a_contrast_asks_the_same_of_both_sides() -> None:
    showing, opposite = contrast([(0, 1), (2, 3)], made_up(4), made_up(4, "B"))
    assert [prompt.replace("B", "A").replace(" b", " a") for prompt in opposite] == showing


def test_manual_composition_shows_all_properties_by_turns() -> None:
    one, two = made_up(5), made_up(5, "B", "Reply.")
    (prompt,), (other,) = contrast([(0, 1, 2, 3)], [one, two], made_up(5, "C"))
    assert prompt == (
        "Answer.\nReply.\nQ: What is A0?\nA: It is a0.\n\nQ: What is B1?\nA: It is b1.\n\n"
        "Q: What is A2?\nA: It is a2.\n\nQ: What is A3?\nA:"
    )
    assert other.count("It is c") == 3


def test_another_form_stands_in_all_prompts_alike() -> None:
    def form(answered: Sequence[Example], question: str) -> str:
        return "/".join([*(f"{each.input}>{each.output}" for each in answered), question])

    one, other = (
        Examples((Example("a", said), Example("b", said)), "Do.", said) for said in ("yes", "no")
    )
    assert contrast([(1, 0)], one, other, form) == (["Do.\nb>yes/a"], ["Do.\nb>no/a"])
    assert questions([(1, 0)], one, form) == ["a"]
