"""What tests of the demo share: the model, and sweeps small enough to wait for."""

import pytest

import workbench as wb
from workbench.demo import work
from workbench.loading.models import LM


@pytest.fixture(scope="module")
def wren() -> LM:
    return wb.load("wren")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"JUDGED": 4, "CONTROLLED": 4, "TOKENS": 6, "STEPS": 2, "_JUDGES": 2}
    for name, value in values.items():
        monkeypatch.setattr(work, name, value)
