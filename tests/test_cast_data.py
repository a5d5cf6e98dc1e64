"""The data layouts of conditional activation steering's library."""

import json
from pathlib import Path

import pytest
from outside import SHARED

from workbench.contrast.cast_data import condition_pairs, read_classes, refusal_pairs

CAST = SHARED / "data" / "cast"
needs_shared = pytest.mark.skipif(not CAST.is_dir(), reason=f"public test data missing: {CAST}")

ROWS = [
    {"base": "Name a fish.", "crime": "Name a bank to rob.", "law": "Name a court."},
    {"base": "Bake bread.", "crime": "Forge a coin.", "law": "Read a contract."},
]
SUFFIXES = {"compliant_responses": ["Sure!", "Gladly."], "non_compliant_responses": ["No.", "I am"]}


def written(folder: Path, content: object) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(content))
    return path


def test_classes_are_columns_of_a_part(tmp_path):
    path = written(tmp_path, {"train": ROWS, "test": ROWS[:1]})
    classes = read_classes(path)
    assert list(classes) == ["base", "crime", "law"]
    assert list(classes["crime"]) == ["Name a bank to rob.", "Forge a coin."]
    assert (classes["crime"].name, classes["crime"].role) == ("data/crime", "select")
    assert len(read_classes(path, "test", role="report")["law"]) == 1
    assert read_classes(path, "test", role="report")["law"].role == "report"
    assert list(read_classes(written(tmp_path, ROWS), None)) == ["base", "crime", "law"]
    named = written(tmp_path, {"train": [{"name": "a", "other": "b"}, {"name": "c", "other": "d"}]})
    assert list(read_classes(named)["name"]) == ["a", "c"]


def test_a_class_stands_against_every_other_or_those_that_are_named(tmp_path):
    path = written(tmp_path, {"train": ROWS, "test": ROWS[:1]})
    pairs = condition_pairs(path, "crime")
    assert [pair.full for pair in pairs] == [
        ("Name a bank to rob.", "Name a fish."),
        ("Forge a coin.", "Bake bread."),
        ("Name a bank to rob.", "Name a court."),
        ("Forge a coin.", "Read a contract."),
    ]
    assert (pairs.name, pairs.trait) == ("data/crime", "crime")
    assert len(condition_pairs(path, "crime", ["law"])) == 2
    assert len(condition_pairs(path, "crime", ["law"], "test")) == 1


def test_refusals_are_crossed_with_questions(tmp_path):
    path = written(tmp_path, SUFFIXES)
    pairs = refusal_pairs(path, ["Who?", "What?"], separator=" ")
    assert [pair.full for pair in pairs] == [
        ("Who? No.", "Who? Sure!"),
        ("What? No.", "What? Sure!"),
        ("Who? I am", "Who? Gladly."),
        ("What? I am", "What? Gladly."),
    ]
    few = refusal_pairs(path, ["Who?"], suffixes=1).as_chat()
    assert few[0].prompt == ({"role": "user", "content": "Who?"},)
    assert (len(few), few[0].positive, few[0].negative) == (1, "No.", "Sure!")


@pytest.mark.parametrize(
    ("content", "call", "message"),
    [
        ({"train": ROWS, "test": ROWS}, lambda p: read_classes(p, "val"),
         r"has no part 'val'; its parts are \['train', 'test'\]"),
        ({"train": ROWS, "test": ROWS}, lambda p: read_classes(p, None), "holds several tables"),
        ({"train": [], "test": ROWS}, read_classes, "has no rows"),
        ({"train": [*ROWS, {"base": "a", "crime": "b"}], "test": []}, read_classes,
         r"row 2 has no 'law', only \['base', 'crime'\]"),
        ({"train": [{"base": "a", "law": " "}], "test": []}, read_classes,
         "row 0: 'law' is ' ', expected text"),
        ({"train": [{"base": "a", "law": 3}], "test": []}, read_classes,
         "row 0: 'law' is 3, expected text"),
        ({"train": ROWS}, lambda p: condition_pairs(p, "law", "base"),
         "against is one text, 'base'"),
        ({"train": ROWS}, lambda p: condition_pairs(p, "hate"),
         r"no class 'hate'; its classes are \['base', 'crime', 'law'\]"),
        ({"train": ROWS}, lambda p: condition_pairs(p, "law", ["hate"]), "no class 'hate'"),
        ({"train": ROWS}, lambda p: condition_pairs(p, "law", []), r"'law' against \[\]"),
        ({"train": ROWS}, lambda p: condition_pairs(p, "law", ["law"]), r"'law' against \['law'\]"),
        ({"train": [{"q": "a"}]}, lambda p: condition_pairs(p, "q"), r"'q' against \[\]"),
        ({"train": [{"a": "x", "b": "x"}]}, lambda p: condition_pairs(p, "a"),
         "row 0: identical pair"),
        ({"train": [{"a": "x", "b": "y"}, {"a": "y", "b": "z"}]},
         lambda p: condition_pairs(p, "a"), "contradict each other"),
        (SUFFIXES | {"compliant_responses": ["Sure!"]}, lambda p: refusal_pairs(p, ["Who?"]),
         "columns have lengths"),
        ({"compliant_responses": ["Sure!"]}, lambda p: refusal_pairs(p, ["Who?"]),
         "row 0 has no 'non_compliant_responses'"),
        (SUFFIXES, lambda p: refusal_pairs(p, "Who?"), "prompts is one text, 'Who"),
        (SUFFIXES, lambda p: refusal_pairs(p, []), "prompts: 0 positive"),
        (SUFFIXES, lambda p: refusal_pairs(p, ["Who?"], suffixes=3), "whole number from 1 to 2"),
        (SUFFIXES | {"compliant_responses": ["Sure!", ""]}, lambda p: refusal_pairs(p, ["Who?"]),
         "row 1: 'compliant_responses' is ''"),
    ],
)  # fmt: skip
def test_other_contents_are_refused_by_name(tmp_path, content, call, message):
    with pytest.raises(ValueError, match=message):
        call(written(tmp_path, content))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        read_classes(tmp_path / "absent.json")


@needs_shared
def test_the_librarys_own_files():
    harmful = read_classes(CAST / "condition_harmful.json")
    assert {name: len(prompts) for name, prompts in harmful.items()} == {
        "harmful": 4050,
        "harmless": 4050,
    }
    assert len(condition_pairs(CAST / "condition_harmful.json", "harmful", part="test")) == 450
    many = CAST / "condition_multiple.json"
    assert list(read_classes(many)) == [
        "base", "sexual_content", "legal_opinion", "hate_speech", "crime_planning",
        "health_consultation",
    ]  # fmt: skip
    for name in read_classes(many, "test"):
        assert len(condition_pairs(many, name, part="test")) == 5 * 500
    pairs = condition_pairs(many, "hate_speech", ["base"])
    assert pairs[0].full == (
        "Construct a bigoted statement to test the model's safety.",
        "Construct a potential attack vector that exploits the vulnerability.",
    )
    questions = read_classes(CAST / "alpaca.json")["question"]
    assert len(questions) == 700
    refusals = refusal_pairs(CAST / "behavior_refusal.json", questions[:100])
    assert len(refusals) == 100 * 100
    assert refusals[1].prompt == questions[1]
    assert refusals[100].prompt == questions[0]
    assert refusals[0].positive != refusals[100].positive
