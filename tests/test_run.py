"""`workbench run`: what it makes and says, what is done again, and how it ends."""

import json
import re
from pathlib import Path

import pytest
import torch
from run_cli import FAST, base_dir, command, run, tree
from safetensors.torch import load_file

from workbench.contrast import pairs
from workbench.loading import models
from workbench.runs import making
from workbench.runs.options import Options
from workbench.training import easyedit
from workbench.training.train import NOT_FIRST, train
from workbench.vectors import files, formats
from workbench.vectors.forms import LoRA

GENERATED = "generation/tiny/split/choice/split_vector"
VECTOR = "vectors/tiny/split/choice/split_vector/intervention.safetensors"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A base directory in which one combination was made and applied at three coefficients."""
    base = base_dir(tmp_path_factory.mktemp("finished"))
    ran = run(base, "--multipliers", "-1", "0", "1.5")
    assert ran.status == 0, ran.said
    return base


def test_one_call_makes_a_vector_and_texts(finished):
    vector = files.load(finished / VECTOR)
    assert vector.layers == (1,)
    assert vector.method == "split"
    assert vector.provenance["factors"] == [0.5, 1.0]
    assert vector.provenance["seed"] == 42  # the reference's
    assert vector.provenance["made_from"] == 6  # all of them, as there
    for m in ("m-1.0", "m0.0", "m1.5"):
        rows = easyedit.load_results(finished / GENERATED / m / "choice_results.json")
        assert len(rows) == 3
        for row in rows:
            assert row["complete_output"][0].startswith(f"{row['input']}{row['pred'][0]}"[:20])
            assert row["orig_pred"] == []
            assert row["reference_response"]
    assert not [name for name in tree(finished) if "unfinished" in name]


def test_the_vector_is_that_of_train(finished, tiny):
    data = pairs.load(
        finished / "data/choice/train.jsonl",
        prompt="question",
        positive="matching",
        negative="not_matching",
        name="choice",
    )
    own = train(
        tiny,
        data,
        layers=[1],
        factors=[0.5, 1.0],
        epochs=1,
        batch=4,
        learning_rate=0.05,
        positions=NOT_FIRST,
        held_out=0,
        seed=42,
        progress=False,
        quiet=True,
    )
    assert torch.equal(own.directions[1], files.load(finished / VECTOR).directions[1])


def test_the_same_call_does_nothing_again(finished):
    before = tree(finished)
    ran = run(finished, "--multipliers", "-1", "0", "1.5")
    assert ran.status == 0
    assert "4 already there" in ran.said
    after = tree(finished)
    assert {n: b for n, b in after.items() if not n.startswith("runs/")} == {
        n: b for n, b in before.items() if not n.startswith("runs/")
    }


def test_a_call_for_more_does_only_what_is_missing(finished):
    ran = run(finished, "--multipliers", "1.5", "2", mode="apply")
    assert ran.status == 0
    assert "1 done, 1 already there" in ran.said
    assert "m 2 lies outside the factors that it was trained at, 0.5 to 1" in ran.said


def test_at_zero_the_texts_are_the_unsteered_models(finished):
    ran = run(finished, "--multipliers", "1.5", settings={"generate_orig_output": True})
    assert "again, since settings changed" in ran.said
    zero = easyedit.load_results(finished / GENERATED / "m0.0/choice_results.json")
    with_both = easyedit.load_results(finished / GENERATED / "m1.5/choice_results.json")
    assert [row["orig_pred"] for row in with_both] == [row["pred"] for row in zero]
    run(finished, "--multipliers", "1.5")  # as it was, for the other tests


def test_a_dry_run_writes_nothing_and_loads_no_model(finished, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(models, "load", fail)
    base = base_dir(tmp_path)
    before = tree(base)
    ran = run(base, "--dry_run", method="all", intervention="all")
    assert ran.status == 0
    assert tree(base) == before
    assert len(re.findall(r"generate .*: to do: in ", ran.said)) == 10
    assert "caa lora: impossible" in ran.said
    before = tree(finished)
    ran = run(finished, "--dry-run", "--multipliers", "-1", "7")
    assert tree(finished) == before
    assert "2 already there" in ran.said
    assert "apply split vector m7.0: to do" in ran.said
    changed = run(finished, "--dry-run", settings={"lr": 0.01})
    assert "again since hyper_parameters changed" in changed.said
    assert "apply split vector m1.0: to do: in" in changed.said
    assert "already there" not in changed.said


def test_impossible_and_missing_combinations_are_said_and_fail_alone(tmp_path):
    base = base_dir(tmp_path)
    before = tree(base)
    ran = run(base, method="caa", intervention="lora")
    assert ran.status == 1
    assert "caa lora: impossible: caa is a difference of means" in ran.said
    ran = run(base, method="spilt", mode="apply")
    assert ran.status == 1
    assert "apply split vector m1.0: missing: nothing was made in" in ran.said
    assert {name: c for name, c in tree(base).items() if not name.startswith("runs/")} == before
    ran = run(base, method="caa", intervention="all")
    assert ran.status == 0
    assert "2 done, 2 impossible" in ran.said
    # Beside what is there, what is missing does not fail.
    ran = run(base, method="all", mode="apply")
    assert ran.status == 0
    assert "1 already there, 3 missing" in ran.said


def test_the_model_is_loaded_once_for_everything(tmp_path, monkeypatch):
    loaded, real = [], models.load
    monkeypatch.setattr(models, "load", lambda *a, **k: loaded.append(a) or real(*a, **k))
    short = {"max_new_tokens": 1, "batch_size": 6}
    ran = run(base_dir(tmp_path), method="all", intervention="all", settings=short)
    assert ran.status == 0
    assert "20 done, 2 impossible" in ran.said
    assert len(loaded) == 1


def test_a_changed_vector_has_its_texts_written_anew(tmp_path):
    base = base_dir(tmp_path)
    run(base)
    path = base / VECTOR
    (files.load(path) * 40.0).save(path)
    ran = run(base, mode="apply")
    assert "again, since intervention changed" in ran.said
    # It is no longer what was made: the same call makes it again, and then the texts.
    ran = run(base)
    assert "generate split vector: again, since" in ran.said
    assert ran.said.count("done:") == 2


def test_what_a_run_did_not_make_is_not_written_over(tmp_path):
    base = base_dir(tmp_path)
    path = base / VECTOR
    path.parent.mkdir(parents=True)
    path.write_bytes(b"somebody's")
    ran = run(base, mode="generate")
    assert ran.status == 1
    assert "holds files that no run made, and nothing is written over them" in ran.said
    assert path.read_bytes() == b"somebody's"
    ran = run(base, mode="apply")
    assert ran.status == 1
    assert "failed" in ran.said


def test_one_failure_leaves_the_others(tmp_path, monkeypatch):
    base, real = base_dir(tmp_path), making.make

    def make(work, job, causes):
        if job.combination.form == "lora":
            raise RuntimeError("out of memory, say")
        return real(work, job, causes)

    monkeypatch.setattr(making, "make", make)
    ran = run(base, intervention="all")
    assert ran.status == 1
    assert "generate split lora: failed: out of memory, say" in ran.said
    assert "apply split lora m1.0: missing" in ran.said
    assert "4 done, 1 missing, 1 failed" in ran.said


@pytest.mark.parametrize("layout", ["workbench", "easyedit"])
def test_after_a_failure_what_was_there_before_is_not_applied(tmp_path, layout):
    base, how = base_dir(tmp_path), {"intervention": "local_weight", "layout": layout}
    assert run(base, **how).status == 0
    diverging = {"settings": {"lr": 3e37, "seed": 5}, **how}
    ran = run(base, **diverging)
    assert ran.status == 1
    assert "generate split local_weight: failed: the loss is" in ran.said
    assert (
        "apply split local_weight m1.0: missing: it was to be made anew, which failed" in ran.said
    )
    ran = run(base, mode="apply", **diverging)
    assert ran.status == 1
    assert "m1.0: missing: the making of what" in ran.said
    assert "was begun and not finished" in ran.said
    assert run(base, **how).status == 0  # as it was
    assert run(base, mode="apply", **how).status == 0


def test_what_is_anothers_is_not_applied_where_it_was_to_be_made(tmp_path):
    base = base_dir(tmp_path)
    run(base, mode="generate")
    (base / VECTOR).with_name("run.json").unlink()
    for words in ((), ("--dry-run",)):
        ran = run(base, *words)
        assert ran.status == 1
        assert "1 missing, 1 failed" in ran.said
    assert "1 done" in run(base, mode="apply").said


def test_exports_for_other_tools(finished, tmp_path):
    gguf = run(finished, "--export", "gguf", mode="apply")
    assert gguf.status == 0
    back = formats.load_gguf(finished / "exports/tiny/split/choice/split_vector/gguf/vector.gguf")
    assert torch.equal(back.directions[1], files.load(finished / VECTOR).directions[1])
    base = base_dir(tmp_path)
    ran = run(
        base, "--export", "peft", "--export", "gguf", "--multipliers", "0.5", "2", mode="generate",
        intervention="lora",
    )  # fmt: skip
    assert ran.status == 0
    assert "3 done, 1 impossible" in ran.said
    folder = base / "exports/tiny/split/choice/split_lora/peft_m2.0"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 4)
    lora = LoRA.load(base / "vectors/tiny/split/choice/split_lora/intervention.safetensors")
    tensors = load_file(folder / "adapter_model.safetensors")
    a, b = (next(t for n, t in tensors.items() if f"lora_{side}" in n) for side in "AB")
    torch.testing.assert_close((b @ a).T, 2.0 * lora.delta(1)[0])


def test_several_answers_a_prompt_and_texts_are_shared_by_noise(tmp_path):
    how = {"num_responses": 3, "temperature": 1.0, "max_new_tokens": 8}
    path, found = f"{GENERATED}/m1.0/choice_results.json", []
    for size in (2, 9):
        base = base_dir(tmp_path / str(size))
        run(base, settings=how | {"generation_batch_size": size})
        found.append(easyedit.load_results(base / path))
    assert found[0] == found[1]
    assert [len(row["pred"]) for row in found[0]] == [3, 3, 3]
    assert len({text for row in found[0] for text in row["pred"]}) > 3
    # Neither how many are written at once nor how many concepts there may be is a reason to
    # do it again.
    ran = run(base, settings=how | {"generation_batch_size": 1, "max_concepts": 9})
    assert "2 already there" in ran.said


def test_a_chat_model_reads_questions_as_a_users(tmp_path):
    base = base_dir(tmp_path)
    ran = run(base, settings={"use_chat_template": True, "system_prompt": "Be kind."})
    assert ran.status == 0
    (row, *_) = easyedit.load_results(base / GENERATED / "m1.0/choice_results.json")
    assert row["complete_output"][0].startswith("<|system|>Be kind.<|end|><|user|>Well. ")
    assert row["input"].startswith("Well. ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "dpo"], "method 'dpo' is unknown; choose one of caa, reps, sft, split, all"),
        (["--intervention", "matrix"], "intervention_method 'matrix' is unknown; choose one of"),
        (["--mode", "train"], "mode 'train' is unknown; choose one of generate, apply, both, loss"),
        (["--layout", "other"], "layout 'other' is unknown; choose one of workbench, easyedit"),
        (["--export", "onnx"], "export 'onnx' is unknown"),
        (["--split", "dev"], "split 'dev' is unknown"),
        (["--bad-pairs", "mend"], "bad_pairs 'mend' is unknown"),
        (["--dataset", "../choice"], "dataset '../choice' is no name of a folder"),
        (["--dataset", ".."], "dataset '..' is no name of a folder"),
        (["--multipliers", "nan"], r"multipliers [nan]: give finite numbers"),
        (["--seed", "-1"], "seed -1: give a whole number"),
        (["--shard", "3/2"], "shard '3/2': give i/n with i from 1 to n"),
        (["--shard", "0/2"], "shard '0/2'"),
        (["--dataset", "axbench", "--mode", "loss"], "mode 'loss' is not there for the dataset"),
        (["--multipliers", "1", "two"], "unexpected extra argument"),
        (["--modle", "x"], "No such option"),
    ],
)
def test_wrong_options_are_named_with_what_is_known(tmp_path, words, message):
    line = ["--dataset", "choice", "--method", "split", "--intervention", "vector"]
    ran = command("run", *line, "--model", "tiny", "--base_dir", tmp_path, *words)
    assert ran.status == 2
    assert message in ran.said
    assert not any(tmp_path.iterdir())


def test_the_reference_s_line_is_understood(finished):
    line = (
        "run --dataset choice --method spilt --model_name tiny --intervention_method vector "
        "--mode both --multipliers -1 0 1.5 --device cpu --dry_run"
    )
    chosen = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    ran = command(*line.split(), "--base_dir", finished, *chosen)
    assert ran.status == 0
    assert "4 already there" in ran.said


def test_a_missing_model_or_data_set_is_said_before_work(tmp_path):
    base = base_dir(tmp_path)
    ran = run(base, dataset="chioce")
    assert ran.status == 2
    assert "no data set 'chioce': there is no train.jsonl" in ran.said
    assert "wren-power" in ran.said
    ran = run(base, model="./nowhere")
    assert ran.status == 1
    assert "no model './nowhere'" in ran.said
    assert not (base / "runs").exists()


def test_a_setting_that_cannot_be_used_is_a_wrong_option(tmp_path):
    base = base_dir(tmp_path)
    for words, message in (
        ("lr", "set 'lr': give key=value"),
        ("learning=1", "unknown hyper-parameter 'learning'"),
    ):
        ran = run(base, "--set", words)
        assert ran.status == 2
        assert message in ran.said


def test_multipliers_with_commas_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ran = run(base_dir(tmp_path), "--multipliers", "0,5")
    assert ran.status == 2
    assert "such as --multipliers 0 5" in " ".join(ran.said.split())


def test_multipliers_beyond_the_training_are_said_first(tmp_path):
    base = base_dir(tmp_path)
    wide = {"steering_factors": "[2.0, 20.0]"}
    ran = run(base, "--dry_run", settings=wide)
    assert "split vector is trained at coefficients from 2 to 20" in ran.said
    assert "(1): give others, such as --multipliers 0 2 20" in ran.said
    for words in (("0",), ("0", "-5"), ("1", "2")):
        said = run(base, "--dry_run", "--multipliers", *words, settings=wide).said
        assert "is trained at" not in said


def test_names_as_folders():
    def folder(name: str) -> str:
        return Options("d", "split", name, "vector").model_folder

    assert folder("wren") == "wren"
    assert folder("owner/name") == "owner--name"
    assert folder(str(Path(__file__).parent)) == "tests"


def test_help_says_how(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = " ".join(command("run", "--help").said.split())
    for part in (
        "wren-power --method split",
        "arXiv 2602.02343",
        "run.json",
        "Exit status",
        "--shard",
        "axbench",
    ):
        assert part in said
    assert "workbench merge DIR" in " ".join(command("merge", "--help").said.split())
