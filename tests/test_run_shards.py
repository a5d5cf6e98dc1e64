"""Parts of a cluster: each does its own, and together they are the whole run."""

import json
import shutil

import pytest
from run_cli import base_dir, command, run, tree
from test_datasets import axbench
from test_run_stop import outputs

from workbench.runs.jobs import of_shard, plan
from workbench.runs.layouts import Layout
from workbench.runs.options import Options, Shard

ALL = {"method": "all", "intervention": "vector"}
QUICK = {"batch_size": 6, "max_new_tokens": 2}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A run of four vectors in three parts, each with a base directory of its own."""
    folder = tmp_path_factory.mktemp("parts")
    for index in (1, 2, 3):
        base = base_dir(folder / str(index))
        ran = run(base, "--shard", f"{index}/3", settings=QUICK, **ALL)
        assert ran.status == 0, ran.said
    return folder


def bases(parts, *which):
    return [parts / str(index) for index in which]


def test_every_unit_is_in_just_one_part(tmp_path):
    def jobs(mode, shard, **more):
        options = Options(
            "d", "all", "m", "all", mode=mode, multipliers=(0, 1, 2), shard=shard, **more
        )
        every = plan(options, Layout("workbench", tmp_path, "m", "d"), [None])
        return [job for job in every if not job.impossible], [
            job for job in of_shard(every, options) if not job.impossible
        ]

    for mode in ("both", "apply", "loss", "generate"):
        own = [jobs(mode, Shard(index, 4)) for index in range(1, 5)]
        taken = [job for _, part in own for job in part]
        assert sorted(map(str, taken)) == sorted(map(str, own[0][0]))
        sizes = [len(part) for _, part in own]
        assert max(sizes) - min(sizes) <= (4 if mode == "both" else 1)
        if mode == "both":
            for _, part in own:  # a vector and its texts stay together
                made = {job.combination for job in part if job.stage == "generate"}
                assert {job.combination for job in part} == made


def test_parts_put_together_are_the_whole(parts, tmp_path):
    whole = base_dir(tmp_path / "whole")
    run(whole, settings=QUICK, **ALL)
    target = tmp_path / "target"
    merged = command("merge", target, *bases(parts, 1, 2, 3))
    assert merged.status == 0, merged.said
    assert "8 of 8 jobs finished, in 3 part(s)" in merged.said
    own = {name: c for name, c in outputs(whole).items() if not name.startswith("data/")}
    assert outputs(target) == own
    again = command("merge", target, *bases(parts, 1, 2, 3))
    assert again.status == 0
    assert "0 files copied" in again.said
    # What was merged is a base directory like any other: the whole run finds all of it there.
    base_dir(target)
    ran = run(target, settings=QUICK, **ALL)
    assert "8 already there" in ran.said
    assert command("merge", target).status == 0


def test_a_part_that_is_missing_is_said(parts, tmp_path):
    merged = command("merge", tmp_path / "target", *bases(parts, 1, 3))
    assert merged.status == 1
    assert "missing: run" in merged.said
    assert "generate reps vector" in merged.said
    assert (tmp_path / "target/vectors/tiny/caa/choice/caa_vector/run.json").is_file()


def test_more_parts_than_units_is_no_failure(tmp_path):
    ran = run(base_dir(tmp_path), "--shard", "3/3")
    assert ran.status == 0
    assert "part 3/3 has no work: there are fewer units than parts" in ran.said
    assert "done" not in ran.said.replace("was done", "")


@pytest.mark.parametrize("mode", ["both", "apply"])
def test_a_part_without_work_is_a_part(tmp_path, mode):
    """Also one whose jobs are all missing, as where there is nothing to apply."""
    bases = [base_dir(tmp_path / str(index)) for index in (1, 2)]
    ran = [run(base, "--shard", f"{n}/2", mode=mode) for n, base in enumerate(bases, 1)]
    assert [one.status for one in ran] == ([0, 0] if mode == "both" else [1, 0])
    merged = command("merge", tmp_path / "target", *bases)
    assert f"{2 if mode == 'both' else 0} of" in merged.said
    assert merged.status == (0 if mode == "both" else 1)
    assert "in 2 part(s)" in merged.said


@pytest.mark.parametrize("what", [{}, {"method": "all", "intervention": "lora"}])
def test_parts_without_work_do_not_keep_what_was_done_again(tmp_path, what):
    base = base_dir(tmp_path)
    for shard in ("1/3", "2/3", "3/3"):
        run(base, "--shard", shard, **what)
    run(base, "--seed", "5", **what)
    merged = command("merge", base)
    assert "all of it was done again by a later run, so it is left out" in merged.said
    assert merged.status == 0


def copy(parts, tmp_path, index):
    shutil.copytree(parts / str(index), tmp_path / str(index), symlinks=True)
    return tmp_path / str(index)


def test_what_does_not_fit_is_refused_before_anything_is_copied(parts, tmp_path):
    def refused(message, *folders):
        ran = command("merge", tmp_path / "target", *folders)
        assert ran.status == 1
        assert message in ran.said
        assert not (tmp_path / "target").exists()

    empty = tmp_path / "empty"
    empty.mkdir()
    refused("holds no record of a run", *bases(parts, 1), empty)
    base = copy(parts, tmp_path, 1)
    (text,) = [
        base / name for name in tree(base) if name.endswith("caa_vector/m1.0/choice_results.json")
    ]
    before = text.read_bytes()
    text.write_bytes(before + b" ")
    refused("is missing or damaged: run its part again", base)
    text.write_bytes(before)
    (path,) = base.glob("runs/*/shard-1-of-3.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"weights": "f" * 64}))
    refused("used different model weights", base, *bases(parts, 2))
    job = next(iter(record["jobs"]))
    evil = {"status": "done", "said": "", "files": {"../2/data/choice/train.jsonl": "0" * 64}}
    path.write_text(json.dumps(record | {"jobs": record["jobs"] | {job: evil}}))
    refused("names a file outside it: '../2/data/choice/train.jsonl'", base)
    path.write_text("{}")
    refused("is no record of a run", base)


def test_two_parts_that_differ_and_a_target_that_differs(parts, tmp_path):
    base = base_dir(tmp_path / "seed")
    ran = run(base, "--shard", "1/3", settings=QUICK | {"seed": 5}, **ALL)
    assert ran.status == 0
    merged = command("merge", tmp_path / "target", base, *bases(parts, 1))
    assert merged.status == 1
    assert "two parts did the same work with other results" in merged.said
    target = tmp_path / "other"
    place = target / "vectors/tiny/caa/choice/caa_vector/run.json"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    merged = command("merge", target, *bases(parts, 1))
    assert merged.status == 1
    assert "is there and differs from" in merged.said
    assert place.read_text() == "mine"


def test_a_run_that_was_done_again_otherwise_is_left_out(parts, tmp_path):
    base = copy(parts, tmp_path, 1)
    run(base, settings=QUICK | {"seed": 5}, **ALL)
    merged = command("merge", base)
    assert merged.status == 0
    assert "all of it was done again by a later run, so it is left out" in merged.said
    assert "8 of 8 jobs finished" in merged.said
    # Beside its other parts it is one of which something is missing.
    merged = command("merge", tmp_path / "target", base, *bases(parts, 2, 3))
    assert merged.status == 1


def test_parts_on_a_shared_disk_need_no_copy(tmp_path):
    base = base_dir(tmp_path)
    run(base, "--shard", "1/2", settings=QUICK, **ALL)
    assert command("merge", base).status == 1
    run(base, "--shard", "2/2", settings=QUICK, **ALL)
    merged = command("merge", base)
    assert merged.status == 0
    assert "8 of 8 jobs finished" in merged.said


def test_concepts_are_units_of_their_own(tmp_path):
    base = base_dir(tmp_path)
    folder = base / "data/axbench"
    folder.mkdir()
    axbench(folder / "train.parquet")
    axbench(folder / "test.parquet")
    how = {"dataset": "axbench", "method": "caa"}
    first = run(base, "--shard", "1/2", **how)
    assert "generate caa vector of concept 0: done" in first.said
    assert "concept 3" not in first.said
    second = run(base, "--shard", "2/2", **how)
    assert "generate caa vector of concept 3: done" in second.said
    path = base / "generation/tiny/caa/axbench_concept_3/caa_vector/m1.0"
    rows = json.loads((path / "axbench_concept_3_results.json").read_text())
    assert [row["input"] for row in rows] == [f"Question 3.{i}?" for i in range(3)]
    ran = run(base, "--dry-run", settings={"max_concepts": 1}, **how)
    assert "concept 3" not in ran.said
