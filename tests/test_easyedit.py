"""EasyEdit's files: written and read back, read as others wrote them, refused when they are not."""

import json
import pickle

import pandas as pd
import pytest
import torch
from made_up import made_up
from outside import SHARED
from test_forms import make

from workbench.training import easyedit
from workbench.vectors.steering_vector import SteeringVector

GOLDEN = SHARED / "golden" / "4_easyedit"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers missing: {GOLDEN}")
FORMS = ("vector", "lora", "local_weight")


def result(lm, form):
    return made_up(lm, trait="t") if form == "vector" else make(lm, form, (0, 2))


def same(one, other) -> bool:
    if isinstance(one, SteeringVector):
        return all(torch.equal(one.directions[k], other.directions[k]) for k in one.layers)
    return all(
        torch.equal(a, b)
        for layer in one.layers
        for a, b in zip(one.delta(layer), other.delta(layer), strict=True)
        if a is not None
    )


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_comes_back_with_where_it_came_from(tiny, tmp_path, form):
    own = result(tiny, form)
    files = easyedit.save_layers(own, tmp_path, concept="power", concept_id=7)
    assert sorted(path.name for path in files) == sorted(
        name for k in own.layers for name in (f"layer_{k}.pt", f"metadata_layer_{k}.jsonl")
    )
    back = easyedit.load_layers(tmp_path, form, concept_id=7)
    assert type(back) is type(own)
    assert same(own, back)
    assert (back.model, back.fingerprint, back.method) == (own.model, own.fingerprint, own.method)
    assert dict(back.provenance) == dict(own.provenance)
    if isinstance(own, SteeringVector):
        assert back.residual_norm == own.residual_norm
    note = json.loads((tmp_path / f"metadata_layer_{own.layers[0]}.jsonl").read_text())
    assert (note["concept_id"], note["concept"], note["ref"]) == (7, "power", "vector_index_0")
    wrong = "lora" if form == "vector" else "vector"
    with pytest.raises(ValueError, match=f"holds .*, not a {wrong}"):
        easyedit.load_layers(tmp_path, wrong)


def test_files_have_the_shapes_that_easyedit_reads(tiny, tmp_path):
    read = {}
    for form in FORMS:
        own = result(tiny, form)
        easyedit.save_layers(own, tmp_path / form)
        path = tmp_path / form / f"layer_{own.layers[0]}.pt"
        read[form] = torch.load(path, weights_only=True)
    assert read["vector"].shape == (32,)
    assert set(read["lora"]) >= {"lora_A", "lora_B", "r", "alpha", "intervention_components"}
    assert read["lora"]["lora_A"].shape == (64, read["lora"]["r"])
    assert read["lora"]["lora_B"].shape == (read["lora"]["r"], 32)
    assert read["local_weight"]["weight"].shape == (64, 32)
    assert read["local_weight"]["bias"].shape == (32,)


def test_a_file_of_several_concepts_gives_the_one_that_is_asked_for(tmp_path):
    rows = torch.arange(12.0).reshape(3, 4)
    torch.save(rows.to(torch.bfloat16), tmp_path / "layer_20.pt")
    vector = easyedit.load_layers(tmp_path, "vector", concept_id=2, model="big")
    assert vector.layers == (20,)
    assert vector.model == "big"
    assert vector.origin is None
    assert vector.directions[20].tolist() == [8, 9, 10, 11]
    with pytest.raises(ValueError, match="has no concept 3: it has 0 to 2"):
        easyedit.load_layers(tmp_path, "vector", concept_id=3)
    # The metadata say which row is whose, in the order in which they were trained.
    notes = [{"concept_id": 40 + i, "ref": f"vector_index_{i}"} for i in range(3)]
    text = "".join(json.dumps(note) + "\n" for note in notes)
    (tmp_path / "metadata_layer_20.jsonl").write_text(text)
    vector = easyedit.load_layers(tmp_path, "vector", concept_id=41)
    assert vector.directions[20].tolist() == [4, 5, 6, 7]
    with pytest.raises(ValueError, match=r"has no concept 1: it has \[40, 41, 42\]"):
        easyedit.load_layers(tmp_path, "vector", concept_id=1)


class _Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_what_is_not_read(tiny, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"no layer_<number>\.pt"):
        easyedit.load_layers(tmp_path, "vector")
    with pytest.raises(ValueError, match="form 'matrix' is unknown"):
        easyedit.load_layers(tmp_path, "matrix")
    (tmp_path / "layer_1.pt").write_bytes(pickle.dumps(_Evil(), protocol=2))
    with pytest.raises(ValueError, match="is not plain tensors"):
        easyedit.load_layers(tmp_path, "vector")
    assert "ran" not in capsys.readouterr().out
    torch.save({"lora_A": torch.ones(3, 2), "lora_B": torch.ones(4, 5)}, tmp_path / "layer_1.pt")
    with pytest.raises(ValueError, match="the same r"):
        easyedit.load_layers(tmp_path, "lora")
    torch.save(torch.ones(4, dtype=torch.long), tmp_path / "layer_1.pt")
    with pytest.raises(ValueError, match="holds Tensor, not a vector"):
        easyedit.load_layers(tmp_path, "vector")
    torch.save(torch.ones(4), tmp_path / "layer_1.pt")
    (tmp_path / "metadata_layer_1.jsonl").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        easyedit.load_layers(tmp_path, "vector")


def test_results_are_a_list_that_comes_back(tmp_path):
    rows = [
        {
            "input": "Q?",
            "orig_pred": [],
            "pred": ["é", ""],
            "reference_response": "a",
            "complete_output": ["Q?é", "Q?"],
        }
    ]
    path = tmp_path / "deep" / "x_results.json"
    easyedit.save_results(rows, path)
    assert easyedit.load_results(path) == rows
    assert list(json.loads(path.read_text())[0]) == list(easyedit.RESULT_KEYS)
    path.write_text('{"input": 1}')
    with pytest.raises(ValueError, match="holds no list of results"):
        easyedit.load_results(path)
    path.write_text('[{"input": 1}]')
    with pytest.raises(ValueError, match="result 0 lacks 'pred'"):
        easyedit.load_results(path)


def test_losses_are_replaced_and_those_of_the_reference_are_read(tmp_path):
    path = tmp_path / "train_losses.csv"
    easyedit.save_losses([1.5, 2.5], 0.2, path)
    easyedit.save_losses([3.0], -0.4, path)
    frame = easyedit.load_losses(path)
    assert frame.to_dict("list") == {"epoch": [0], "step": [0], "loss": [3.0], "factor": [-0.4]}
    theirs = 'epoch,step,pos_steer_loss,pos_steering_factors,neg_steering_factors\n0,0,2.25,"tensor'
    path.write_text(theirs + "([0.2000, 0.2000], device='cuda:0')\",x\n")
    assert easyedit.load_losses(path)["factor"].tolist() == [0.2]
    pd.DataFrame({"step": [1]}).to_csv(path)
    with pytest.raises(ValueError, match="no column 'epoch'"):
        easyedit.load_losses(path)


@needs_golden
@pytest.mark.parametrize("form", FORMS)
def test_files_that_the_reference_wrote(stories, form):
    made = easyedit.load_layers(GOLDEN / f"spilt_{form}", form)
    assert made.layers == (2,)
    made.check(stories)
    content = torch.load(GOLDEN / f"spilt_{form}" / "layer_2.pt", weights_only=True)
    if form == "vector":
        assert torch.equal(made.directions[2], content)
    elif form == "lora":
        assert torch.allclose(made.delta(2)[0], content["lora_A"] @ content["lora_B"])
    else:
        assert torch.equal(made.delta(2)[0], content["weight"])
        assert torch.equal(made.delta(2)[1], content["bias"])


@needs_golden
def test_files_of_several_concepts_that_the_reference_wrote():
    folder = GOLDEN / "spilt_vector_multi_concept"
    content = torch.load(folder / "layer_2.pt", weights_only=True)
    second = easyedit.load_layers(folder, "vector", concept_id=1)
    assert torch.equal(second.directions[2], content[1])
    folder = GOLDEN / "spilt_lora_multi_concept"
    lora = easyedit.load_layers(folder, "lora", concept_id=3)
    content = torch.load(folder / "layer_2.pt", weights_only=True)[3]
    assert torch.equal(lora.changes[2].a, content["lora_A"])
    with pytest.raises(ValueError, match=r"has no concept 1: it has \[0, 3\]"):
        easyedit.load_layers(folder, "lora", concept_id=1)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="public test data missing")
def test_a_published_vector_is_read(tmp_path):
    (tmp_path / "layer_24.pt").symlink_to(SHARED / "data" / "easyedit" / "sentiment.pt")
    vector = easyedit.load_layers(tmp_path, "vector", model="gemma")
    assert vector.width == 3584
