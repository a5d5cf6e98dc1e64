"""Files are whole or not there, and what is read back is checked."""

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from workbench.support import store


def left_over(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.endswith(".part")]


def test_write_atomically(tmp_path):
    path = tmp_path / "new" / "file"
    store.write_atomically(path, b"one")
    store.write_atomically(path, lambda temporary: temporary.write_bytes(b"two"))
    assert path.read_bytes() == b"two"
    assert left_over(path.parent) == []
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"could not write .*No space left on device.*unchanged"):
        store.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert left_over(tmp_path) == []


def test_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def stop(temporary: Path):
        temporary.write_bytes(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_atomically(path, stop)
    assert path.read_bytes() == b"old"
    assert left_over(tmp_path) == []


def test_cached_computes_once_and_again_when_damaged(tmp_path):
    path = tmp_path / "cache.safetensors"
    calls = []

    def compute():
        calls.append(1)
        return {"values": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2).bfloat16()}

    def check(expected: int):
        found = store.cached(path, compute)
        assert torch.equal(found["values"], torch.arange(6.0).reshape(2, 3))
        assert torch.equal(found["half"], torch.ones(2).bfloat16())
        assert len(calls) == expected

    check(1)
    check(1)
    whole = path.read_bytes()
    for count, damaged in enumerate(
        (
            b"",
            whole[:5],
            whole[:-4],
            whole[:-1] + bytes([whole[-1] ^ 1]),  # one bit of one number
            b"\xff" * 200,
            b"\x80\x04cos\nsystem\n.",
        ),
        start=2,
    ):
        path.write_bytes(damaged)
        check(count)
    check(7)


def test_cache_that_cannot_be_written_costs_a_warning(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"the result is not cached: .*could not write"):
        found = store.cached(tmp_path / "file" / "x", lambda: {"a": torch.zeros(1)})
    assert torch.equal(found["a"], torch.zeros(1))


def test_cache_path_follows_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    first = store.cache_path("activations", model="a", data="b")
    assert first.is_relative_to(tmp_path)
    assert first == store.cache_path("activations", data="b", model="a")
    assert first != store.cache_path("activations", data="a", model="b")
    monkeypatch.delenv("WORKBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert store.cache_directory() == tmp_path / "x" / "workbench"


def test_chunks_resume(tmp_path):
    frame = pd.DataFrame(
        {
            "coefficient": [0.1, -2.0],
            "text": ["ü", ""],
            "score": np.array([1 / 3, np.nan], dtype=np.float32),
            "tokens": [3, 4],
            "looped": [True, False],
            "missing": [None, "x"],
            "limit": [np.inf, -0.0],
        }
    )
    chunks = store.open_chunks(tmp_path / "run", {"seed": 1}, 3)
    assert [i for i in range(3) if chunks.load(i) is None] == [0, 1, 2]
    chunks.save(1, frame)
    again = store.open_chunks(tmp_path / "run", {"seed": 1}, 3)
    assert [i for i in range(3) if again.load(i) is None] == [0, 2]
    loaded = again.load(1)
    assert loaded is not None
    assert_frame_equal(loaded, frame)
    content = chunks.path(1).read_bytes()
    for damaged in (b"", content[:20], content[:-1], content[:40] + b"!" + content[41:]):
        chunks.path(1).write_bytes(damaged)
        assert [i for i in range(3) if again.load(i) is None] == [0, 1, 2]


def test_another_plan_is_refused(tmp_path):
    store.open_chunks(tmp_path, {"seed": 1, "model": "a"}, 3)
    with pytest.raises(ValueError, match=r"another run: count, seed differ"):
        store.open_chunks(tmp_path, {"seed": 2, "model": "a"}, 4)
    (tmp_path / "plan.json").write_bytes(b'{"seed"')
    with pytest.raises(ValueError, match=r"is damaged, so the run cannot be resumed"):
        store.open_chunks(tmp_path, {"seed": 1, "model": "a"}, 3)


def test_a_folder_or_a_file_in_the_way_is_named(tmp_path):
    with pytest.raises(IsADirectoryError, match="it is a folder; give a file's name in it"):
        store.write_atomically(tmp_path, b"new")
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match=r"file' is a file; give a folder") as caught:
        store.write_atomically(tmp_path / "file" / "new", b"new")
    assert "free some space" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
