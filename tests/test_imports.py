"""What the package's own names stand for, and that help waits for nothing."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import workbench


def test_every_name_is_what_its_module_calls_so() -> None:
    assert sorted(workbench._PLACES) == sorted(workbench.__all__)
    for name, place in workbench._PLACES.items():
        module, _, inside = place.partition(":")
        found = getattr(workbench, name)
        if inside:
            assert inside == name
            assert found is getattr(import_module(f"workbench.{module}"), name)
        else:
            assert isinstance(found, ModuleType)
            assert found.__name__ == f"workbench.{module}"
            assert module.rpartition(".")[2] == name
    assert {*workbench.__all__} < {*dir(workbench)}
    assert not hasattr(workbench, "no_such_name")


def test_help_does_without_what_takes_seconds() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from workbench.cli import app\n"
        "for command in ([], ['run'], ['merge'], ['compose'], ['eval_all'], ['results']):\n"
        "    shown = CliRunner().invoke(app, [*command, '--help'])\n"
        "    assert shown.exit_code == 0 and 'Usage' in shown.output, command\n"
        "heavy = {'torch', 'transformers', 'nnsight', 'pandas', 'plotly', 'scipy', 'sklearn'}\n"
        "print(sorted(heavy & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
