"""What a notebook shows to be touched: the live demo.

Every widget is a thin face of a plain function, so that a notebook with it runs to its end without
a reader, too: `workbench.demo.work` trains, sweeps and writes, `workbench.demo.session` does so in
the background.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workbench import models
from workbench.demo.app import Demo
from workbench.demo.app import demo as _demo

if TYPE_CHECKING:
    from workbench.models import LM

__all__ = ["Demo", "demo"]


def demo(model: LM | str | Path = "wren", *, seed: int = 0, folder: str | Path = "kept") -> Demo:
    """The live demo: choose, train and sweep, steer, keep.

    model   a loaded model, "wren", a hub id or a path
    seed    of the data's split and of the sweep
    folder  where vectors, figures and states are kept, made when the first one is

    It shows itself in a notebook. `demo(...).snapshot()` trains and shows both texts without a
    page; `close()` ends its thread. Raises as `models.load`.
    """
    lm = model if isinstance(model, models.LM) else models.load(model)
    return _demo(lm, seed=seed, folder=folder)
