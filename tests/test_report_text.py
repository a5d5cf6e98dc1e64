"""The report's templates: filled from what the notebooks save, for any model."""

import re
from pathlib import Path

import nbformat
import pytest

from workbench.reporting import report

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted(report.TEMPLATES.glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def fields(template: Path) -> set[str]:
    return {match[1] for match in report.FIELD.finditer(template.read_text(encoding="utf-8"))}


def kept(code: str, table: str) -> bool:
    """Whether `report.keep` keeps a table: of the page NAME, under the key that ends its name."""
    parts = table.split("_")
    names = [("_".join(parts[:at]), "_".join(parts[at:])) for at in range(1, len(parts))]
    return any(
        re.search(rf'keep\(\s*folder,\s*"{name}",', code) and f'"{key}"' in code
        for name, key in names
    )


def source(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_no_number_is_typed_by_hand(template: Path) -> None:
    """Outside of fields and names, digits stand only in shares that define a term, scales and the
    levels of intervals, in the temperature, and in the year of what is cited."""
    text = report.FIELD.sub("", template.read_text(encoding="utf-8"))
    allowed = {"0", "1", "90", "95", "2025"}
    assert set(re.findall(r"\d+(?:\.\d+)?", text)) <= allowed


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_every_field_is_saved_by_a_notebook(template: Path) -> None:
    code = "\n".join(map(source, NOTEBOOKS))
    modules = (
        "studies/coefficient_findings", "studies/law_findings", "studies/law_tables",
        "studies/method_findings", "studies/manifold_page", "reporting/report",
    )  # fmt: skip
    words = "\n".join(
        (ROOT / "workbench" / f"{name}.py").read_text(encoding="utf-8") for name in modules
    )
    for name in fields(template):
        where, _, key = name.partition(".")
        if where == "figure" or not key:
            number, _, rest = key.partition("_")  # of `save_analysis`, which names its own
            whole = f'prefix="{number}_"' in code and f'figures["{rest}"]' in code
            assert whole or f'"{key or where}"' in code or kept(code, where), name
        else:
            assert f'"{key}":' in code + words, name


def test_fresh_texts_are_saved_and_face_many_deals_of_the_labels() -> None:
    code = source(ROOT / "notebooks" / "02_sweep.ipynb")
    assert '"sweep",' in code
    assert 'f"fresh_{trait}": frame for trait, frame in fresh.items()' in code
    draws = re.search(r"seed \+ deal\)\s+for deal in range\((\d+), (\d+)\)", code)
    assert draws is not None
    first, end = map(int, draws.groups())
    assert first > 0  # deal 0 took part in choosing
    assert 1 / (end - first + 1) <= 0.05


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_and_ends_as_readers_expect(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert "You will learn" in cells[0].source
    assert cells[-1].source.startswith("## What can go wrong")
    assert all(len(cell.source.splitlines()) <= 25 for cell in cells if cell.cell_type == "code")
    assert "def " not in source(notebook)
