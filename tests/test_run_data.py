"""Where `workbench run` finds a data set: dataset formats as the reference's, folders, bundles."""

import json

import pytest
import yaml
from outside import SHARED
from run_cli import base_dir, run, write_rows
from test_train import SENTENCES

from workbench.runs import data as tables
from workbench.runs.options import Options
from workbench.training import easyedit

FORMAT = {
    "train": {
        "mine": {
            "file_path": "./tables/mine.jsonl",
            "field_names": {"question": "q", "matching": "yes", "not_matching": "no"},
        },
        "merge": {"file_path": None},  # an entry that nobody asks for may be as it likes
    },
    "generation": {
        "mine": {
            "file_path": "./tables/asked.csv",
            "field_names": {"input": "text", "reference_response": "gold"},
        }
    },
}


def given(base, content=FORMAT):
    path = base / "hparams/Steer/dataset_format.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    rows = [{"q": q, "yes": p.strip(), "no": n.strip()} for q, p, n in SENTENCES]
    write_rows(base / "tables/mine.jsonl", rows)
    (base / "tables/asked.csv").write_text('text,gold\n"Who, then?",nobody\nNA,1\n')
    return base


def load(base, **options) -> tables.Data:
    asked = {
        "dataset": "mine",
        "method": "split",
        "model_name": "m",
        "intervention_method": "vector",
    }
    return tables.load(Options(**asked | {"base_dir": base, **options}))


def test_a_dataset_format_names_files_and_columns(tmp_path):
    base = given(base_dir(tmp_path))
    ran = run(base, dataset="mine")
    assert ran.status == 0, ran.said
    assert "follow their questions without a space, as in the reference" in ran.said
    rows = easyedit.load_results(
        base / "generation/tiny/split/mine/split_vector/m1.0/mine_results.json"
    )
    assert [(row["input"], row["reference_response"]) for row in rows] == [
        ("Who, then?", "nobody"), ("NA", "1"),
    ]  # fmt: skip


def test_a_separator_stands_between_question_and_answer(tmp_path):
    spaced = json.loads(json.dumps(FORMAT))
    spaced["train"]["mine"]["separator"] = " "
    data = load(given(tmp_path, spaced))
    assert data.train[0].pairs[0].positive == SENTENCES[0][1]
    assert len(data.said) == 2


def test_a_format_elsewhere_is_named(tmp_path):
    base = given(tmp_path)
    path = tmp_path / "other.yaml"
    (base / "hparams/Steer/dataset_format.yaml").rename(path)
    with pytest.raises(FileNotFoundError, match="no data set 'mine'"):
        load(base)
    assert load(base, dataset_format=path).concepts == [None]
    with pytest.raises(FileNotFoundError, match="no dataset format at"):
        load(base, dataset_format=tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file": "x"}, "train, mine: unknown key 'file'; known are file_path"),
        ({"hf_path": "a/b"}, "hf_path 'a/b' is not fetched from here; download it"),
        ({"file_path": None}, "give file_path, and field_names"),
        ({"file_path": "tables/mine.jsonl", "field_names": "q"}, "give file_path, and field_names"),
        ({"file_path": "tables/mine.jsonl", "separator": 3}, "the separator 3 is no text"),
        ({"file_path": "tables/none.jsonl", "field_names": {}}, "no file at"),
        ("tables/mine.jsonl", "expected file_path and field_names"),
    ],
)
def test_entries_that_cannot_be_used(tmp_path, entry, message):
    base = given(tmp_path, {"train": {"mine": entry}})
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(base)


def test_formats_that_are_none(tmp_path):
    base = given(tmp_path, {"tran": {}})
    with pytest.raises(ValueError, match="is no dataset format: it needs the sections"):
        load(base)
    (base / "hparams/Steer/dataset_format.yaml").write_text("train: [")
    with pytest.raises(ValueError, match="is no YAML"):
        load(base)


def test_texts_need_prompts_and_prompts_no_pairs(tmp_path):
    base = base_dir(tmp_path)
    (base / "data/choice/test.jsonl").unlink()
    ran = run(base)
    assert ran.status == 1
    assert "generate split vector: done" in ran.said
    assert "has no prompts to write on: put test.jsonl beside train.jsonl" in ran.said
    write_rows(base / "data/choice/test.jsonl", [{"prompt": "Who?"}])
    (base / "data/choice/train.jsonl").unlink()
    assert run(base, mode="apply").status == 0
    assert "no data set 'choice': there is no train.jsonl" in run(base).said
    # Own files come before those of the package.
    base_dir(tmp_path, data="wren-power")
    assert "6 pairs from" in run(base, dataset="wren-power", mode="generate").said


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="public test data missing")
@pytest.mark.parametrize(
    ("name", "file", "split"),
    [
        ("psychopathy", "evals/psychopathy.jsonl", "jsonl"),
        ("powerseeking", "evals/power-seeking-inclination.jsonl", "jsonl"),
        ("powerseeking", "bipo/power-seeking_test.csv", "csv"),
    ],
)
def test_published_data_run_as_they_are(tmp_path, stories, name, file, split):
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    for stem in ("train", "test"):
        (folder / f"{stem}.{split}").symlink_to(SHARED / "data" / file)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/stories260K").symlink_to(SHARED / "models" / "stories260K")
    few = {"max_num_of_examples": 12, "generation_data_size": 2, "layers": "[2]"}
    ran = run(
        tmp_path, "--bad-pairs", "skip", dataset=name, model="stories260K", method="split",
        settings=few,
    )  # fmt: skip
    assert ran.status == 0, ran.said
    assert "2 done" in ran.said
    rows = easyedit.load_results(
        tmp_path / f"generation/stories260K/split/{name}/split_vector/m1.0/{name}_results.json"
    )
    assert len(rows) == 2
    assert all(row["reference_response"] for row in rows)
