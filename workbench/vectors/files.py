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
# Endings of other formats, and what writes a vector in them.
_PICKLED = ", or write a raw tensor with torch.save(vector.directions[layer], path)"
_OTHERS = {
    ".pt": _PICKLED,
    ".pth": _PICKLED,
    ".bin": _PICKLED,
    ".gguf": "; from workbench.vectors.formats import save_gguf writes .gguf",
    ".svec": "; from workbench.vectors.svec import save_svec writes .svec",
}


def save(vector: SteeringVector, path: str | os.PathLike[str]) -> None:
    """Write one safetensors file, whole or not at all. Raises ValueError for a name that ends as
    another tool's file does, and OSError (a full disk, say)."""
    require_own_name(path)
    tensors = {f"direction.{k}": v.contiguous() for k, v in vector.directions.items()}
    metadata = {"format": _FORMAT, "vector": json.dumps(describe(vector))}
    write_atomically(Path(path), safetensors.torch.save(tensors, metadata))


def require_own_name(path: str | os.PathLike[str], *, a_vector: bool = True) -> None:
    """Raise ValueError for a file name that ends as another tool's file does: that tool could not
    read what would lie under it. Of a vector the message names what writes that format."""
    suffix = Path(path).suffix.lower()
    if suffix in _OTHERS:
        raise ValueError(
            f"{os.fspath(path)!r}: this writes safetensors, whatever the name; end it in "
            f"'.safetensors'{_OTHERS[suffix] if a_vector else ''}"
        )


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
