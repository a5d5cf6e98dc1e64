"""How a composition study is cut and kept: questions in parts that fit a memory budget, and a file
that a study which was stopped goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.composition.results import Results, load_results
from workbench.support.checks import number
from workbench.sweeps.planning import row_bytes
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM


def parts(
    lm: LM, alone: Batch, shown: Batch, new_tokens: int, properties: int, memory: float
) -> list[slice]:
    """Rows of the questions that are answered together, alone and behind examples: as many as fit
    `memory` bytes beside the weights, one at least.

    A question alone takes a row unsteered, one for each property, and one for all together.

    Raises ValueError for a budget that is no number of bytes.
    """
    if not 1 <= number(memory) < np.inf:
        raise ValueError(f"memory {memory!r}: give a number of bytes, such as 2e9")
    widths = np.array([alone.width, shown.width])
    need = row_bytes(lm, widths, new_tokens, True) * np.array([2 + properties, 1])
    count = max(1, int(memory // need.max()))
    return [slice(start, start + count) for start in range(0, len(alone), count)]


def kept(path: str | Path, wanted: Mapping[str, Any]) -> Results | None:
    """What a former call of the same study left at `path`, whole or not; None where nothing is.

    wanted  what decides the results, as `study.about` gives it; a part of it will do

    Raises ValueError for a file that holds something else, which names what differs with both
    values.
    """
    path = Path(path)
    if not path.exists():
        return None
    held = load_results(path)
    if not held.about:
        raise ValueError(f"{str(path)!r} is not of this package; give another --output")
    # The same weights may lie in another place.
    known = {key: value for key, value in held.about.items() if key in wanted}
    same = known.get("fingerprint") == wanted.get("fingerprint", object())
    found = _differences(known, wanted, without=("model",) if same else ())
    if found:
        raise ValueError(
            f"{str(path)!r} holds another study: {'; '.join(found)}. Give another --output, or "
            "what it was made with"
        )
    return held


def complete(results: Results) -> bool:
    """Whether a study made all of its strategies."""
    return bool(results.about.get("complete", True))


def progress(results: Results) -> str:
    """How far a study is, in words."""
    made = len(results.questions[0]["output"])
    return f"{made} of {len(results.about.get('strategies', ()))} strategies"


def _differences(
    held: Mapping[str, Any], wanted: Mapping[str, Any], within: str = "", without: tuple = ()
) -> list[str]:
    """What differs, in words, by its dotted name."""
    found = []
    for key in dict.fromkeys([*wanted, *held]):
        one, other = held.get(key), wanted.get(key)
        if one == other or key in without:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, f"{within}{key}.")
        else:
            found.append(f"{within}{key} is {one!r} there and {other!r} here")
    return found
