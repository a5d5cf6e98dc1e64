"""Imports go down only: a room of the package knows those before it in the package's own list."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import workbench

PACKAGE = Path(workbench.__file__).parent
ROOMS = re.findall(r"^    ([a-z]+)  ", workbench.__doc__ or "", re.MULTILINE)


def imported(node: ast.AST) -> Iterator[str]:
    """The modules of the package that are imported in a piece of code when it runs."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        for each in node.orelse:
            yield from imported(each)
        return
    if isinstance(node, ast.ImportFrom) and node.module == "workbench":
        yield from (f"workbench.{each.name}" for each in node.names)
    elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workbench."):
        yield str(node.module)
    elif isinstance(node, ast.Import):
        yield from (each.name for each in node.names if each.name.startswith("workbench."))
    for each in ast.iter_child_nodes(node):
        yield from imported(each)


def test_every_folder_of_code_is_a_room() -> None:
    assert sorted(ROOMS) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_imports_go_down_only() -> None:
    rank = {name: number for number, name in enumerate(ROOMS)}
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in PACKAGE.glob("*/**/*.py")
        for module in imported(ast.parse(path.read_text(encoding="utf-8")))
        # What lies in no room, such as the command line, knows all rooms.
        if rank.get(module.split(".")[1], len(rank)) > rank[path.relative_to(PACKAGE).parts[0]]
    ]
    assert upwards == []


def test_every_way_to_import_is_seen() -> None:
    code = """
from workbench import demo
import workbench.demo.app
try:
    pass
except ImportError:
    from workbench.runs import work
if TYPE_CHECKING:
    from workbench.figures import look
else:
    from workbench.studies import findings
"""
    found = ["workbench.demo", "workbench.demo.app", "workbench.runs", "workbench.studies"]
    assert list(imported(ast.parse(code))) == found
