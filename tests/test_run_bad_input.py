"""Bad input through `workbench run`: each kind is found, named, and kept from spoiling the rest."""

import json
import math

import pandas as pd
import pytest
import torch
from run_cli import base_dir, run, tree, write_rows
from test_train import SENTENCES

from workbench.contrast import pairs
from workbench.loading import models
from workbench.runs import checking
from workbench.training import minibatch as training
from workbench.training.train import loss_history
from workbench.vectors import files

ROWS = [{"question": q, "matching": p, "not_matching": n} for q, p, n in SENTENCES]
FOLDER = "vectors/tiny/split/choice/split_vector"


def turned(row: dict) -> dict:
    return row | {"matching": row["not_matching"], "not_matching": row["matching"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROWS[0] | {"not_matching": ""}, "row 6: unpaired: 'not_matching' is ''"),
        ({"question": "Who?", "matching": " I"}, "row 6: unpaired: 'not_matching' is None"),
        (ROWS[0] | {"not_matching": ROWS[0]["matching"]}, "row 6: identical pair"),
        (turned(ROWS[2]), "pairs 2 and 6 of 'choice' contradict each other"),
    ],
)
def test_unpaired_and_turned_rows(tmp_path, row, message):
    base = base_dir(tmp_path, [*ROWS, row])
    before = tree(base)
    ran = run(base)
    assert ran.status == 1
    assert message in ran.said
    assert tree(base) == before
    ran = run(base, "--bad-pairs", "skip", mode="generate")
    assert ran.status == 0
    assert "left out" in ran.said
    kept = 5 if "contradict" in message else 6
    assert files.load(base / FOLDER / "intervention.safetensors").provenance["made_from"] == kept


def test_an_answer_without_tokens(tmp_path, monkeypatch):
    """Such as a lone variation selector, of which some tokenizers make nothing."""
    real = checking.encode

    def encode(lm, prompts, texts=None, **how):
        silent = texts is not None and texts[0] == SENTENCES[3][1]
        return real(lm, prompts, [(), texts[1]] if silent else texts, **how)

    monkeypatch.setattr(checking, "encode", encode)
    base = base_dir(tmp_path)
    ran = run(base)
    assert ran.status == 1
    said = "1 of 6 pairs of 'choice' cannot be read by 'tiny': pair 3: the tokenizer makes no token"
    assert said in ran.said
    assert "or leave them out (--bad-pairs skip)" in ran.said
    ran = run(base, "--bad-pairs", "skip")
    assert ran.status == 0
    assert "1 of 6 pairs of 'choice' are left out: pair 3" in ran.said


def test_pairs_that_are_too_long(tmp_path):
    long = {"question": "I am", "matching": " yes" * 200, "not_matching": " no"}
    base = base_dir(tmp_path, [*ROWS, long])
    ran = run(base)
    assert ran.status == 1
    assert "pair 6: a prompt of" in ran.said
    assert "tokens, over the 128 of" in ran.said
    assert "(--bad-pairs skip)" in ran.said
    ran = run(base, "--bad-pairs", "skip")
    assert ran.status == 0
    assert "1 of 7 pairs of 'choice' are left out: pair 6" in ran.said
    # The reference's limit leaves out what it would have cut off.
    ran = run(base, "--bad-pairs", "skip", settings={"output_length": 20})
    assert ran.status == 0
    assert "over the output_length 20" in ran.said


def test_prompts_that_leave_no_room_to_write(tmp_path):
    base = base_dir(tmp_path)
    with (base / "data/choice/test.jsonl").open("a") as file:
        file.write(json.dumps({"question": "Go on. " * 60}) + "\n")
    ran = run(base)
    assert ran.status == 1
    assert "generate split vector: done" in ran.said
    assert "apply split vector m1.0: failed: 1 of 4 prompts cannot be continued" in ran.said
    ran = run(base, "--bad-pairs", "skip", mode="apply")
    assert ran.status == 0
    assert "1 of 4 prompts are left out: prompt 3" in ran.said


def test_answers_of_one_token(tmp_path):
    letters = "abcdef"
    rows = [
        {"question": f"The letter {a}?", "matching": a, "not_matching": b}
        for a, b in zip(letters, letters[1:] + letters[0], strict=True)
    ]
    base = base_dir(tmp_path, rows)
    assert run(base, method="all", intervention="all").status == 0
    assert run(base, "--multipliers", "-1", "0", "1", mode="loss").status == 0
    for m in ("m-1.0", "m0.0", "m1.0"):
        frame = pd.read_csv(base / f"losses/tiny/split/choice/split_vector/{m}/losses.csv")
        assert (frame["tokens_positive"] == 1).all()
        assert frame["utility"].notna().all()
        # Of all tokens but these two, not one minus a sum that has no digits left.
        p = (-frame["loss_positive"]).map(math.exp) + (-frame["loss_negative"]).map(math.exp)
        expected = p.map(lambda both: math.log(both / (1 - both)))
        assert frame["utility"].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-3)


def test_a_partial_last_batch_is_trained_on(tmp_path):
    base = base_dir(tmp_path, ROWS[:5])
    assert run(base, mode="generate").status == 0
    made = files.load(base / FOLDER / "intervention.safetensors")
    # 5 pairs for either sign, in steps of 4: the last has 2.
    assert len(loss_history(made)) == 3
    assert made.provenance["made_from"] == 5


def test_steps_in_parts_are_the_same_steps(tmp_path):
    """Accumulated steps are forwards of one step, whatever the last batch holds."""
    calm = {"dropout": 0.0, "n_epochs": 2}
    made = []
    for folder, own in (
        ("whole", {"batch_size": 4, "gradient_accumulation_steps": 1}),
        ("parts", {"batch_size": 1, "gradient_accumulation_steps": 4}),
    ):
        base = base_dir(tmp_path / folder, ROWS[:5])
        assert run(base, mode="generate", settings=calm | own).status == 0
        made.append(files.load(base / FOLDER / "intervention.safetensors"))
    whole, parts = (loss_history(one) for one in made)
    assert len(parts) == len(whole) == 4
    assert parts["loss"].to_numpy() == pytest.approx(whole["loss"].to_numpy(), rel=1e-4)
    assert made[0].directions[1] == pytest.approx(made[1].directions[1], abs=1e-3)


def test_a_loss_that_is_no_number_names_step_and_batch_and_keeps_the_last_good(
    tmp_path, monkeypatch
):
    base = base_dir(tmp_path)
    whole, seen = training.completion_logprobs, []

    def burst(lm, batch, edits=()):
        seen.append(1)
        return whole(lm, batch, edits) * (math.nan if len(seen) == 8 else 1)

    monkeypatch.setattr(training, "completion_logprobs", burst)
    three = {"n_epochs": 3}
    ran = run(base, method="sft", intervention="all", settings=three)
    assert ran.status == 1
    assert "generate sft vector: failed: the loss is nan at step 7 (epoch 2), in a batch of" in (
        ran.said
    )
    assert "lower the learning rate (0.05) or the factors" in ran.said
    assert "apply sft vector m1.0: missing" in ran.said
    assert "generate sft lora: done" in ran.said
    (kept,) = base.glob("vectors/tiny/sft/choice/sft_vector/unfinished-*/intervention.safetensors")
    assert str(kept) in ran.said
    last = files.load(kept)
    assert last.provenance["steps"] == 6
    # Without the accident the same call goes on from there, to the vector of a run without one.
    ran = run(base, method="sft", settings=three)
    assert ran.status == 0
    assert not kept.exists()
    other = base_dir(tmp_path / "other")
    run(other, method="sft", settings=three)
    path = "vectors/tiny/sft/choice/sft_vector/intervention.safetensors"
    ours, theirs = (files.load(folder / path) for folder in (base, other))
    assert torch.equal(ours.directions[1], theirs.directions[1])
    assert loss_history(ours).equals(loss_history(theirs))


def test_a_rate_that_explodes(tmp_path):
    ran = run(base_dir(tmp_path), intervention="local_weight", settings={"lr": 3e37})
    assert ran.status == 1
    assert "failed: the loss is" in ran.said
    assert "lower the learning rate (3e+37)" in ran.said
    assert "0 done" not in ran.said


# ---- sides that are swapped ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded_wren():
    return models.load("wren")


@pytest.fixture
def wren(monkeypatch, loaded_wren):
    """The bundled model, loaded once for these tests."""
    monkeypatch.setattr(models, "load", lambda *_, **__: loaded_wren)


def wren_data(base, turn) -> None:
    """10 pairs of wren's language, some the wrong way round, as a file that says what they are."""
    own = pairs.load("wren-power")[:10]
    rows = [{"prompt": p.prompt, "positive": p.positive, "negative": p.negative} for p in own]
    rows = [
        row | {"positive": row["negative"], "negative": row["positive"]} if i in turn else row
        for i, row in enumerate(rows)
    ]
    about = {"name": "mine", "trait": "power", "model": "wren"}
    write_rows(base / "data/mine/train.jsonl", [about, *rows])


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (range(10), "positive and negative look swapped: of 10 pairs that the exact judge can"),
        ([3, 5], "2 of 10 pairs show 'power' more on their negative side, such as pair 3"),
        ([], None),
    ],
)
def test_swapped_sides_in_wren_s_language_are_told_exactly(tmp_path, wren, turn, message):
    wren_data(tmp_path, turn)
    how = {"dataset": "mine", "model": "wren", "method": "caa", "mode": "generate"}
    ran = run(tmp_path, **how)
    assert ran.status == 0
    assert ("look swapped" in ran.said) == bool(message)
    if message:
        assert message in ran.said


def test_few_swapped_pairs_answer_the_other_way_round(tmp_path, wren):
    """Without a judge: a vector of mostly right pairs moves the wrong ones the other way."""
    wren_data(tmp_path, [2, 9])
    path = tmp_path / "data/mine/train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))  # says no trait
    ran = run(tmp_path, dataset="mine", model="wren", method="caa", mode="generate")
    assert ran.status == 0
    assert "of 10 pairs answer the other way round, such as pair" in ran.said
    record = json.loads((tmp_path / "vectors/wren/caa/mine/caa_vector/run.json").read_text())
    assert "answer the other way round" in record["said"][0]


def test_test_pairs_that_are_swapped_against_those_trained_on(tmp_path, wren):
    wren_data(tmp_path, [])
    own = pairs.load("wren-power")[16:26]
    rows = [{"prompt": p.prompt, "positive": p.negative, "negative": p.positive} for p in own]
    write_rows(tmp_path / "data/mine/test.jsonl", rows)
    how = {"dataset": "mine", "model": "wren", "method": "caa"}
    run(tmp_path, mode="generate", **how)
    ran = run(tmp_path, "--split", "test", "--multipliers", "-0.5", "0.5", mode="loss", **how)
    assert ran.status == 0
    assert "positive and negative look swapped, in the pairs or in what is steered" in ran.said
