"""The notebook's cell that runs: a cell that runs again ends what it made before."""

from __future__ import annotations

from typing import Any

from IPython.core.getipython import get_ipython


def watched() -> bool:
    """Whether a reader runs this cell: only then may a kernel ask for input."""
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


def this_cell() -> str:
    """The identifier of the cell that runs, "" outside of a notebook or where it has none."""
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return ""
    return str(kernel.get_parent("shell").get("metadata", {}).get("cellId", ""))


def close_former(kind: type[Any]) -> None:
    """Close what an earlier run of this cell made, of that kind, as far as a name still holds it.

    Such an object has `cell`, the cell that made it, and `close`.
    """
    cell = this_cell()
    if not cell:
        return
    held = {id(value): value for value in get_ipython().user_ns.values()}  # type: ignore[union-attr]
    for value in held.values():
        if isinstance(value, kind) and value.cell == cell:
            value.close()
