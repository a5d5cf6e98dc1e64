"""A reference as one safetensors file, with all that it knows; whole, or not there.

What is kept is checked against its own hash when it is read (store.py); nothing in it is ever run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from workbench.forward.reference import Reference
from workbench.statistics.moments import Moments
from workbench.support.store import load_tensors, save_tensors

_FORMAT = "workbench.reference/1"


def save(reference: Reference, path: str | os.PathLike[str]) -> None:
    """Write a reference. Raises OSError (a full disk, say)."""
    save_tensors(Path(path), pack(reference))


def load(path: str | os.PathLike[str]) -> Reference:
    """Read what `save` wrote.

    Raises FileNotFoundError, and ValueError for a file that is damaged or holds something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no reference at {str(path)!r}")
    tensors = load_tensors(Path(path))
    try:
        return unpack(tensors or {})
    except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{str(path)!r} is damaged or holds no reference of this package ({error}); collect "
            "it again"
        ) from None


def pack(reference: Reference) -> dict[str, Tensor]:
    """A reference as tensors by name."""
    found = {
        "documents": torch.from_numpy(reference.documents.copy()),
        "positions": torch.from_numpy(reference.positions.copy()),
    }
    for layer in reference.layers:
        found[f"sample.{layer}"] = torch.from_numpy(reference.samples[layer].copy())
        for number, part in enumerate(reference.folds[layer]):
            found[f"mean.{layer}.{number}"] = torch.from_numpy(part.mean.copy())
            found[f"scatter.{layer}.{number}"] = torch.from_numpy(
                np.ascontiguousarray(np.tril(part.scatter))
            )
    about = {
        "format": _FORMAT,
        "counts": {
            str(layer): [p.count for p in reference.folds[layer]] for layer in reference.layers
        },
        "lengths": reference.lengths.to_dict("list"),
        "unit": reference.unit,
        "skip": reference.skip,
        "rule": reference.rule,
        "provenance": dict(reference.provenance),
    }
    letters = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    return {**found, "about": torch.from_numpy(letters.copy())}


def unpack(tensors: Mapping[str, Tensor]) -> Reference:
    """What `pack` packed. Raises KeyError, TypeError or ValueError for anything else."""
    about = json.loads(bytes(tensors["about"].numpy()))
    if about["format"] != _FORMAT:
        raise ValueError(f"format {about['format']!r}, expected {_FORMAT!r}")
    folds, samples = {}, {}
    for name, counts in about["counts"].items():
        layer = int(name)
        samples[layer] = tensors[f"sample.{layer}"].numpy()
        folds[layer] = [
            Moments.restored(
                count,
                tensors[f"mean.{layer}.{number}"].numpy(),
                tensors[f"scatter.{layer}.{number}"].numpy(),
            )
            for number, count in enumerate(counts)
        ]
    return Reference(
        folds=folds,
        samples=samples,
        documents=tensors["documents"].numpy(),
        positions=tensors["positions"].numpy(),
        lengths=pd.DataFrame(about["lengths"]),
        unit=bool(about["unit"]),
        skip=int(about["skip"]),
        rule=str(about["rule"]),
        provenance=dict(about["provenance"]),
    )
