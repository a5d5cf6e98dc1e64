"""Logging: silent by default, a file by one call, module by module, and nothing left behind."""

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

import workbench as wb
from workbench.contrast.pairs import Pairs
from workbench.support import logs

PACKAGE = logging.getLogger("workbench")


@pytest.fixture(autouse=True)
def left_as_it_was() -> Iterator[None]:
    handlers, level = list(PACKAGE.handlers), PACKAGE.level
    yield
    logs.stop()
    assert (PACKAGE.handlers, PACKAGE.level) == (handlers, level)


def say(module: str, level: int = logging.INFO, text: str = "hello") -> None:
    logging.getLogger(f"workbench.{module}").log(level, text)


def heard(path: Path) -> list[str]:
    return [line.split(": ")[0].split(" ")[-1] for line in path.read_text().splitlines()]


def test_a_file_by_one_call_and_its_path(tmp_path):
    path = logs.log_to(tmp_path / "new" / "run.log")
    assert path == tmp_path / "new" / "run.log"
    say("extraction.extract")
    say("wren.grammar", logging.WARNING, "naïve")
    say("extraction.extract", logging.DEBUG)
    first, second = path.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"[\d-]+ [\d:,]+ INFO workbench\.extraction\.extract: hello", first)
    assert second.endswith("WARNING workbench.wren.grammar: naïve")
    assert logs.files() == (path,)
    logs.stop(path)
    say("extraction.extract")
    assert len(path.read_text().splitlines()) == 2
    assert logs.files() == ()


def test_the_usual_place_is_a_dated_file_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    day = datetime.now()
    path = logs.log_to()
    expected = {f"workbench-{moment:%Y-%m-%d}.log" for moment in (day, datetime.now())}
    assert path.parent == tmp_path
    assert path.name in expected
    (tmp_path / "folder").mkdir()
    assert logs.log_to(tmp_path / "folder").parent == tmp_path / "folder"


def test_the_same_file_is_never_written_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = logs.log_to("a.log", "WARNING")
    assert logs.log_to(tmp_path / "b" / ".." / "a.log", "DEBUG") == path
    assert len(logs.files()) == 1
    say("extraction.extract", logging.DEBUG)
    assert heard(path) == ["workbench.extraction.extract"]
    other = logs.log_to(tmp_path / "other.log", "ERROR")
    say("extraction.extract", logging.ERROR)
    assert (len(heard(path)), len(heard(other))) == (2, 1)
    logs.stop("a.log")
    assert logs.files() == (other,)
    assert PACKAGE.level == logging.ERROR


def test_modules_are_switched_one_by_one(tmp_path):
    few = logs.log_to(tmp_path / "few.log", modules=["extraction", "wren"])
    own = logs.log_to(
        tmp_path / "own.log", modules={"": "ERROR", "forward": "DEBUG", "wren.grammar": "WARNING"}
    )
    for module in ("extraction.extract", "forward.reading", "wren", "wren.grammar", "wrench"):
        say(module)
    say("forward.reading", logging.DEBUG)
    say("extraction.extract", logging.ERROR)
    say("wren.grammar", logging.WARNING)
    PACKAGE.error("of the package itself")
    assert heard(few) == [
        f"workbench.{name}"
        for name in (
            "extraction.extract",
            "wren",
            "wren.grammar",
            "extraction.extract",
            "wren.grammar",
        )
    ]
    assert heard(own) == [
        "workbench.forward.reading", "workbench.forward.reading", "workbench.extraction.extract",
        "workbench.wren.grammar",
        "workbench",
    ]  # fmt: skip


def test_the_level_that_was_set_by_hand_comes_back(tmp_path):
    PACKAGE.setLevel(logging.ERROR)
    try:
        logs.log_to(tmp_path / "a.log", "DEBUG")
        logs.log_to(tmp_path / "b.log", "INFO")
        assert PACKAGE.level == logging.DEBUG
        logs.stop(tmp_path / "a.log")
        assert PACKAGE.level == logging.INFO
        logs.stop()
        assert PACKAGE.level == logging.ERROR
    finally:
        PACKAGE.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": "LOUD"}, "level 'LOUD' is unknown; choose one of DEBUG"),
        ({"level": True}, "level True is unknown"),
        ({"level": 17}, "level 17 is unknown"),
        ({"modules": ["extraktion"]}, "no module 'extraktion', did you mean 'extraction'"),
        ({"modules": {"forward.reading": "LOUD"}}, "level 'LOUD' is unknown"),
        ({"modules": "extraction"}, "modules is one text, 'extraction'"),
        ({"modules": []}, "modules is empty"),
    ],
)
def test_bad_arguments_are_told_and_write_nothing(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        logs.log_to(tmp_path / "a.log", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        logs.log_to(tmp_path / "file" / "a.log")
    assert logs.files() == ()


def test_extraction_says_what_it_does(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    path = logs.log_to(tmp_path / "a.log", "DEBUG")
    pairs = Pairs.from_lists([" was glad", " had fun"], [" was sad", " had none"], name="mood")
    for _ in range(2):
        wb.extract(tiny, pairs, held_out=0, quiet=True)
    text = path.read_text()
    assert "INFO workbench.forward.reading: mood: 4 texts at last_k(1), layers (0, 1, 2)" in text
    assert "INFO workbench.extraction.extract: mood: layer 1: the middle one" in text
    assert text.count("DEBUG workbench.support.store: to be made:") == 1
    assert text.count("DEBUG workbench.support.store: found") == 1


def test_silent_by_default():
    """Nobody who merely imports the package sees its warnings, in a process of its own."""
    code = "import logging, workbench; logging.getLogger('workbench.text').error('hello')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == ""
    assert "hello" not in done.stderr
