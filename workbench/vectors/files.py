"""Steering vectors as files of our own: one safetensors file, with all that the vector knows.

`direction.3` is the output of decoder layer 3, counted from 0. Files of other tools are read and
written in formats.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
from torch import Tensor

from workbench.support.store import read_tensors, write_atomically
from workbench.vectors.steering_vector import SteeringVector

_FORMAT = "workbench.vector/1"
# Endings of other formats, and what writes them.
_OTHERS = {
    ".gguf": "from workbench.vectors.formats import save_gguf writes .gguf",
    ".svec": "from workbench.vectors.svec import save_svec writes .svec",
    ".pt": "formats.load_pt reads .pt and nothing here writes it",
    ".pth": "formats.load_pt reads .pth and nothing here writes it",
    ".bin": "formats.load_pt reads .bin and nothing here writes it",
}


def save(vector: SteeringVector, path: str | os.PathLike[str]) -> None:
    """Write one safetensors file, whole or not at all.

    Raises ValueError for the ending of another format, and OSError (a full disk, say).
    """
    place = Path(path)
    other = _OTHERS.get(place.suffix.lower())
    if other is not None:
        raise ValueError(
            f"{str(place)!r} would be a safetensors file under another format's ending: name it "
            f"{place.with_suffix('.safetensors').name!r}; {other}"
        )
    tensors = {f"direction.{k}": v.contiguous() for k, v in vector.directions.items()}
    metadata = {"format": _FORMAT, "vector": json.dumps(describe(vector))}
    write_atomically(place, safetensors.torch.save(tensors, metadata))


def load(path: str | os.PathLike[str]) -> SteeringVector:
    """Read what `save` wrote; nothing in the file is ever run.

    Raises FileNotFoundError, and ValueError for a file that is damaged or holds something else.
    """
    metadata, tensors = read_tensors(
        Path(path),
        "steering vector",
        _FORMAT,
        otherwise=": from workbench.vectors.formats import load_pt reads .pt tensors, "
        "from workbench.vectors.formats import load_gguf reads .gguf, "
        "from workbench.vectors.svec import load_svec reads .svec",
    )
    try:
        about = json.loads(metadata["vector"])
        directions = {layer_of(name): tensor for name, tensor in tensors.items()}
        return restore(directions, about)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is a damaged steering vector: {error}") from None


def describe(vector: SteeringVector) -> dict[str, Any]:
    """All of a vector but its directions, as JSON values; `restore` reads it back."""
    table = None if vector.separation is None else vector.separation.to_dict("list")
    return {
        "residual_norm": {str(k): v for k, v in vector.residual_norm.items()},
        "model": vector.model,
        "fingerprint": vector.fingerprint,
        "method": vector.method,
        "layer": vector.layer,
        "separation": table,
        "provenance": dict(vector.provenance),
    }


def restore(directions: Mapping[int, Tensor], about: Mapping[str, Any]) -> SteeringVector:
    """A vector from its directions and what `describe` said of it."""
    table = about["separation"]
    return SteeringVector(
        directions=directions,
        residual_norm={int(k): float(v) for k, v in about["residual_norm"].items()},
        model=str(about["model"]),
        fingerprint=str(about["fingerprint"]),
        method=str(about["method"]),
        layer=int(about["layer"]),
        separation=None if table is None else pd.DataFrame(table),
        provenance=dict(about["provenance"]),
    )


def layer_of(name: str) -> int:
    """The layer of the tensor "direction.<layer>". Raises ValueError for another name."""
    match = re.fullmatch(r"direction\.(\d{1,6})", name)
    if match is None:
        raise ValueError(f"unexpected tensor {name!r}; expected 'direction.<layer>'")
    return int(match[1])
