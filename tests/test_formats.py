"""Vectors of other tools in and out; damaged and hostile files."""

import pickle
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from outside import SHARED
from pandas.testing import assert_frame_equal
from test_vectors import vector

from workbench.vectors import formats

GOLDEN = SHARED / "golden" / "1_repeng" / "vector_pca_diff.gguf"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"shared data missing: {SHARED}")


def test_gguf_round_trip_keeps_everything(tmp_path):
    formats.save_gguf(vector(), tmp_path / "v.gguf")
    back = formats.load_gguf(tmp_path / "v.gguf")
    assert all(torch.equal(back.directions[k], v) for k, v in vector().directions.items())
    assert back.residual_norm == vector().residual_norm
    assert back.provenance == vector().provenance
    assert_frame_equal(back.separation, vector().separation)


@pytest.mark.parametrize(
    "given", [{"layer": 2}, {"layer": 99}, {"model": "x"}, {"fingerprint": "f"}]
)
def test_gguf_of_ours_takes_no_other_word(tmp_path, given):
    formats.save_gguf(vector(), tmp_path / "v.gguf")
    ((name, value),) = given.items()
    with pytest.raises(ValueError, match=rf"is of this package .* {name}={value!r}"):
        formats.load_gguf(tmp_path / "v.gguf", **given)


def test_gguf_of_ours_in_repeng_and_back(tmp_path):
    repeng = pytest.importorskip("repeng", reason="repeng is not installed")
    formats.save_gguf(vector(), tmp_path / "ours.gguf")
    control = repeng.ControlVector.import_gguf(tmp_path / "ours.gguf")
    assert sorted(control.directions) == [0, 2]
    for layer, direction in vector().directions.items():
        assert np.array_equal(control.directions[layer], direction.numpy())
    assert control == formats.to_repeng(vector())
    control.export_gguf(tmp_path / "theirs.gguf")
    for back in (
        formats.load_gguf(tmp_path / "theirs.gguf", layer=0),
        formats.from_repeng(control, layer=0),
    ):
        assert back.layer == 0
        assert all(torch.equal(back.directions[k], v) for k, v in vector().directions.items())
        with pytest.raises(ValueError, match=r"unit='raw'"):
            back.at(1.0)


@needs_shared
def test_golden_gguf():
    from safetensors.torch import load_file

    golden = load_file(GOLDEN.with_name("directions_pca_diff.safetensors"))
    read = formats.load_gguf(GOLDEN)
    assert read.layers == (0, 1, 2, 3, 4)
    assert read.model == "llama"
    assert all(torch.equal(read.directions[k], golden[f"direction.{k}"]) for k in read.layers)


def test_damaged_gguf(tmp_path):
    path = tmp_path / "v.gguf"
    with pytest.raises(FileNotFoundError, match=r"no file at"):
        formats.load_gguf(path)
    formats.save_gguf(vector(), path)
    whole = path.read_bytes()
    unpadded = whole.rindex(vector().directions[2].numpy().tobytes()) + 8
    for cut in range(0, unpadded, 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"damaged GGUF|no GGUF|no tensor named"):
            formats.load_gguf(path)
    path.write_bytes(whole[:8] + b"\xff" * 16 + whole[24:])  # counts beyond any file
    with pytest.raises(ValueError, match=r"damaged GGUF"):
        formats.load_gguf(path)


def test_gguf_of_another_kind(tmp_path):
    def write(architecture: str, name: str, data: np.ndarray) -> Path:
        writer = gguf.GGUFWriter(tmp_path / "x.gguf", architecture)
        writer.add_string("controlvector.model_hint", "llama")
        writer.add_tensor(name, data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return tmp_path / "x.gguf"

    ones = np.ones(4, dtype=np.float32)
    with pytest.raises(ValueError, match=r"the architecture 'llama', not 'controlvector'"):
        formats.load_gguf(write("llama", "direction.1", ones))
    with pytest.raises(ValueError, match=r"unexpected tensor 'direction.x'"):
        formats.load_gguf(write("controlvector", "direction.x", ones))
    with pytest.raises(ValueError, match=r"no tensor named"):
        formats.load_gguf(write("controlvector", "other", ones))
    with pytest.raises(ValueError, match=r"stored as F64, expected F32 or F16"):
        formats.load_gguf(write("controlvector", "direction.1", ones.astype(np.float64)))
    half = formats.load_gguf(write("controlvector", "direction.1", ones.astype(np.float16)))
    assert torch.equal(half.directions[1], torch.ones(4))


def test_pt_shapes(tmp_path):
    path = tmp_path / "v.pt"
    torch.save(torch.arange(3.0).bfloat16(), path)
    assert torch.equal(formats.load_pt(path, layer=5).directions[5], torch.arange(3.0))
    with pytest.raises(ValueError, match=r"say which one with layer="):
        formats.load_pt(path)
    torch.save(torch.arange(3.0)[None], path)
    assert formats.load_pt(path, layer=1).layers == (1,)
    torch.save(torch.arange(6.0).reshape(2, 3), path)
    assert formats.load_pt(path).layers == (0, 1)
    torch.save({4: torch.ones(3), "7": torch.ones(1, 3)}, path)
    assert formats.load_pt(path, layer=7).layers == (4, 7)


def test_bad_pt(tmp_path):
    path = tmp_path / "v.pt"
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    def refused(content, message, **arguments):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            formats.load_pt(path, **arguments)

    refused(Trap(), "a pickle can run code")
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"a pickle can run code"):
        formats.load_pt(path)
    assert not ran.exists()
    refused([1.0], "holds list, expected a tensor")
    refused({"a": torch.ones(2)}, "keys that are not layers")
    refused({}, "not layer -> tensor")
    refused(torch.ones(2, 2, 2), r"shape \(2, 2, 2\)", layer=0)
    refused(torch.ones(2, dtype=torch.long), "int64", layer=0)
    refused(torch.tensor([float("nan")]), "not finite", layer=0)
    torch.save(torch.ones(1000), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"damaged|not plain tensors"):
        formats.load_pt(path, layer=0)
    with pytest.raises(FileNotFoundError, match=r"no file at"):
        formats.load_pt(tmp_path / "absent.pt")


@needs_shared
@pytest.mark.parametrize(
    ("name", "width"), [("bipo/vec_ep5_layer13.pt", 4096), ("easyedit/sentiment.pt", 3584)]
)
def test_public_pt(name, width):
    path = SHARED / "data" / name
    read = formats.load_pt(path, layer=13)
    assert read.width == width
    raw = torch.load(path, weights_only=True).float()
    assert torch.equal(read.directions[13], raw)
