"""Our own files: what is saved comes back, and damaged or hostile ones are refused."""

import json
import pickle
import re
from importlib import import_module

import pytest
import torch
from pandas.testing import assert_frame_equal
from safetensors.torch import save_file
from test_vectors import vector

import workbench
from workbench.vectors import files
from workbench.vectors.steering_vector import SteeringVector


def test_save_and_load_are_exact(tmp_path):
    path = tmp_path / "mood.safetensors"
    made = vector()
    made.save(path)
    back = files.load(path)
    for layer in made.layers:
        assert torch.equal(back.directions[layer], made.directions[layer])
    assert back.residual_norm == made.residual_norm
    assert back.provenance == made.provenance
    assert (back.layer, back.model, back.fingerprint) == (2, "tiny", "f" * 64)
    assert_frame_equal(back.separation, made.separation)
    assert repr(back) == repr(made)


def test_damaged_and_hostile_files(tmp_path):
    path = tmp_path / "mood.safetensors"
    with pytest.raises(FileNotFoundError, match=r"no steering vector at"):
        files.load(path)
    vector().save(path)
    whole = path.read_bytes()
    for cut in (0, 4, 8, 60, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"not a readable safetensors file"):
            files.load(path)
    path.write_bytes(b"\xff" * 8 + whole[8:])  # a header as long as the universe
    with pytest.raises(ValueError, match=r"not a readable safetensors file"):
        files.load(path)
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"not a readable safetensors file"):
        files.load(path)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"direction.2": torch.ones(2)}, None, "holds no steering vector"),
        ({"direction.2": torch.ones(2)}, {"vector": "{"}, "damaged steering vector"),
        ({"direction.2": torch.ones(2)}, {"vector": "[]"}, "damaged steering vector"),
        ({"direction.2": torch.ones(2)}, {"vector": "{}"}, "damaged steering vector"),
        ({"../../x": torch.ones(2)}, {}, "unexpected tensor '../../x'"),
        ({"direction.0": torch.ones(2)}, {}, "no direction at the default layer 2"),
    ],
)
def test_safetensors_of_another_kind(tmp_path, tensors, metadata, message):
    path = tmp_path / "file.safetensors"
    if metadata is not None:
        about = json.dumps(files.describe(vector(separation=None)))
        metadata = {"format": "workbench.vector/1", "vector": about, **metadata}
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=re.escape(message)):
        files.load(path)


def test_the_imports_that_messages_name_exist(tmp_path):
    (tmp_path / "v.safetensors").write_bytes(b"no")
    messages = []
    for make in (
        lambda: vector(residual_norm={}).at(1.0),
        lambda: files.load(tmp_path / "v.safetensors"),
    ):
        with pytest.raises(ValueError, match="import") as caught:
            make()
        messages.append(str(caught.value))
    named = re.findall(r"from (\S+) import (\w+)", " ".join(messages))
    assert [name for _, name in named] == ["with_norms", "load_pt", "load_gguf", "load_svec"]
    assert all(callable(getattr(import_module(module), name)) for module, name in named)


def test_the_package_reads_back_what_it_saves(tmp_path):
    vector().save(tmp_path / "v.safetensors")
    read = workbench.files.load(tmp_path / "v.safetensors")
    assert torch.equal(read.directions[0], vector().directions[0])
    assert {"files", "formats"} <= set(workbench.__all__)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("v.pt", r"torch\.save"), ("v.GGUF", "import save_gguf"), ("v.svec", "import save_svec")],
)
def test_the_ending_of_another_format_is_refused(tmp_path, name, remedy):
    with pytest.raises(ValueError, match=rf"{name}'.* '\.safetensors'.*{remedy}"):
        vector().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_class_reads_back_what_it_saves(tmp_path):
    vector().save(tmp_path / "v")
    read = SteeringVector.load(tmp_path / "v")
    assert isinstance(read, SteeringVector)
    assert read.sha256 == vector().sha256
