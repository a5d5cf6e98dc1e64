"""The README's ten lines of Python run as they stand, and what it points to exists."""

import re
from pathlib import Path
from typing import Any

import pytest

from workbench.wren.judge import trait

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_runs_and_steers(tmp_path: Path, monkeypatch, capsys) -> None:
    if not (ROOT / "workbench/wren/model/model.safetensors").exists():
        pytest.skip("wren's weights are not in this checkout")
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda figure: None)
    names: dict[str, Any] = {}
    exec(compile(code[1], "README.md", "exec"), names)
    exec("unsteered = wb.generate(lm, [story]).texts[0]", names)
    assert (tmp_path / "mood.safetensors").is_file()
    said = capsys.readouterr().out
    assert "recommended" in said
    steered = said.splitlines()[-1]
    assert trait(steered, "mood") < 0 < trait(names["unsteered"], "mood")


def test_every_relative_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", README)
    links = [link or source for link, source in links]
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert links
    assert missing == []
