"""The versions of what results depend on, as they stand in the provenance of all that is kept.

One list for vectors, sweeps, tables and figures, so that any two of them can be compared. This
module knows nothing of the rest of the package.
"""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

LIBRARIES = (
    "workbench",
    "torch",
    "transformers",
    "nnsight",
    "numpy",
    "pandas",
    "scikit-learn",
    "plotly",
)


def versions() -> dict[str, str]:
    """Python and the libraries that are installed: name -> version."""
    return dict(_installed())


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    """The same; a tenth of a second is much beside a small model's forward."""
    found = [("python", platform.python_version())]
    for name in LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)
