"""Tables of steering papers as contrast pairs: columns told, concepts apart, bad rows named."""

import json
from pathlib import Path

import pandas as pd
import pytest
from outside import SHARED

from workbench.contrast.datasets import read_concepts, read_items

needs_shared = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason=f"public test data missing: {SHARED / 'data'}"
)


def axbench(path: Path) -> Path:
    """A table of the shape of AxBench's: two concepts, and rows that show none."""
    rows = [
        (concept, f"Question {concept}.{i}?", category)
        for concept, category in ((0, "positive"), (3, "positive"), (-1, "negative"))
        for i in range(3)
    ]
    pd.DataFrame(
        {
            "input": [question for _, question, _ in rows],
            "winning_output": [f"With {c}: {q}" for c, q, _ in rows],
            "losing_output": [f"Without {c}: {q}" for c, q, _ in rows],
            "output_concept": [f"words about {c}" for c, _, _ in rows],
            "concept_id": [c for c, _, _ in rows],
            "concept_genre": "text",
            "category": [category for _, _, category in rows],
        }
    ).to_parquet(path)
    return path


def lines(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


GOOD = {"question": "Is it so?", "answer_matching_behavior": " Yes"}
GOOD |= {"answer_not_matching_behavior": " No"}


def test_axbench_has_one_set_of_pairs_a_concept(tmp_path):
    table = read_concepts(axbench(tmp_path / "train.parquet"), name="axbench")
    assert [(c.number, c.name, len(c.pairs)) for c in table.concepts] == [
        (0, "words about 0", 3),
        (3, "words about 3", 3),
    ]
    assert table.concepts[1].pairs.name == "axbench_concept_3"
    assert table.concepts[1].pairs[0].prompt == "Question 3.0?"
    assert table.concepts[1].pairs[0].positive == "With 3: Question 3.0?"
    assert "3 of 9 rows" in table.said[0]
    assert "category 'positive'" in table.said[0]


def test_a_table_without_categories_is_taken_whole(tmp_path):
    path = axbench(tmp_path / "train.parquet")
    pd.read_parquet(path).drop(columns="category").to_parquet(path)
    assert [c.number for c in read_concepts(path).concepts] == [0, 3, -1]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_columns_are_told_in_every_kind_of_file(tmp_path, kind):
    path = tmp_path / f"train.{kind}"
    if kind == "jsonl":
        lines(path, GOOD)
    else:
        frame = pd.DataFrame([GOOD])
        {
            "json": lambda: path.write_text(json.dumps([GOOD])),
            "csv": lambda: frame.to_csv(path, index=False),
            "parquet": lambda: frame.to_parquet(path),
        }[kind]()
    (pair,) = read_concepts(path).concepts[0].pairs
    assert (pair.prompt, pair.positive, pair.negative) == ("Is it so?", " Yes", " No")


def test_columns_of_another_make_are_named_by_fields(tmp_path):
    path = lines(tmp_path / "t.jsonl", {"ask": "Q", "good": "g", "bad": "b"})
    fields = {"question": "ask", "matching": "good", "not_matching": "bad"}
    (pair,) = read_concepts(path, fields, separator=" ").concepts[0].pairs
    assert (pair.prompt, pair.positive, pair.negative) == ("Q", " g", " b")
    with pytest.raises(ValueError, match=r"columns \['ask', 'good', 'bad'\]: which of them"):
        read_concepts(path)
    with pytest.raises(ValueError, match=r"no column 'well' \(matching\); its columns are"):
        read_concepts(path, fields | {"matching": "well"})
    with pytest.raises(ValueError, match="lack 'not_matching'"):
        read_concepts(path, {"matching": "good"})


BAD = [
    ({"answer_not_matching_behavior": ""}, "unpaired: 'answer_not_matching_behavior' is ''"),
    ({"answer_matching_behavior": None}, "unpaired: 'answer_matching_behavior' is None"),
    ({"answer_matching_behavior": "  "}, "unpaired: 'answer_matching_behavior' is '  '"),
    ({"answer_matching_behavior": 3}, "unpaired: 'answer_matching_behavior' is 3"),
    ({"answer_matching_behavior": " No"}, "identical pair"),
    ({"question": {"a": 1}}, "a prompt must be a text or chat messages"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_rows_are_refused_by_number_or_left_out_and_said(tmp_path, change, message):
    path = lines(tmp_path / "train.jsonl", GOOD, GOOD | change)
    with pytest.raises(ValueError, match=rf"1 of 2 rows .*row 1: {message}.*--bad-pairs skip"):
        read_concepts(path)
    table = read_concepts(path, bad="skip")
    assert len(table.concepts[0].pairs) == 1
    assert f"1 of 2 rows of {str(path)!r} are left out: row 1: {message}"[:60] in table.said[0]
    alone = lines(tmp_path / "alone.jsonl", GOOD | change)
    with pytest.raises(ValueError, match="1 of 1 rows"):
        read_concepts(alone, bad="skip")


def test_rows_that_contradict_each_other_are_refused_or_left_out(tmp_path):
    turned = GOOD | {"answer_matching_behavior": " No", "answer_not_matching_behavior": " Yes"}
    other = GOOD | {"question": "And that?"}
    path = lines(tmp_path / "train.jsonl", GOOD, other, turned)
    with pytest.raises(ValueError, match="pairs 0 and 2 of 'train' contradict each other"):
        read_concepts(path)
    table = read_concepts(path, bad="skip")
    assert [pair.prompt for pair in table.concepts[0].pairs] == ["And that?"]
    assert "2 pairs of 'train' contradict another one" in table.said[0]


def test_prompts_with_and_without_reference_answers(tmp_path):
    both = read_items(lines(tmp_path / "test.jsonl", GOOD))
    assert both[0].prompt == "Is it so?"
    assert both[0].reference == " Yes"
    assert both[0].pair is not None
    assert both[0].pair.negative == " No"
    bare = read_items(lines(tmp_path / "alpaca.jsonl", {"instruction": "Write.", "output": "Ok."}))
    assert (bare[0].prompt, bare[0].reference, bare[0].pair) == ("Write.", "Ok.", None)
    fields = {"input": "text", "reference_response": "gold"}
    named = read_items(lines(tmp_path / "n.jsonl", {"text": "T", "gold": 4}, {"text": ""}), fields)
    assert [(item.prompt, item.reference) for item in named] == [("T", "4")]
    own = read_items(axbench(tmp_path / "test.parquet"))
    assert [item.concept for item in own[:4]] == [0, 0, 0, 3]
    with pytest.raises(ValueError, match="no column of prompts"):
        read_items(lines(tmp_path / "x.jsonl", {"words": "T"}))


@needs_shared
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("evals/psychopathy.jsonl", 1000),
        ("evals/power-seeking-inclination.jsonl", 998),
        ("bipo/power-seeking_test.csv", 200),
    ],
)
def test_published_tables_are_read_as_they_are(name, count):
    table = read_concepts(SHARED / "data" / name)
    assert [len(concept.pairs) for concept in table.concepts] == [count]
    assert all(pair.prompt for pair in table.concepts[0].pairs)
    assert table.said == ()
    items = read_items(SHARED / "data" / name)
    assert len(items) == count
    assert all(item.pair is not None for item in items)
