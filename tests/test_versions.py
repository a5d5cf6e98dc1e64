"""One list of library versions for all that is kept on disk."""

import platform
from importlib import metadata

import pytest
import torch

from workbench.support import tables
from workbench.support.versions import LIBRARIES, _installed, versions
from workbench.sweeps import planning


def test_python_and_every_library_that_is_there() -> None:
    found = versions()
    assert list(found) == ["python", *LIBRARIES]
    assert found["python"] == platform.python_version()
    # A build may call itself "2.13.0+cu130" where its package says 2.13.0.
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_a_library_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name == "pandas":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without)
    monkeypatch.setattr("workbench.support.versions._installed", _installed.__wrapped__)
    assert set(versions()) == {"python", *LIBRARIES} - {"pandas"}


def test_everything_kept_names_the_same_versions() -> None:
    assert tables.versions is planning.versions is versions
