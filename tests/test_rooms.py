"""Imports go down only: a room of the package knows those before it in the package's own list."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import workbench

PACKAGE = Path(workbench.__file__).parent
ROOMS = re.findall(r"^    ([a-z]+)  ", workbench.__doc__ or "", re.MULTILINE)


def imported(nodes: list[ast.stmt]) -> Iterator[str]:
    """The modules of the package that run when these statements do, wherever they stand."""
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workbench."):
            yield str(node.module)
        for _, inner in ast.iter_fields(node):
            if isinstance(inner, list):
                yield from imported([each for each in inner if isinstance(each, ast.stmt)])


def test_every_folder_of_code_is_a_room() -> None:
    assert sorted(ROOMS) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_imports_go_down_only() -> None:
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in PACKAGE.glob("*/**/*.py")
        for module in imported(ast.parse(path.read_text(encoding="utf-8")).body)
        if ROOMS.index(module.split(".")[1]) > ROOMS.index(path.relative_to(PACKAGE).parts[0])
    ]
    assert upwards == []
