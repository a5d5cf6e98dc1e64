"""The shipped contrast pairs are those of the language as it is now."""

import json
import sys
from pathlib import Path

import pytest

from workbench.wren import ship


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    ship.write(tmp_path)
    return tmp_path


def test_what_is_written_is_current(shipped: Path) -> None:
    assert len(list(shipped.iterdir())) == len(ship.NAMES)
    assert ship.stale(shipped) == []


def test_stale_and_missing_files_are_named(shipped: Path) -> None:
    mood = shipped / "wren-mood.jsonl"
    lines = mood.read_text(encoding="utf-8").splitlines(keepends=True)
    mood.write_text("".join([*lines[:-1], lines[-1].replace('"prompt"', '"Prompt"')]), "utf-8")
    (shipped / "wren-bell.jsonl").unlink()
    assert sorted(ship.stale(shipped)) == ["wren-bell.jsonl", "wren-mood.jsonl"]


def test_a_file_holds_its_trait_and_its_pairs() -> None:
    head, *pairs = map(json.loads, ship.text("italian").splitlines())
    assert (head["name"], head["trait"], len(head["asking"])) == ("wren-italian", "italian", 40)
    assert len(pairs) == ship.COUNT
    assert all(pair.keys() == {"prompt", "positive", "negative"} for pair in pairs)


def test_the_check_fails_only_on_stale_files(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ship", "--check"])
    monkeypatch.setattr(ship, "stale", list)
    with pytest.raises(SystemExit) as end:
        ship.main()
    assert end.value.code == 0
    monkeypatch.setattr(ship, "stale", lambda: ["wren-mood.jsonl"])
    with pytest.raises(SystemExit) as end:
        ship.main()
    assert end.value.code == 1
    assert "wren-mood.jsonl is not what the language makes now" in capsys.readouterr().out


def test_the_bundled_files_are_current() -> None:
    assert ship.stale() == [], "run python -m workbench.wren.ship"
