"""What a notebook shows to be touched: the live demo.

Every widget is a thin face of a plain function, so that a notebook with it runs to its end without
a reader, too: `workbench.demo.work` trains, sweeps and writes, `workbench.demo.session` does so in
the background.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.demo import work
from workbench.demo.app import Demo
from workbench.demo.cell import close_former, this_cell
from workbench.demo.properties import Given
from workbench.demo.session import Session
from workbench.loading import models
from workbench.loading.checkpoints import BUNDLED, absolute
from workbench.support.quiet import without_bars

if TYPE_CHECKING:
    from workbench.loading.models import LM

__all__ = ["Demo", "demo"]


def demo(
    model: LM | str | Path = "wren",
    *,
    seed: int = 0,
    folder: str | Path = "kept",
    properties: Mapping[str, Given] | None = None,
) -> Demo:
    """The live demo: choose, train and sweep, steer, keep.

    model   a loaded model, "wren", a hub id or a path; the code that is copied loads by name, so
            what was changed of a loaded model since is not in it, and it says so
    seed    of the data's split and of the sweep
    folder  where vectors, figures and states are kept, made when the first one is
    properties  to compose with beside those that the demo makes itself, by name: vectors, or deltas
            as of `composition.deltas.step_deltas`, which for most models nobody else can make

    It shows itself in a notebook. `demo(...).snapshot(folder)` trains and shows both texts without
    a page; `close()` ends its thread and lets go of the model, and so does running its cell again.
    Raises ValueError for a property that is neither, and as `models.load`.
    """
    close_former(Demo)
    # A model from elsewhere may take minutes, and says so; a bundled one is there at once.
    with without_bars() if str(model) in BUNDLED else nullcontext():
        lm = model if isinstance(model, models.LM) else models.load(model)
    name = _name(lm) if isinstance(model, models.LM) else absolute(str(model))
    given = isinstance(model, models.LM)
    state = work.initial(lm, seed, model=name)
    made = Demo(Session(lm, state, given=given, properties=properties), folder)
    made.cell = this_cell()
    return made


def _name(lm: LM) -> str:
    """What loads a model again that is in memory: its path where its name is that of a folder."""
    path = Path(str(lm.model.name_or_path or "")).resolve()
    alone = lm.name not in BUNDLED and path.is_dir() and path.name == lm.name
    return str(path) if alone else lm.name
