"""Two processes at one folder: one does the work, and the other says who does."""

import os
import signal

import kills
import pytest
from run_cli import base_dir, run, tree

from workbench.runs import making
from workbench.runs.locks import alone


def held(path) -> int:
    """A process that holds `path` until it is killed; its pid, once it does."""
    told, tell = os.pipe()

    def hold() -> int:
        with alone(path):
            os.write(tell, b"!")
            signal.pause()
        return 0

    pid = kills.in_child(hold)
    os.close(tell)
    os.read(told, 1)
    os.close(told)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_folder_that_another_process_fills(tmp_path):
    base = base_dir(tmp_path)
    folder = base / "vectors/tiny/split/choice/split_vector"
    pid = held(folder)
    try:
        ran = run(base, intervention="all")
    finally:
        end(pid)
    assert ran.status == 1
    said = f"generate split vector: failed: process {pid} on"
    assert said in ran.said
    assert f"is at {str(folder)!r}: wait for it or end it, then call again" in ran.said
    assert "4 done, 1 missing, 1 failed" in ran.said
    # It was killed, and what it left does not count.
    ran = run(base, intervention="all")
    assert ran.status == 0
    assert "2 done, 4 already there" in ran.said
    assert not [name for name in tree(base) if name.endswith(".lock")]


def test_the_same_call_twice(tmp_path, monkeypatch):
    base, real = base_dir(tmp_path), making.make

    def make(*given):
        ran = run(base)
        assert ran.status == 1
        assert f"process {os.getpid()} on" in ran.said
        assert "shard-1-of-1.json': wait for it or end it" in ran.said
        return real(*given)

    monkeypatch.setattr(making, "make", make)
    assert run(base).status == 0


def test_a_lock_ends_with_its_block_and_its_process(tmp_path):
    path = tmp_path / "new" / "folder"
    for _ in range(2):
        with alone(path), pytest.raises(BlockingIOError), alone(path):
            pass
        assert list(tmp_path.iterdir()) == []  # nor the folder that it made
    end(held(path))
    assert list(path.parent.iterdir())
    with alone(path):
        pass
    assert list(path.parent.iterdir()) == []
