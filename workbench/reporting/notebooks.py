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
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError

from workbench.reporting import report
from workbench.support.store import write_atomically

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
    if not everything:
        raise FileNotFoundError(f"no notebooks in {folder}/: run this in the project's folder")
    names = ", ".join(path.stem for path in everything)
    for number in numbers:
        if not any(path.name.startswith(number) for path in everything):
            raise FileNotFoundError(f"no notebook {number!r} in {folder}/: there is {names}")
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


def at_once(model: str | None) -> int:
    """How many notebooks to run side by side if nobody says: one a core, up to 4, of the project's
    own small model, whose arithmetic keeps one core busy; one of any other, which each would hold a
    copy of."""
    own = model is None or model == report.default_model()
    return min(4, os.cpu_count() or 1) if own else 1


def run_all(
    numbers: Sequence[str] = (),
    *,
    model: str | None = None,
    seed: int | None = None,
    jobs: int | None = None,
) -> list[Path]:
    """Run the notebooks of the working directory, saying how long each took; their paths.

    Args:
        numbers, model, seed: as for `find` and `run`.
        jobs: how many to run side by side, each with its share of the cores; None as `at_once`.
            One runs in order; of more, those whose metadata say `"slow": true` start first.

    Raises ValueError for fewer than one job, else what `find` and `run` raise: after a failure
    those that run end, and no other starts.
    """
    jobs = at_once(model) if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"{jobs} notebooks at once: ask for 1 or more")
    found = find(numbers)
    jobs = min(jobs, len(found))
    if jobs == 1:
        executed = []
        for notebook in found:
            print(f"{notebook.stem} … ", end="", flush=True)
            target, seconds = _timed(notebook, model, seed)
            executed.append(target)
            print(f"{seconds:.0f} s", flush=True)
        return executed
    print(f"{jobs} notebooks at once", flush=True)
    waiting = sorted(found, key=_slow, reverse=True)[::-1]  # the next one last
    running: dict[Future[tuple[Path, float]], Path] = {}
    executed: list[Path] = []
    # Separate processes, for papermill's event loop; started anew, for a fork copies held locks.
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_share_cores, initargs=(jobs,)
    ) as pool:
        while waiting or running:
            # No more than can run: what a pool has queued starts even after a failure.
            while waiting and len(running) < jobs:
                notebook = waiting.pop()
                running[pool.submit(_timed, notebook, model, seed)] = notebook
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                notebook = running.pop(done)
                target, seconds = done.result()
                executed.append(target)
                print(f"{notebook.stem} … {seconds:.0f} s", flush=True)
    return sorted(executed)


def _timed(notebook: Path, model: str | None, seed: int | None) -> tuple[Path, float]:
    started = time.perf_counter()
    return run(notebook, model=model, seed=seed), time.perf_counter() - started


def _slow(notebook: Path) -> bool:
    return bool(nbformat.read(notebook, as_version=4).metadata.get("slow"))


def _share_cores(jobs: int) -> None:
    """Kernels inherit this: two that each want all cores are slower than two that share them."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
