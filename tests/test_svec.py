""".svec files in and out: the library's own, ours, damaged and hostile ones."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from outside import SHARED
from pandas.testing import assert_frame_equal
from safetensors.torch import load_file
from test_vectors import vector

from workbench.vectors.steering_vector import SteeringVector
from workbench.vectors.svec import load_svec, save_svec

GOLDEN = SHARED / "golden" / "2_cast"
PLAIN = {"model_type": "llama", "directions": {"0": [1.0, 2.0], "3": [0, -1.5]}}
PLAIN |= {"explained_variances": {"0": 0.5, "3": 0.25}}


def pca() -> SteeringVector:
    shares = {"method": "pca_center", "layers": {"0": 0.6, "2": 0.125}}
    known = {**vector().provenance, "model_type": "llama", "explained_variance": shares}
    return vector(method="pca_center", provenance=known)


def written(path, content):
    path.write_text(json.dumps(content))
    return path


def test_a_file_of_the_library(tmp_path):
    read = load_svec(written(tmp_path / "v.svec", PLAIN), layer=0)
    assert read.layers == (0, 3)
    assert read.directions[3].tolist() == [0.0, -1.5]
    assert (read.model, read.method, read.layer) == ("llama", "imported (svec)", 0)
    assert read.explained_variance == {0: 0.5, 3: 0.25}
    with pytest.raises(ValueError, match="unit='raw'"):
        read.at(1.0)
    assert load_svec(tmp_path / "v.svec").layer == 3
    without = {name: PLAIN[name] for name in ("model_type", "directions")}
    assert load_svec(written(tmp_path / "w.svec", without)).explained_variance == {}


def test_our_file_keeps_everything_and_is_the_librarys_too(tmp_path):
    made = pca()
    save_svec(made, tmp_path / "v.svec")
    back = load_svec(tmp_path / "v.svec")
    assert all(torch.equal(back.directions[k], v) for k, v in made.directions.items())
    assert (back.residual_norm, back.provenance) == (made.residual_norm, made.provenance)
    assert back.explained_variance == {0: 0.6, 2: 0.125}
    assert (back.layer, back.fingerprint, back.method) == (2, "f" * 64, "pca_center")
    assert_frame_equal(back.separation, made.separation)
    for given_too in ({"layer": 2}, {"model": "x"}, {"fingerprint": "f"}):
        with pytest.raises(ValueError, match="is of this package and knows its layer"):
            load_svec(tmp_path / "v.svec", **given_too)
    content = json.loads((tmp_path / "v.svec").read_text())
    assert content["model_type"] == "llama"
    assert content["directions"] == {"0": [3.0, 4.0], "2": [0.0, 1.0]}
    assert content["explained_variances"] == {"0": 0.6, "2": 0.125}
    # What is left when the library has loaded it and saved it again.
    kept = {name: content[name] for name in PLAIN}
    theirs = load_svec(written(tmp_path / "t.svec", kept))
    assert theirs.explained_variance == {0: 0.6, 2: 0.125}
    assert (theirs.fingerprint, theirs.residual_norm, theirs.separation) == ("", {}, None)


def test_a_vector_without_a_pca_has_no_explained_variance(tmp_path):
    save_svec(vector(), tmp_path / "v.svec")
    assert json.loads((tmp_path / "v.svec").read_text())["explained_variances"] == {}
    assert load_svec(tmp_path / "v.svec").explained_variance == {}


@given(arrays.arrays("float32", (2, 5), elements=st.floats(width=32, allow_nan=False,
                                                           allow_infinity=False)))  # fmt: skip
def test_every_number_comes_back_to_the_last_bit(tmp_path_factory, numbers):
    path = tmp_path_factory.getbasetemp() / "any.svec"
    rows = torch.from_numpy(numbers.copy())
    save_svec(vector(directions={0: rows[0], 2: rows[1]}), path)
    back = load_svec(path)
    assert torch.equal(torch.stack([back.directions[0], back.directions[2]]), rows)
    content = json.loads(path.read_text())
    del content["workbench.vector"]
    back = load_svec(written(path, content))
    assert torch.equal(torch.stack([back.directions[0], back.directions[2]]), rows)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"golden numbers missing: {GOLDEN}")
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("behavior", "tuple_suffixes.acc_suffix-only.pca_pairwise"),
        ("condition", "condition.acc_all.pca_pairwise"),
    ],
)
def test_files_that_the_library_wrote(name, key, tmp_path):
    read = load_svec(GOLDEN / f"{name}.svec")
    directions = load_file(GOLDEN / "directions.safetensors")
    shares = json.loads((GOLDEN / "explained_variances.json").read_text())[key]
    assert read.layers == (0, 1, 2, 3, 4)
    assert (read.model, read.layer) == ("llama", 2)
    for layer in read.layers:
        assert torch.equal(read.directions[layer], directions[f"{key}.layer_{layer}"])
        assert read.explained_variance[layer] == shares[str(layer)]
    save_svec(read, tmp_path / "v.svec")
    again, before = (
        json.loads(path.read_text()) for path in (tmp_path / "v.svec", GOLDEN / f"{name}.svec")
    )
    assert {key: again[key] for key in before} == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "it has no 'directions', but list"),
        ({"a": 1, "b": 2}, r"it has no 'directions', but \['a', 'b'\]"),
        (PLAIN | {"directions": {}}, "it has no direction of any layer"),
        (PLAIN | {"directions": [[1.0]]}, "its directions are list, expected layer -> values"),
        (PLAIN | {"directions": {"-1": [1.0]}}, "the layer '-1', expected a whole number"),
        (PLAIN | {"directions": {"1.5": [1.0]}}, "the layer '1.5', expected a whole number"),
        (PLAIN | {"directions": {"01": [1.0]}}, "the layer '01', expected a whole number"),
        (PLAIN | {"directions": {"9" * 5000: [1.0]}}, "expected a whole number"),
        (PLAIN | {"directions": {"0": []}}, r"the direction of layer 0 is \[\], expected a list"),
        (PLAIN | {"directions": {"0": "11"}}, "the direction of layer 0 is '11', expected a list"),
        (PLAIN | {"directions": {"0": [1, None]}}, "layer 0 holds None, no finite number"),
        (PLAIN | {"directions": {"0": [[1.0]]}}, r"layer 0 holds \[1.0\], no finite number"),
        (PLAIN | {"directions": {"0": [True]}}, "layer 0 holds True, no finite number"),
        (PLAIN | {"directions": {"0": [math.nan]}}, "layer 0 holds nan, no finite number"),
        (PLAIN | {"directions": {"0": [10**400]}}, "layer 0 holds 1000.*, no finite number"),
        (PLAIN | {"directions": {"0": [1e300]}}, "layer 0 has values that are not finite"),
        (PLAIN | {"directions": {"0": [1.0], "1": [1.0, 2.0]}}, r"of one width, got shapes"),
        (PLAIN | {"explained_variances": [0.5]}, "its explained_variances are list"),
        (PLAIN | {"explained_variances": {"0": "a"}}, "variance of layer 0 holds 'a', no finite"),
        (PLAIN | {"model_type": 3}, "its model_type is 3"),
        (PLAIN | {"workbench.vector": {}}, "its workbench.vector no text"),
        (PLAIN | {"workbench.vector": "{"}, "its workbench.vector key is damaged"),
        (PLAIN | {"workbench.vector": "{}"}, "its workbench.vector key is damaged"),
    ],
)
def test_other_contents_are_refused_by_name(tmp_path, content, message):
    path = written(tmp_path / "v.svec", content)
    with pytest.raises(ValueError, match=message) as caught:
        load_svec(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"\x80\x04", "decode"),
        (b'{"directions": {"0": [1.0', "Expecting"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"directions": {"0": [1.0], "0": [2.0]}}', "'0' stands twice in one object"),
    ],
)
def test_damaged_and_hostile_files(tmp_path, content, message):
    path = tmp_path / "v.svec"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_svec(path)


def test_files_that_are_missing_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no file at"):
        load_svec(tmp_path / "absent.svec")
    path = written(tmp_path / "v.svec", PLAIN)
    monkeypatch.setattr("workbench.vectors.svec._LARGEST", 10)
    with pytest.raises(ValueError, match=r"it has \d+ bytes, more than 10"):
        load_svec(path)
