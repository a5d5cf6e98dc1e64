"""Run the numbered notebooks, as a reader would, with a model and a seed of choice.

A notebook has one cell tagged "parameters" that sets `model` and `seed`. The run with those values
is written back to the notebook itself, which is committed as executed; any other run is written to
`notebooks/` in that run's report folder. Knows nothing of what the notebooks do.
"""

import ast
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError

from workbench import report
from workbench.store import write_atomically

FOLDER = Path("notebooks")


class ThisPython(AsyncKernelManager):
    """Starts kernels with the Python that runs this, whatever kernels Jupyter knows of."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        command += ["--log-level=ERROR"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


class NotebookFailed(RuntimeError):
    """A cell of a notebook raised; the message quotes the cell, its error and where to look."""


def find(numbers: Sequence[str] = (), *, folder: Path = FOLDER) -> list[Path]:
    """The notebooks whose names begin with one of `numbers` ("01", "02"), or all, in order.

    Raises FileNotFoundError when there is no notebook, or none for one of the numbers.
    """
    failed = set(folder.glob("*.failed.ipynb"))
    everything = [path for path in sorted(folder.glob("[0-9]*.ipynb")) if path not in failed]
    names = ", ".join(path.stem for path in everything) or "none"
    for number in numbers:
        if not any(path.name.startswith(number) for path in everything):
            raise FileNotFoundError(f"no notebook {number!r} in {folder}/: there is {names}")
    if not everything:
        raise FileNotFoundError(f"no notebooks in {folder}/: run this in the project's folder")
    return [path for path in everything if not numbers or path.name.startswith(tuple(numbers))]


def parameters(notebook: Path) -> dict[str, Any]:
    """The values that a notebook itself gives to `model` and `seed`.

    Raises ValueError when its cell of parameters lacks one of them.
    """
    values: dict[str, Any] = {}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", ()):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                    values[line.targets[0].id] = ast.literal_eval(line.value)
    for name in ("model", "seed"):
        if name not in values:
            raise ValueError(f"{notebook} has no cell tagged 'parameters' that sets {name!r}")
    return {"model": values["model"], "seed": values["seed"]}


def run(notebook: Path, *, model: str | None = None, seed: int | None = None) -> Path:
    """Run one notebook from its own folder, as JupyterLab does; the path of the executed copy.

    Args:
        notebook: its path.
        model: a name or path in place of the notebook's own model.
        seed: in place of the notebook's own.

    Raises:
        FileNotFoundError: there is no such notebook.
        NotebookFailed: a cell raised. What ran until then is kept beside the notebook, as
            NAME.failed.ipynb.
    """
    if not notebook.is_file():
        raise FileNotFoundError(f"no notebook at {notebook}")
    own = parameters(notebook)
    if model is not None and Path(model).exists():
        model = str(Path(model).resolve())  # the kernel's working directory is another one
    wanted = {"model": own["model"] if model is None else model}
    wanted["seed"] = own["seed"] if seed is None else seed
    changed = {} if wanted == own else wanted
    failed = notebook.with_suffix(".failed.ipynb")
    target = notebook if not changed else _copy(notebook, wanted)
    try:
        executed = _execute(notebook, failed, changed)
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"{notebook}, cell {error.exec_count}: {error.ename}: {error.evalue}\n\n"
            f"{error.source}\n\n{os.linesep.join(error.traceback)}\n\n"
            f"What ran until then is in {failed}"
        ) from None
    write_atomically(target, (nbformat.writes(_tidy(executed)) + "\n").encode())
    failed.unlink(missing_ok=True)
    return target


def _copy(notebook: Path, wanted: Mapping[str, Any]) -> Path:
    """Where a run with other parameters is kept."""
    folder = notebook.parent.parent / "reports" / report.slug(wanted["model"], wanted["seed"])
    return folder / "notebooks" / notebook.name


def _execute(notebook: Path, output: Path, values: dict[str, Any]) -> nbformat.NotebookNode:
    """Run a notebook with papermill, which keeps what has run in `output` as it goes."""
    return papermill.execute_notebook(
        str(notebook),
        str(output),
        values,
        cwd=str(notebook.parent),
        kernel_name="python3",
        language="python",
        kernel_manager_class=ThisPython,
        progress_bar=sys.stderr.isatty(),
        request_save_on_cell_execute=True,
    )


def _tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without times and identifiers of the run: a rerun changes only what results change."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
        for name in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(name, None)
        if "tags" in cell.metadata and not cell.metadata["tags"]:
            del cell.metadata["tags"]
        if "outputs" in cell:
            # Progress bars and warnings change from run to run and say nothing about results.
            cell["outputs"] = [
                output
                for output in cell["outputs"]
                if not (output.output_type == "stream" and output.name == "stderr")
                and "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
            ]
    return notebook


def run_all(
    numbers: Sequence[str] = (), *, model: str | None = None, seed: int | None = None
) -> list[Path]:
    """Run the notebooks of the working directory in order, saying how long each took."""
    executed = []
    for notebook in find(numbers):
        print(f"{notebook.stem} … ", end="", flush=True)
        started = time.perf_counter()
        executed.append(run(notebook, model=model, seed=seed))
        print(f"{time.perf_counter() - started:.0f} s", flush=True)
    return executed
