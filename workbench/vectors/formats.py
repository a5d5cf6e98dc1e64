"""Steering vectors of other tools: repeng's ControlVector, GGUF, raw tensors in .pt files. The
.svec files of conditional activation steering are in svec.py.

Layer numbers are the same everywhere: `direction.3` is the output of decoder layer 3, counted
from 0. Foreign files say nothing of residual norms, so their vectors are steered with unit="raw"
until `workbench.extraction.extract.with_norms` measures them.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import torch
from torch import Tensor

from workbench.support.store import write_atomically
from workbench.vectors.files import describe, layer_of, restore
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from repeng import ControlVector

_ARCHITECTURE = "controlvector"
#: The key of another tool's format under which a vector of this package says all it knows.
EXTRA = "workbench.vector"


def to_repeng(vector: SteeringVector) -> ControlVector:
    """The same numbers as a repeng ControlVector. Raises ImportError when repeng is missing."""
    try:
        from repeng import ControlVector
    except ImportError as error:
        raise ImportError("repeng is not installed: pip install -e '.[repeng]'") from error
    directions = {layer: tensor.numpy().copy() for layer, tensor in vector.directions.items()}
    return ControlVector(model_type=model_type(vector), directions=directions)


def from_repeng(
    control: ControlVector, *, layer: int | None = None, model: str = "", fingerprint: str = ""
) -> SteeringVector:
    """A SteeringVector of a repeng ControlVector (default layer: the middle of those it has)."""
    directions = {
        int(key): torch.from_numpy(np.array(value, dtype=np.float32))
        for key, value in control.directions.items()
    }
    return foreign(directions, layer, control.model_type, model, fingerprint, "repeng")


def save_gguf(vector: SteeringVector, path: str | os.PathLike[str]) -> None:
    """Write a GGUF control vector that repeng and llama.cpp read; what else the vector knows
    travels in a key that they ignore. Raises OSError."""

    def write(temporary: Path) -> None:
        writer = gguf.GGUFWriter(temporary, _ARCHITECTURE)
        writer.add_string(f"{_ARCHITECTURE}.model_hint", model_type(vector))
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(vector.directions))
        writer.add_string(EXTRA, json.dumps(describe(vector)))
        for layer, direction in vector.directions.items():
            writer.add_tensor(f"direction.{layer}", direction.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_atomically(Path(path), write)


def load_gguf(
    path: str | os.PathLike[str],
    *,
    layer: int | None = None,
    model: str = "",
    fingerprint: str = "",
) -> SteeringVector:
    """Read a GGUF control vector, of this package or another tool.

    `layer`, `model` and `fingerprint` say what a foreign file does not (default layer: the middle
    of those it has). A file of this package says all of it, so nothing may be given there.
    Raises FileNotFoundError, and ValueError for a damaged file, another architecture, quantised
    directions, or an argument that the file already answers.
    """
    path = existing(path)
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise ValueError(f"{str(path)!r} is no GGUF file: it begins with {magic!r}")
    try:
        reader = gguf.GGUFReader(path)
        architecture = _string(reader, "general.architecture")
        hint = _string(reader, f"{_ARCHITECTURE}.model_hint")
        extra = _string(reader, EXTRA)
        tensors = {t.name: (t.tensor_type, t.data.copy(), t.shape.tolist()) for t in reader.tensors}
    # The reader trusts every length in the file, so a damaged one fails in many ways.
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} is a damaged GGUF file ({type(error).__name__}: {error})"
        ) from None
    if architecture != _ARCHITECTURE:
        raise ValueError(
            f"{str(path)!r} holds the architecture {architecture!r}, not {_ARCHITECTURE!r}: it is "
            "no control vector"
        )
    directions = {}
    for name, (kind, data, shape) in tensors.items():
        if not name.startswith("direction."):
            continue
        if kind not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            raise ValueError(f"{str(path)!r}: {name} is stored as {kind.name}, expected F32 or F16")
        if len(shape) != 1:
            raise ValueError(f"{str(path)!r}: {name} has shape {shape}, expected (D,)")
        directions[layer_of(name)] = torch.from_numpy(np.array(data, dtype=np.float32))
    if not directions:
        raise ValueError(f"{str(path)!r} has no tensor named direction.<layer>")
    if extra is None:
        return foreign(directions, layer, hint or "", model, fingerprint, "gguf")
    return own(path, directions, extra, layer, model, fingerprint)


def load_pt(
    path: str | os.PathLike[str],
    *,
    layer: int | None = None,
    model: str = "",
    fingerprint: str = "",
) -> SteeringVector:
    """Read raw tensors that torch.save wrote: (D,) or (1, D) for one `layer`, (L, D) for layers
    0 to L - 1, or a mapping of layer number -> (D,).

    Only tensors are read (weights_only): a pickle that would run code is refused and runs nothing.
    Raises FileNotFoundError, and ValueError for other contents or when `layer` is needed.
    """
    directions = _raw_directions(read_pt(path), layer, str(path))
    return foreign(directions, layer, "", model, fingerprint, "raw tensor")


def read_pt(path: str | os.PathLike[str]) -> Any:
    """What torch.save wrote, on the CPU: tensors, numbers, texts, lists and dictionaries of them.

    Nothing else is read (weights_only): a pickle that would run code is refused and runs nothing.
    Raises FileNotFoundError, and ValueError for other contents and for a damaged file.
    """
    path = existing(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).split(". ")[0].splitlines()[0]
        raise ValueError(
            f"{str(path)!r} is not plain tensors, and was not opened further because a pickle can "
            f"run code ({first}); ask its author for safetensors"
        ) from None
    except Exception as error:
        raise ValueError(
            f"{str(path)!r} is a damaged .pt file ({type(error).__name__}: {error})"
        ) from None


def _raw_directions(content: Any, layer: int | None, path: str) -> dict[int, Tensor]:
    if isinstance(content, Mapping):
        if not content or not all(isinstance(v, Tensor) for v in content.values()):
            raise ValueError(f"{path!r} holds a mapping that is not layer -> tensor")
        try:
            return {int(key): value.squeeze() for key, value in content.items()}
        except (TypeError, ValueError):
            raise ValueError(
                f"{path!r} has keys that are not layers: {list(content)[:3]}"
            ) from None
    if not isinstance(content, Tensor):
        raise ValueError(f"{path!r} holds {type(content).__name__}, expected a tensor")
    if not content.is_floating_point() or content.ndim not in (1, 2) or content.numel() == 0:
        raise ValueError(
            f"{path!r} holds a {content.dtype} tensor of shape {tuple(content.shape)}, expected "
            "floating point numbers of shape (D,), (1, D) or (L, D)"
        )
    if content.ndim == 2 and len(content) > 1:
        return dict(enumerate(content))
    if layer is None:
        raise ValueError(f"{path!r} holds one vector and no layer; say which one with layer=")
    return {layer: content.reshape(-1)}


def own(
    path: Path,
    directions: Mapping[int, Tensor],
    about: str,
    layer: int | None,
    model: str,
    fingerprint: str,
) -> SteeringVector:
    """A vector of this package in the format of another tool, from the JSON text beside it.

    Raises ValueError for text that `files.describe` did not make, and for a layer, a model or a
    fingerprint that is given although the text says it.
    """
    try:
        vector = restore(directions, json.loads(about))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r}: its {EXTRA} key is damaged: {error}") from None
    if layer is not None or model or fingerprint:
        raise ValueError(
            f"{str(path)!r} is of this package and knows its layer ({vector.layer}), model "
            f"({vector.model!r}) and fingerprint, so layer={layer!r}, model={model!r}, "
            f"fingerprint={fingerprint!r} cannot be given; load it without them and change the "
            "vector with dataclasses.replace"
        )
    return vector


def foreign(
    directions: Mapping[int, Tensor],
    layer: int | None,
    model_type: str,
    model: str,
    fingerprint: str,
    kind: str,
) -> SteeringVector:
    """A vector of another tool, of which its file says no more than directions (default layer: the
    middle of those it has)."""
    known = sorted(directions)
    chosen = known[len(known) // 2] if layer is None else layer
    return SteeringVector(
        directions=directions,
        residual_norm={},
        model=model or model_type or "unknown",
        fingerprint=fingerprint,
        method=f"imported ({kind})",
        layer=chosen,
        provenance={
            "model_type": model_type,
            "layer_choice": "as asked" if layer is not None else "the middle one of the file",
        },
    )


def model_type(vector: SteeringVector) -> str:
    """The architecture of a vector's model, or the model's name where that is not known."""
    return str(vector.provenance.get("model_type") or vector.model)


def _string(reader: gguf.GGUFReader, key: str) -> str | None:
    entry = reader.get_field(key)
    if entry is None:
        return None
    if entry.types != [gguf.GGUFValueType.STRING]:
        raise ValueError(f"{key} is not a string")
    return bytes(entry.parts[-1]).decode("utf-8", errors="replace")


def existing(path: str | os.PathLike[str]) -> Path:
    """The path of a file. Raises FileNotFoundError where there is none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {str(path)!r}")
    return path
