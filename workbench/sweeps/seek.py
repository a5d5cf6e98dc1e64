"""A sweep that chooses its own coefficients: bracket where texts break, then halve the bracket.

A grid spends most of its texts where nothing is to be learnt: far below the ceiling all texts are
intact, far beyond it none. Here each round looks, at either sign, where the share of intact texts
passes the bounds that `find_ceiling` reads (ceiling.py), and writes texts only there:

bracket   outwards by doubling while half of the texts are intact, inwards by halving while even the
          innermost coefficient breaks them
halve     a cell that holds the ceiling or the recommended coefficient, at its geometric middle,
          until its ends are within the tolerance of each other

All rounds share the noise of each prompt, so that the frame is that of one sweep over the
coefficients that were tried. Bisection of a noisy curve: each round halves what the texts so far
say, and is not undone; the interval of `find_ceiling` knows nothing of the choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.statistics.crossings import CEILING_SHARE, RECOMMENDED_SHARE, Bools, settled
from workbench.statistics.curves import Floats
from workbench.support.checks import number
from workbench.sweeps.breakage import intact
from workbench.sweeps.frames import coefficient_axis
from workbench.sweeps.movement import Table
from workbench.sweeps.rounds import joined
from workbench.sweeps.sweep import sweep
from workbench.text.tokens import Prompt
from workbench.vectors.steerable import Steerable

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Of the reach: where the search begins, and below which it gives up.
FIRST, LEAST = 1 / 4, 1 / 64


def seek(
    lm: LM,
    steered: Steerable,
    prompts: Sequence[Prompt],
    *,
    reach: float = 2.0,
    tolerance: float = 0.2,
    directory: str | Path | None = None,
    prompted: Sequence[Prompt] = (),
    **options: Any,
) -> pd.DataFrame:
    """A sweep over as few coefficients as the ceiling and the recommended one need, both signs.

    reach      the largest coefficient to try, in the sweep's unit (by default residual norms
               for a vector, multiples m for a LoRA or local weight)
    tolerance  how far apart the ends of the cell of a mark may be: outer / inner - 1
    directory  where rounds are kept, each in a folder of its own, so that a search that was killed
               goes on where it was
    options    as for `sweep`, but for the coefficients

    The frame is as `sweep` returns it, to be read by `find_ceiling`; `attrs["rounds"]` holds the
    coefficients of each round. A stopped search is incomplete, as a stopped sweep is. Raises
    ValueError for a reach or a tolerance that is not positive, and as `sweep`.
    """
    for name, value in (("reach", reach), ("tolerance", tolerance)):
        if not 0 < number(value) < math.inf:
            raise ValueError(f"{name} {value!r}: give a positive number")
    if "coefficients" in options:
        raise ValueError("seek chooses the coefficients itself: give reach=, or use sweep")
    first = reach * FIRST
    rounds: list[list[float]] = [[-first, 0.0, first]]
    frames: list[pd.DataFrame] = []
    while True:
        frames.append(
            sweep(
                lm,
                steered,
                prompts,
                rounds[-1],
                directory=None if directory is None else Path(directory) / f"round-{len(rounds)}",
                prompted=prompted if len(rounds) == 1 else (),
                **options,
            )
        )
        frame = joined(frames)
        frame.attrs["rounds"] = [list(tried) for tried in rounds]
        if not frames[-1].attrs["complete"]:
            return frame
        wanted = refinements(frame, reach, tolerance)
        if not wanted:
            return frame
        rounds.append(wanted)


def refinements(frame: pd.DataFrame, reach: float, tolerance: float) -> list[float]:
    """The coefficients that the next round needs, of both signs; none where all is known."""
    judged = intact(frame)
    own = judged[judged["vector"] == "vector"]
    axis, _ = coefficient_axis(own)
    found: set[float] = set()
    for sign in (-1, 1):
        side = Table.of(own, axis, sign)
        whole = side.values("intact") > 0.5
        whole = whole[whole[:, 0]]  # as `find_ceiling`: the prompts that are intact unsteered
        found |= {sign * size for size in next_sizes(side.grid, whole, reach, tolerance)}
    return sorted(found)


def next_sizes(grid: Floats, whole: Bools, reach: float, tolerance: float) -> set[float]:
    """The sizes that one side needs next.

    grid   (K,) sizes tried so far, from 0 outwards
    whole  (P, K) whether each text is intact, of prompts that are so at 0
    """
    if len(whole) == 0:
        return set()
    sizes = set()
    for bound in (CEILING_SHARE, RECOMMENDED_SHARE):
        below = np.flatnonzero(settled(whole.astype(float), bound) < bound)
        if len(below) == 0:
            if grid[-1] < reach:
                sizes.add(min(2 * float(grid[-1]), reach))
            continue
        inner, outer = float(grid[below[0] - 1]), float(grid[below[0]])
        if inner == 0:
            if outer > reach * LEAST:
                sizes.add(outer / 2)
        elif outer > inner * (1 + tolerance):
            sizes.add(math.sqrt(inner * outer))
    return sizes
