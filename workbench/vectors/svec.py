"""Vectors of the library of conditional activation steering: .svec, a JSON file.

    {"model_type": …, "directions": {"0": [D numbers], …}, "explained_variances": {"0": …, …}}

Lee et al. 2024, https://arxiv.org/abs/2409.05907. Direction 3 is of the output of decoder layer 3,
as everywhere here; but that library adds it to the *input* of layer 3.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.support.checks import number
from workbench.support.store import write_atomically
from workbench.vectors.files import describe
from workbench.vectors.formats import EXTRA, existing, foreign, model_type, own
from workbench.vectors.steering_vector import SteeringVector

# A vector of a hundred layers 16 384 wide takes some 40 MB.
_LARGEST = 1 << 30


def save_svec(vector: SteeringVector, path: str | os.PathLike[str]) -> None:
    """Write a .svec file that the library reads, its name as given. Raises OSError.

    What else the vector knows travels in a key that the library passes over and drops when it saves
    again: the default layer, the residual norms (its strengths are in the model's own units, as
    unit="raw" here), the weights it was made on, the texts that made it, held-out separation. A
    vector that no PCA made has no explained variances.
    """
    content = {
        "model_type": model_type(vector),
        "directions": {str(k): direction.tolist() for k, direction in vector.directions.items()},
        "explained_variances": {str(k): share for k, share in vector.explained_variance.items()},
        EXTRA: json.dumps(describe(vector)),
    }
    write_atomically(Path(path), json.dumps(content).encode())


def load_svec(
    path: str | os.PathLike[str],
    *,
    layer: int | None = None,
    model: str = "",
    fingerprint: str = "",
) -> SteeringVector:
    """Read a .svec file, of this package or of the library.

    `layer`, `model` and `fingerprint` say what a foreign file does not (default layer: the middle
    of those it has). A file of this package says all of it, so nothing may be given there.
    Raises FileNotFoundError, and ValueError for a file that is no such JSON or larger than 1 GB,
    for layers that are no whole numbers or stand twice, for directions of unequal widths or with
    values that are no finite numbers, and for an argument that the file already answers.
    """
    path = existing(path)
    try:
        content = _read(path)
        directions = {k: _direction(k, row) for k, row in _by_layer(content, "directions").items()}
        shares = {
            str(k): _finite(f"the explained variance of layer {k}", share)
            for k, share in _by_layer(content, "explained_variances").items()
        }
        if not directions:
            raise ValueError("it has no direction of any layer")
        kind = content.get("model_type", "")
        if not isinstance(kind, str) or not isinstance(content.get(EXTRA, ""), str):
            raise ValueError(f"its model_type is {kind!r:.60} or its {EXTRA} no text")
        made = foreign(directions, layer, kind, model, fingerprint, "svec")
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from None
    if EXTRA in content:
        return own(path, directions, content[EXTRA], layer, model, fingerprint)
    known = {"explained_variance": {"method": made.method, "layers": shares}}
    return replace(made, provenance={**made.provenance, **known})


def _read(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > _LARGEST:
        raise ValueError(f"it has {size} bytes, more than {_LARGEST}")
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(content, dict) or "directions" not in content:
        held = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"it has no 'directions', but {held}")
    return content


def _unique(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) < len(entries):
        names = [name for name, _ in entries]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.60} stands twice in one object")
    return found


def _by_layer(content: Mapping[str, Any], name: str) -> dict[int, Any]:
    given = content.get(name, {})
    if not isinstance(given, dict):
        raise ValueError(f"its {name} are {type(given).__name__}, expected layer -> values")
    for key in given:
        if not re.fullmatch(r"0|[1-9]\d{0,5}", key):
            raise ValueError(f"its {name} have the layer {key!r:.60}, expected a whole number")
    return {int(key): value for key, value in given.items()}


def _direction(layer: int, row: Any) -> Tensor:
    if not isinstance(row, list) or not row:
        raise ValueError(f"the direction of layer {layer} is {row!r:.60}, expected a list")
    return torch.tensor([_finite(f"the direction of layer {layer}", value) for value in row])


def _finite(what: str, value: Any) -> float:
    found = number(value)
    if not math.isfinite(found):
        raise ValueError(f"{what} holds {value!r:.60}, no finite number")
    return found
