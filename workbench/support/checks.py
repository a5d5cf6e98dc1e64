"""What counts as a number, as a list, and as a model, among the arguments of a call.

Python takes True for 1 and lets "0.5" through until something multiplies it; here neither is a
number. This module knows nothing of what the numbers are for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any


def number(value: object) -> float:
    """`value` as a float; NaN, which lies in no range, for what is no number (True, "0.5", None) or
    too large for a float (10**400)."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def check_whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """`value` as an int.

    Raises ValueError unless it is a whole number of at least `least`, and of at most `most`; True
    and 1.0 are none.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        whole = int(value)
        if least <= whole and (most is None or whole <= most):
            return whole
    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name} {value!r}: give a whole number {span}")


def check_positive(name: str, value: object) -> float:
    """`value` as a float. Raises ValueError unless it is a finite number above 0."""
    size = number(value)
    if not 0 < size < math.inf:
        raise ValueError(f"{name} {value!r}: give a positive number")
    return size


def require_lists(**given: Sequence[object] | None) -> None:
    """Raise ValueError for a list that is one text instead, which would be read letter by letter,
    or one number."""
    for name, texts in given.items():
        if isinstance(texts, Real):
            raise ValueError(f"{name} {texts!r} is not a list; give {name}=[{texts!r}]")
        if isinstance(texts, str):
            raise ValueError(f"{name} is one text, {texts[:200]!r}; give a list: [{texts[:20]!r}]")


def require_frame(frame: object, wanted: str) -> None:
    """Raise ValueError, saying what is wanted, for what has no columns as a pandas frame has."""
    if not hasattr(frame, "columns"):
        raise ValueError(f"frame is {_short(frame)}; give {wanted}")


def require_columns(frame: Any, needed: Collection[str], wanted: str) -> None:
    """Raise ValueError, saying what is wanted, for what is no frame, or one that lacks a column."""
    require_frame(frame, wanted)
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise ValueError(f"the frame lacks the columns {missing}; give {wanted}")


def _short(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:79]}…"


def require_layers(layers: object) -> None:
    """Raise ValueError for layers that are neither a list of numbers nor None, which leaves the
    choice to the call: one number, or a text."""
    if layers is None:
        return
    if isinstance(layers, Real):
        raise ValueError(f"layers {layers!r} is not a list; give layers=[{layers!r}]")
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise ValueError(
            f"layers {repr(layers)[:200]}: give a list of layers by number, such as layers=[2, 3]"
        )


def require_model(lm: object) -> None:
    """Raise ValueError for the name or the folder of a model in the model's place."""
    if isinstance(lm, str | PathLike):
        named = str(lm)
        raise ValueError(f"lm is {named!r}, not a model; give workbench.load({named!r})")
