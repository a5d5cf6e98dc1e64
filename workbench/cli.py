"""The command line.

`workbench results`, `demo`, `figures` and `study` are run in the project's folder; `make` does so
after setting up an environment. `workbench run` and `merge`, `compose` and `eval_all` are
run anywhere (workbench/runs).
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from workbench.runs.command import ManyNumbers, merge, run
from workbench.runs.composing import ManySettings, compose
from workbench.runs.evaluating import eval_all

# What does the work is imported by the command that does it: torch takes seconds, and help none.
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Steer language models: train interventions and try them, run the notebooks, write the
    report."""


@app.command()
def results(
    notebooks: Annotated[
        list[str] | None, typer.Argument(help='Such as "01 02"; all if none.')
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model's name or path.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of everything random.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(help="Notebooks side by side; if not said, several of wren, else one."),
    ] = None,
) -> None:
    """Run the notebooks and write the report."""
    from workbench.reporting import report
    from workbench.reporting.notebooks import NotebookFailed, run_all

    directory = report.folder(model, seed or 0)
    try:
        executed = run_all(notebooks or [], model=model, seed=seed, jobs=jobs)
        for path in executed:
            typer.echo(f"results: {path}")
        pages = report.write(directory, templates=report.TEMPLATES)
    except (NotebookFailed, FileNotFoundError, ValueError) as error:
        if notebooks and isinstance(error, report.Unfilled):
            typer.echo("report not written: it needs all notebooks; leave out their numbers")
            return
        typer.echo(f"\n{error}", err=True)
        raise typer.Exit(1) from None
    for page in pages:
        typer.echo(f"report: {page}")


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="A model's name or path.")] = "wren",
    port: Annotated[int, typer.Option(help="On this machine alone.")] = 8866,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Serve the live demo as a page without code, to this machine only."""
    from workbench.demo.serve import serve

    try:
        status = serve(model, port=port, browser=browser)
    except (ValueError, RuntimeError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(status)


@app.command()
def figures(
    directory: Annotated[Path, typer.Argument(help="The report's folder.")] = Path("reports"),
) -> None:
    """Draw every figure of a report again from its saved data, without a model."""
    from workbench.reporting import report

    try:
        names = report.redraw(directory)
    except (FileNotFoundError, ValueError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{len(names)} figures in {directory / 'figures'}: {', '.join(names) or 'none yet'}")


@app.command()
def study(
    directory: Annotated[Path, typer.Argument(help="The report's folder.")] = Path("reports"),
) -> None:
    """Run the studies over many seeds, then say which tables exist and which are stale."""
    from workbench.support import tables

    scripts = sorted(Path("benchmarks").glob("study_*.py"))
    if not scripts:
        typer.echo("there is no benchmarks/study_*.py here")
    for script in scripts:
        typer.echo(f"{script} …")
        if subprocess.run([sys.executable, str(script)], check=False).returncode:
            typer.echo(f"{script} failed", err=True)
            raise typer.Exit(1)
    names = tables.table_names(directory)
    for name in names:
        reasons = tables.stale(name, directory=directory)
        typer.echo(f"{name}: {'stale: ' + '; '.join(reasons) if reasons else 'up to date'}")
    if not names:
        typer.echo(f"no tables in {directory / 'tables'} yet: `make results` writes them")


app.command(cls=ManyNumbers)(run)
app.command()(merge)
app.command(cls=ManySettings)(compose)
app.command("eval_all")(eval_all)


if __name__ == "__main__":
    app()
