"""`workbench run` stopped by a signal, or killed: what is finished stays, the same call goes on."""

import json
import os
import signal
import time

import kills
import pytest
from run_cli import base_dir, run, tree

from workbench.runs import making, writing
from workbench.vectors import files

TWO = ("--multipliers", "0.5", "1")
LONG = {"n_epochs": 3, "generation_batch_size": 1, "max_new_tokens": 3}


def outputs(base) -> dict[str, object]:
    """What a run leaves: its texts and records by their bytes, its vector by its numbers, since the
    order in which safetensors writes what is about them is not its own."""
    found: dict[str, object] = {}
    for name, content in tree(base).items():
        path = base / name
        if name.startswith("runs/"):
            continue  # it says what was done when
        if name.endswith(".safetensors"):
            vector = files.load(path)
            found[name] = (vector.directions[1].tolist(), dict(vector.provenance))
        elif name.startswith("vectors/"):
            found[name] = json.loads(content) | {"files": None}
        else:
            found[name] = content
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    base = base_dir(tmp_path_factory.mktemp("whole"))
    assert run(base, *TWO, settings=LONG).status == 0
    return outputs(base)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_training(tmp_path, monkeypatch, whole, number, status):
    base, real = base_dir(tmp_path), making.train

    def train(*args, **kwargs):
        def watch(row):
            if row["step"] == 4:
                signal.raise_signal(number)

        return real(*args, **kwargs, watch=watch)

    monkeypatch.setattr(making, "train", train)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    ran = run(base, *TWO, settings=LONG)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert ran.status == status
    assert "generate split vector: stopped: what is finished of it is kept" in ran.said
    assert "1 stopped, 2 not begun" in ran.said
    assert list(base.glob("vectors/tiny/split/choice/split_vector/unfinished-*/state.safetensors"))
    monkeypatch.setattr(making, "train", real)
    assert run(base, *TWO, settings=LONG).status == 0
    assert outputs(base) == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_the_end_of_training(tmp_path, monkeypatch, whole, number):
    """No step is left that would see it: the vector is finished, and nothing is begun after it."""
    base, real = base_dir(tmp_path), making.train

    def train(*args, **kwargs):
        def watch(row):
            if row["step"] == 8:
                signal.raise_signal(number)

        return real(*args, **kwargs, watch=watch)

    monkeypatch.setattr(making, "train", train)
    ran = run(base, *TWO, settings=LONG)
    assert ran.status == 128 + number
    assert "1 done, 1 stopped, 1 not begun" in ran.said
    assert run(base, *TWO, settings=LONG).status == 0
    assert outputs(base) == whole


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: what runs in the background may have been told to ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_a_second_signal_ends_at_once(tmp_path, monkeypatch):
    base, real = base_dir(tmp_path), making.train

    def train(*args, **kwargs):
        def watch(row):
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
                time.sleep(0.01)  # some Pythons handle a signal only when the next call returns
            raise AssertionError("it went on")

        return real(*args, **kwargs, watch=watch)

    monkeypatch.setattr(making, "train", train)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert run(base, settings=LONG).status == 130
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_while_writing(tmp_path, monkeypatch, whole):
    base, real, calls = base_dir(tmp_path), writing.generate, []

    def generate(*args, **kwargs):
        calls.append(args[1])
        if len(calls) == 5:  # the second prompt at the second coefficient
            signal.raise_signal(signal.SIGTERM)
        return real(*args, **kwargs)

    monkeypatch.setattr(writing, "generate", generate)
    ran = run(base, *TWO, settings=LONG)
    assert ran.status == 143
    assert "apply split vector m0.5: done" in ran.said
    assert "apply split vector m1.0: stopped" in ran.said
    assert len(calls) == 5
    assert run(base, *TWO, settings=LONG).status == 0
    assert len(calls) == 5 + 2  # the first prompt was kept
    assert outputs(base) == whole


def child(base, *, die_at: int | None = None) -> int:
    """A run in a process of its own, which may be killed as it puts a file in its place."""
    return kills.in_child(lambda: run(base, *TWO, settings=LONG).status, die_at=die_at)


@pytest.mark.parametrize("write", [0, 1, 3, 5, 8, 11])
def test_killed_at_any_write_it_ends_the_same(tmp_path, whole, write):
    base = base_dir(tmp_path)
    _, status = os.waitpid(child(base, die_at=write), 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert run(base, *TWO, settings=LONG).status == 0
    assert outputs(base) == whole


def test_sigterm_from_outside(tmp_path):
    base = base_dir(tmp_path)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(run(base, settings=LONG | {"n_epochs": 100000}).status)
        except BaseException:
            os._exit(99)
    kept = "vectors/tiny/split/choice/split_vector/unfinished-*/state.safetensors"
    ends = time.monotonic() + 60
    while not list(base.glob(kept)) and time.monotonic() < ends:
        time.sleep(0.05)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == 143
    assert list(base.glob(kept))
