"""Running notebooks: with which Python, where, with what values, and how they end."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner

from workbench.cli import app
from workbench.reporting import notebooks, report

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = 'model = "wren"\nseed = 0'


def write(path: Path, *sources: str, parameters: str | None = PARAMETERS) -> Path:
    cells = [new_code_cell(source) for source in sources]
    if parameters is not None:
        cells.insert(0, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


def printed(path: Path) -> list[str]:
    book = nbformat.read(path, as_version=4)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [line for output in outputs for line in output.get("text", "").splitlines()]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "TEMPLATES", tmp_path / "templates")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


REPORTING = """import os, sys
print(sys.executable)
print(os.path.basename(os.getcwd()), model, seed)
print("noise", file=sys.stderr)"""


def test_a_default_run_is_written_in_place_and_repeats_exactly(project: Path) -> None:
    """Values of the notebook's own, even when asked for by name, are a default run."""
    book = write(project / "notebooks" / "01_first.ipynb", REPORTING)
    assert notebooks.run(Path("notebooks/01_first.ipynb")) == Path("notebooks/01_first.ipynb")
    assert printed(book) == [sys.executable, "notebooks wren 0"]
    once = book.read_bytes()
    notebooks.run(book, model="wren", seed=0)
    assert book.read_bytes() == once
    assert len(nbformat.read(book, as_version=4).cells) == 2
    assert [path.name for path in (project / "notebooks").iterdir()] == ["01_first.ipynb"]


def test_another_model_leaves_the_notebook_alone(project: Path) -> None:
    book = write(project / "notebooks" / "01_first.ipynb", REPORTING)
    before = book.read_bytes()
    (project / "local model").mkdir()
    done = notebooks.run(Path("notebooks/01_first.ipynb"), model="local model", seed=3)
    slug = report.slug(project / "local model", 3)
    assert done == Path("reports") / slug / "notebooks" / "01_first.ipynb"
    assert printed(done) == [sys.executable, f"notebooks {project / 'local model'} 3"]
    assert book.read_bytes() == before


def test_a_failing_cell_fails_the_command_with_its_error(project: Path) -> None:
    book = write(project / "notebooks" / "01_first.ipynb", "x = 1", "x / 0  # the culprit", "y = 2")
    before = book.read_bytes()
    result = CliRunner().invoke(app, ["results"])
    assert result.exit_code == 1
    assert "01_first.ipynb, cell 3: ZeroDivisionError: division by zero" in result.stderr
    assert "x / 0  # the culprit" in result.stderr
    assert "01_first.failed.ipynb" in result.stderr
    assert book.read_bytes() == before
    assert (project / "notebooks" / "01_first.failed.ipynb").exists()
    assert notebooks.find() == [Path("notebooks/01_first.ipynb")]


def test_elsewhere_numbers_say_where_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="run this in the project's folder"):
        notebooks.find(["01"])


def test_results_end_with_the_report(project: Path) -> None:
    saving = """from workbench.reporting import report
from workbench.support import tables
tables.save_values({"answer": 41 + 1}, "sum", directory=report.folder(model, seed))"""
    write(project / "notebooks" / "01_first.ipynb", saving)
    (project / "templates").mkdir()
    (project / "templates" / "page.md").write_text("It is {{ sum.answer }}.\n")
    result = CliRunner().invoke(app, ["results"])
    assert result.exit_code == 0, result.output
    assert "report: " in result.output
    assert (project / "reports" / "page.md").read_text() == "It is 42.\n"


def test_a_partial_run_says_why_there_is_no_report(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project / "notebooks" / "01_first.ipynb")
    monkeypatch.setattr(notebooks, "run", lambda notebook, **_: notebook)
    (project / "templates").mkdir()
    (project / "templates" / "page.md").write_text("{{ missing }}\n")
    partly = CliRunner().invoke(app, ["results", "01"])
    assert partly.exit_code == 0
    results, last = partly.output.splitlines()[-2:]
    assert results == "results: notebooks/01_first.ipynb"
    assert last == "report not written: it needs all notebooks; leave out their numbers"
    whole = CliRunner().invoke(app, ["results"])
    assert whole.exit_code == 1
    assert "page.md: no value for the fields missing" in whole.stderr


def test_side_by_side_they_overlap_and_share_the_cores(project: Path) -> None:
    """Each waits for the other's mark: in turns neither would ever see it."""
    meet = """import os, time
from pathlib import Path
Path({mine!r}).touch()
waited = 0
while not Path({other!r}).exists() and waited < 60:
    time.sleep(0.05); waited += 0.05
print(Path({other!r}).exists(), os.environ["OMP_NUM_THREADS"])"""
    first = write(project / "notebooks" / "01_first.ipynb", meet.format(mine="a", other="b"))
    second = write(project / "notebooks" / "02_second.ipynb", meet.format(mine="b", other="a"))
    assert notebooks.run_all(jobs=2) == [Path("notebooks") / path.name for path in (first, second)]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // 2))
    assert printed(first) == printed(second) == [f"True {threads}"]


def test_side_by_side_the_slow_start_first(project: Path) -> None:
    marking = "import time; from pathlib import Path\nPath({!r}).write_text(str(time.time()))"
    for name in "abc":
        write(project / "notebooks" / f"0{'abc'.index(name)}_{name}.ipynb", marking.format(name))
    path = project / "notebooks" / "02_c.ipynb"
    book = nbformat.read(path, as_version=4)
    book.metadata["slow"] = True
    nbformat.write(book, path)
    notebooks.run_all(jobs=2)
    began = {name: float((project / "notebooks" / name).read_text()) for name in "abc"}
    assert began["b"] > max(began["a"], began["c"])


def test_side_by_side_after_a_failure_no_other_starts(project: Path) -> None:
    write(project / "notebooks" / "01_first.ipynb", "x / 0")
    write(project / "notebooks" / "02_second.ipynb", "import time; time.sleep(8); print(1)")
    for number in (3, 4, 5):
        write(project / "notebooks" / f"0{number}_later.ipynb", "print(1)")
    with pytest.raises(notebooks.NotebookFailed, match=r"01_first.ipynb, cell 2: NameError"):
        notebooks.run_all(jobs=2)
    done = [printed(path) for path in sorted((project / "notebooks").glob("0[2-5]_*.ipynb"))]
    assert done == [["1"], [], [], []]


def test_how_many_run_side_by_side() -> None:
    assert notebooks.at_once(None) == notebooks.at_once("wren") == min(4, os.cpu_count() or 1)
    assert notebooks.at_once("gpt2") == 1
    with pytest.raises(ValueError, match="0 notebooks at once: ask for 1 or more"):
        notebooks.run_all(jobs=0)


def test_find_in_order_and_by_number(project: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no notebooks in notebooks/"):
        notebooks.find()
    for name in ("02_sweep", "01_extract", "10_results", "01_extract.failed", "draft"):
        write(project / "notebooks" / f"{name}.ipynb")
    names = [path.stem for path in notebooks.find()]
    assert names == ["01_extract", "02_sweep", "10_results"]
    assert [path.stem for path in notebooks.find(["10", "01"])] == ["01_extract", "10_results"]
    with pytest.raises(FileNotFoundError, match=r"no notebook '03'.*01_extract, 02_sweep"):
        notebooks.find(["01", "03"])


@pytest.mark.parametrize("parameters", [None, 'model = "wren"', "seed = 0"])
def test_a_notebook_without_its_parameters_is_refused(
    project: Path, parameters: str | None
) -> None:
    book = write(project / "notebooks" / "01_first.ipynb", parameters=parameters)
    with pytest.raises(ValueError, match="no cell tagged 'parameters' that sets"):
        notebooks.run(book)


def test_study_says_which_tables_are_stale(project: Path) -> None:
    from workbench.support import tables

    assert "no tables in reports/tables yet" in CliRunner().invoke(app, ["study"]).output
    import pandas as pd

    tables.save_table(pd.DataFrame({"a": [1]}), "good", modules=("figures.look",))
    tables.save_table(pd.DataFrame({"a": [1]}), "old", modules=("figures.look",))
    (project / "reports" / "tables" / "old.csv").write_text("a\n2\n")
    lines = CliRunner().invoke(app, ["study"]).output.splitlines()
    assert lines.pop(0) == "there is no benchmarks/study_*.py here"
    assert lines == ["good: up to date", "old: stale: old.csv is not the file that was written"]
    (project / "benchmarks").mkdir()
    (project / "benchmarks" / "study_broken.py").write_text("raise SystemExit(3)\n")
    assert CliRunner().invoke(app, ["study"]).exit_code == 1


def test_the_projects_notebooks_can_be_run() -> None:
    """Each has its parameters, set to the default model and seed."""
    books = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    if not books:
        pytest.skip("no notebooks yet")
    for book in books:
        assert notebooks.parameters(book) == {"model": report.default_model(), "seed": 0}
