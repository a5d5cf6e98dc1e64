"""`--layout easyedit`: its folders and files, written, read back, and read as others made them."""

import json
import os
import shutil

import kills
import pytest
import torch
from outside import SHARED
from run_cli import base_dir, run, tree, write_rows

from workbench.training import easyedit

GOLDEN = SHARED / "golden" / "4_easyedit"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers missing: {GOLDEN}")


def test_a_whole_run_in_its_layout(tmp_path):
    base = base_dir(tmp_path)
    ran = run(base, intervention="all", layout="easyedit")
    assert ran.status == 0
    names = [name for name in tree(base) if not name.startswith(("data/", "runs/"))]
    for form in ("vector", "lora", "local_weight"):
        folder = f"vectors/tiny/spilt/choice/spilt_{form}"
        assert f"{folder}/layer_1.pt" in names
        assert f"{folder}/metadata_layer_1.jsonl" in names
        assert f"generation/tiny/spilt/choice/spilt_{form}/m1.0/choice_results.json" in names
    again = run(base, intervention="all", layout="easyedit")
    assert "6 already there" in again.said
    content = torch.load(
        base / "vectors/tiny/spilt/choice/spilt_vector/layer_1.pt", weights_only=True
    )
    assert content.shape == (32,)


def test_both_layouts_write_the_same_texts(tmp_path):
    base = base_dir(tmp_path)
    for layout in ("workbench", "easyedit"):
        assert run(base, "--multipliers", "1.5", layout=layout).status == 0
    ours, theirs = (
        easyedit.load_results(
            base / f"generation/tiny/{m}/choice/{m}_vector/m1.5/choice_results.json"
        )
        for m in ("split", "spilt")
    )
    assert ours == theirs


def test_a_layer_that_is_trained_no_more_is_gone(tmp_path):
    """Its file would be read, and steered, with the new one."""
    base = base_dir(tmp_path)
    run(base, layout="easyedit", mode="generate")
    ran = run(base, layout="easyedit", mode="generate", settings={"layers": "[2]"})
    assert "again, since hyper_parameters changed" in ran.said
    folder = base / "vectors/tiny/spilt/choice/spilt_vector"
    assert sorted(path.name for path in folder.iterdir()) == [
        "layer_2.pt", "metadata_layer_2.jsonl", "run.json",
    ]  # fmt: skip


def test_a_vector_of_others_is_applied_but_never_written_over(tmp_path):
    base = base_dir(tmp_path)
    folder = base / "vectors/tiny/spilt/choice/spilt_vector"
    folder.mkdir(parents=True)
    torch.save(torch.full((32,), 3.0), folder / "layer_1.pt")
    before = tree(base)
    ran = run(base, layout="easyedit", mode="apply")
    assert ran.status == 0
    ran = run(base, layout="easyedit", mode="generate")
    assert ran.status == 1
    assert "holds files that no run made" in ran.said
    path = "vectors/tiny/spilt/choice/spilt_vector/layer_1.pt"
    assert tree(base)[path] == before[path]


def test_losses_of_others_are_not_written_over(tmp_path):
    base, how = base_dir(tmp_path), {"layout": "easyedit", "mode": "loss"}
    run(base, layout="easyedit", mode="generate")
    folder = (
        base / "vectors/tiny/get_sft_loss/spilt/choice/spilt_vector/vector_spilt_m1.0_losing_only"
    )
    folder.mkdir(parents=True)
    path = folder / "train_losses.csv"
    path.write_text("somebody's")
    for words in (("--dry-run",), ()):
        ran = run(base, "--multipliers", "1", "0.5", *words, **how)
        assert ran.status == 1
        assert f"1 {'to do' if words else 'done'}, 1 failed" in ran.said
        assert f"{str(folder)!r} holds files that no run made" in ran.said
    assert path.read_text() == "somebody's"
    path.unlink()
    assert run(base, **how).status == 0
    assert "1 already there" in run(base, **how).said


def test_losses_that_a_kill_left_are_no_others(tmp_path):
    base, how = base_dir(tmp_path), {"layout": "easyedit", "mode": "loss"}
    run(base, layout="easyedit", mode="generate")
    for write in range(9):
        pid = kills.in_child(lambda: run(base, **how).status, die_at=write)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    assert "1 already there" in run(base, **how).said


def test_a_pickle_runs_nothing(tmp_path):
    base = base_dir(tmp_path)
    folder = base / "vectors/tiny/spilt/choice/spilt_vector"
    folder.mkdir(parents=True)
    (folder / "layer_1.pt").write_bytes(
        b"cposix\nsystem\n(S'touch " + str(base).encode() + b"/ran'\ntR."
    )
    ran = run(base, layout="easyedit", mode="apply")
    assert ran.status == 1
    assert (
        "is not plain tensors, and was not opened further because a pickle can run code" in ran.said
    )
    assert not (base / "ran").exists()


@needs_golden
@pytest.mark.parametrize("form", ["vector", "lora", "local_weight"])
def test_the_reference_s_vectors_write_the_reference_s_texts(tmp_path, stories, form):
    """Greedy tokens of EasyEdit's own intervention classes, at every multiplier on file."""
    base = tmp_path
    (base / "models").mkdir()
    (base / "models" / "stories260K").symlink_to(SHARED / "models" / "stories260K")
    folder = base / f"vectors/stories260K/spilt/probe/spilt_{form}"
    shutil.copytree(GOLDEN / f"spilt_{form}", folder)
    golden = [
        row for row in json.loads((GOLDEN / "apply_generations.json").read_text())
        if row["form"] == form
    ]  # fmt: skip
    prompts = list(dict.fromkeys(row["prompt"] for row in golden))
    write_rows(base / "data/probe/test.jsonl", [{"input": prompt} for prompt in prompts])
    values = sorted({row["multiplier"] for row in golden})
    ran = run(
        base, "--multipliers", *values, dataset="probe", model="stories260K", mode="apply",
        intervention=form, layout="easyedit",
        settings={"layers": "[2]", "max_new_tokens": 24, "do_sample": False},
    )  # fmt: skip
    assert ran.status == 0, ran.said
    compared = 0
    for row in golden:
        name = f"generation/stories260K/spilt/probe/spilt_{form}/m{row['multiplier']}"
        found = easyedit.load_results(base / name / "probe_results.json")
        own = next(one for one in found if one["input"] == row["prompt"])
        if row["min_margin"] > 1e-3:
            expected = stories.tokenizer.decode([*row["prompt_ids"], *row["new_ids"]])
            assert own["complete_output"] == [expected]
            compared += 1
    assert compared > len(golden) / 2
