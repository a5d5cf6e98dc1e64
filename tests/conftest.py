"""What every test file shares: quiet single-threaded arithmetic, no cache, two models."""

import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before torch and the hub's client are imported, which read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
_cache = tempfile.TemporaryDirectory(prefix="workbench-hub-", ignore_cleanup_errors=True)
os.environ["HF_HOME"] = _cache.name
for name in ("HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(name, None)

import pytest  # noqa: E402
import torch  # noqa: E402

TESTS = Path(__file__).resolve().parent
BENCHMARKS = TESTS.parent / "benchmarks"
for folder in (TESTS, TESTS.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from architectures import build  # noqa: E402
from outside import SHARED  # noqa: E402

from workbench.loading import models  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums in one order, so that exact comparisons are meant as such."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_random_state() -> Iterator[None]:
    """A test that forgets its seed still sees the same numbers alone and among others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def stories() -> models.LM:
    """A real language model of 260 thousand parameters: 5 layers, width 64, 512 tokens."""
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("../shared/models/stories260K is missing")
    return models.load(folder)


@pytest.fixture(scope="session")
def tiny() -> models.LM:
    """A random Llama with a chat template: 3 layers, width 32, 320 tokens, context 128."""
    return build("llama")


@pytest.fixture(scope="module")
def benchmark_script() -> Iterator[Callable[[str], Any]]:
    """Imports a script of benchmarks/ by its name. Nothing of it stays behind."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(BENCHMARKS)):
                del sys.modules[name]
