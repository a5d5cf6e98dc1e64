"""Loss mode: the losses are those of the vector that is loaded, and of nothing at m = 0."""

import numpy as np
import pandas as pd
import pytest
import torch
from run_cli import base_dir, run, tree
from test_train import CHOICE

from workbench.forward import tracing
from workbench.runs import losing
from workbench.runs.layouts import raw
from workbench.text.tokens import encode
from workbench.training import easyedit
from workbench.training.examples import completion_logprobs, make_examples
from workbench.vectors import files
from workbench.vectors.forms import LocalWeight, LoRA

MADE = "vectors/tiny/split/choice/split_vector/intervention.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    base = base_dir(tmp_path_factory.mktemp("made"))
    assert run(base, mode="generate", intervention="all").status == 0
    return base


def losses(base, m, form="vector") -> pd.DataFrame:
    path = base / f"losses/tiny/split/choice/split_{form}/m{m}/losses.csv"
    return pd.read_csv(path)


def by_hand(lm, interventions) -> np.ndarray:
    """(n, 2) losses of both answers, nats, by another path than that of log-odds."""
    sides = make_examples(lm, CHOICE, sub=False, reference=False).sides
    with torch.no_grad():
        found = -completion_logprobs(lm, sides, interventions)
    return found.reshape(-1, 2).numpy()


@pytest.mark.parametrize("form", ["vector", "lora", "local_weight"])
def test_the_losses_are_those_of_what_is_loaded(made, tiny, form):
    ran = run(made, "--multipliers", "-1", "0", "2", mode="loss", intervention=form)
    assert ran.status == 0, ran.said
    path = made / f"vectors/tiny/split/choice/split_{form}/intervention.safetensors"
    load = {"vector": files.load, "lora": LoRA.load, "local_weight": LocalWeight.load}[form]
    result = load(path)
    for m in (-1.0, 0.0, 2.0):
        frame = losses(made, m, form)
        expected = by_hand(tiny, raw(result, m) if m else ())
        found = frame[["loss_positive", "loss_negative"]].to_numpy()
        assert found == pytest.approx(expected, abs=1e-4)
        assert (frame["m"] == m).all()


def test_another_vector_in_its_place_has_other_losses(made):
    run(made, "--multipliers", "0", "2", mode="loss")
    before = {m: losses(made, m) for m in (0.0, 2.0)}
    path = made / MADE
    content = path.read_bytes()
    (files.load(path) * -3.0).save(path)
    ran = run(made, "--multipliers", "0", "2", mode="loss")
    assert ran.said.count("again, since intervention changed") == 2
    assert not np.allclose(losses(made, 2.0)["loss_positive"], before[2.0]["loss_positive"])
    # At m = 0 it makes no difference, to the last bit.
    assert losses(made, 0.0).equals(before[0.0])
    path.write_bytes(content)
    run(made, "--multipliers", "0", "2", mode="loss")
    assert losses(made, 2.0).equals(before[2.0])


def test_zero_is_the_unsteered_model_exactly(made, tiny):
    run(made, "--multipliers", "0", "0.7", mode="loss")
    zero, steered = losses(made, 0.0), losses(made, 0.7)
    for side in ("positive", "negative"):
        assert (zero[f"loss_{side}"] == zero[f"unsteered_{side}"]).all()
        assert (steered[f"unsteered_{side}"] == zero[f"loss_{side}"]).all()
    prompts = [prompt for pair in CHOICE for prompt in pair.prompts]
    batch = encode(tiny, prompts, [t for pair in CHOICE for t in (pair.positive, pair.negative)])
    plain = -tracing.logprobs(tiny, batch).nansum(dim=1).reshape(-1, 2).numpy()
    assert zero[["loss_positive", "loss_negative"]].to_numpy() == pytest.approx(plain, abs=1e-4)
    assert zero["preference"].to_numpy() == pytest.approx(plain[:, 1] - plain[:, 0], abs=1e-4)


@pytest.mark.parametrize("layout", ["workbench", "easyedit"])
def test_runs_replace_and_never_append(tmp_path, layout):
    base = base_dir(tmp_path)
    run(base, mode="generate", layout=layout)
    run(base, "--multipliers", "0.3", mode="loss", layout=layout)
    own = {name: text for name, text in tree(base).items() if name.endswith("losses.csv")}
    assert len(own) == (2 if layout == "easyedit" else 1)
    for name, text in own.items():
        assert len(text.splitlines()) == 1 + len(CHOICE)
        (base / name).write_bytes(text + text)  # as if a former run were still in it
    ran = run(base, "--multipliers", "0.3", mode="loss", layout=layout)
    assert "again, since" in ran.said
    assert all(tree(base)[name] == text for name, text in own.items())


def test_losses_on_held_out_pairs(made):
    ran = run(made, "--split", "test", mode="loss")
    assert ran.status == 0
    assert "again, since pairs, split changed" in ran.said or "done" in ran.said
    assert len(losses(made, 1.0)) == 3
    run(made, mode="loss")
    assert len(losses(made, 1.0)) == 6


def test_prompts_without_answers_have_no_losses(tmp_path):
    base = base_dir(tmp_path)
    (base / "data/choice/test.jsonl").write_text('{"question": "Who?"}\n')
    run(base, mode="generate")
    ran = run(base, "--split", "test", mode="loss")
    assert ran.status == 1
    assert "come without both sides, so there are no losses on them; use --split train" in ran.said


def test_easyedit_s_folders_hold_the_same_losses(tmp_path, tiny):
    base = base_dir(tmp_path)
    run(base, mode="generate", layout="easyedit")
    ran = run(base, "--multipliers", "-1", "0.2", mode="loss", layout="easyedit")
    assert ran.status == 0
    folder = base / "vectors/tiny/get_sft_loss/spilt/choice/spilt_vector"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"vector_spilt_m{m}_{side}"
        for m in ("-1.0", "0.2")
        for side in ("losing_only", "winning_only")
    ]
    made = easyedit.load_layers(base / "vectors/tiny/spilt/choice/spilt_vector", "vector")
    sides = make_examples(tiny, CHOICE, sub=False, reference=False)
    with torch.no_grad():
        found = -completion_logprobs(tiny, sides.sides, raw(made, 0.2)) / sides.tokens
    for side, own in (("winning_only", found[::2]), ("losing_only", found[1::2])):
        frame = easyedit.load_losses(folder / f"vector_spilt_m0.2_{side}" / "train_losses.csv")
        assert frame["loss"].to_numpy() == pytest.approx(own.numpy(), abs=1e-4)
        assert frame["factor"].tolist() == [0.2] * 6
        log = (folder / f"vector_spilt_m0.2_{side}" / "train.log").read_text()
        assert f"m 0.2, {side}" in log
        assert f"mean {own.mean():.3f}" in log


def test_a_cut_reading_goes_on_where_it_was(tmp_path, monkeypatch):
    base = base_dir(tmp_path)
    run(base, mode="generate")
    monkeypatch.setattr(losing, "_PIECE", 2)
    real, calls = losing.odds, []

    def odds(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("cut")
        return real(*args, **kwargs)

    monkeypatch.setattr(losing, "odds", odds)
    assert run(base, mode="loss").status == 1
    assert run(base, mode="loss").status == 0
    assert len(calls) == 4  # one, one that was cut, and the two that were left
    whole = losses(base, 1.0)
    assert whole["pair"].tolist() == list(range(6))
    assert not [name for name in tree(base) if "unfinished" in name]
