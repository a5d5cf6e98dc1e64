"""EasyEdit's files, as the code of "Why Steering Works" writes and reads them.

    layer_<L>.pt              vector (D,), or (n, D) with one row for each concept
                              LoRA {lora_A (I, r), lora_B (r, D), r, alpha, …}
                              local weight {weight (I, D), bias (D,), …}
                              either of the last two also as {concept_id: such a dictionary}
    metadata_layer_<L>.jsonl  one line a concept: concept_id, concept, ref "vector_index_<row>", …
    <data>_results.json       a list of {input, orig_pred, pred, reference_response,
                              complete_output}, texts in lists, one entry for each response
    train_losses.csv          epoch, step, pos_steer_loss, …, one row a step

Layers are counted from 0. alpha is stored there and never used: the change is m x A B. What the
files have no place for (the model, its fingerprint, how a change was made) stands in a key of the
metadata that EasyEdit ignores. .pt files are read without running anything (formats.read_pt).
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.support.store import write_atomically
from workbench.training.trained import Trained
from workbench.vectors.formats import read_pt
from workbench.vectors.forms import LocalWeight, LoRA
from workbench.vectors.steering_vector import SteeringVector

FORMS = ("vector", "lora", "local_weight")
_KEYS = {"lora": ("lora_A", "lora_B"), "local_weight": ("weight", "bias")}
_OWN = "workbench"
RESULT_KEYS = ("input", "orig_pred", "pred", "reference_response", "complete_output")
_FACTOR = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def save_layers(
    result: Trained,
    directory: str | os.PathLike[str],
    *,
    concept: str = "",
    concept_id: int = 0,
) -> list[Path]:
    """Write layer_<L>.pt and metadata_layer_<L>.jsonl for every layer; returns their paths.

    Files that are there are replaced, whole or not at all. Raises OSError (a full disk, say).
    """
    folder, written = Path(directory), []
    for layer in result.layers:
        about: dict[str, Any] = {"concept_id": concept_id}
        if isinstance(result, SteeringVector):
            content: Any = result.directions[layer].clone()
        else:
            change = result.changes[layer]
            about["intervention_components"] = "mlp_mid"
            if isinstance(change, AddLowRank):
                rank = change.a.shape[1]
                content = {"lora_A": change.a.clone(), "lora_B": change.b.clone()}
                content |= {"r": rank, "alpha": rank}
                about |= {"rank": rank, "alpha": rank}
            else:
                content = {"weight": change.weight.clone(), "bias": change.bias.clone()}
            content |= {"intervention_components": "mlp_mid", "concept_id": concept_id}
        about |= {"concept": concept, "ref": "vector_index_0", _OWN: _origin(result, layer)}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        places = folder / f"layer_{layer}.pt", folder / f"metadata_layer_{layer}.jsonl"
        write_atomically(places[0], buffer.getvalue())
        write_atomically(places[1], (json.dumps(about) + "\n").encode())
        written += places
    return written


def load_layers(
    directory: str | os.PathLike[str],
    form: str,
    *,
    layers: Sequence[int] | None = None,
    concept_id: int = 0,
    model: str = "unknown",
) -> Trained:
    """What EasyEdit, or `save_layers`, wrote of one concept: a vector, LoRA or local weight.

    form        "vector", "lora" or "local_weight"
    layers      which files to read, by default all of them
    concept_id  which concept of files that hold several
    model       the name of the model that it was made for, where the files do not say

    A vector's coefficient is in its own length: `vector.at(m, unit="raw", layers=vector.layers)`.
    Raises FileNotFoundError where there is no such file, and ValueError for one that is damaged,
    holds another form, or lacks the concept.
    """
    if form not in FORMS:
        raise ValueError(f"form {form!r} is unknown; choose one of {', '.join(FORMS)}")
    folder = Path(directory)
    chosen = sorted(known_layers(folder) if layers is None else layers)
    if not chosen:
        raise FileNotFoundError(f"no layer_<number>.pt in {str(folder)!r}")
    found: dict[int, Any] = {}
    origin: dict[str, Any] = {}
    for layer in chosen:
        path = folder / f"layer_{layer}.pt"
        notes = _notes(folder / f"metadata_layer_{layer}.jsonl")
        content = _of_concept(read_pt(path), notes, concept_id, path)
        found[layer] = _change(content, form, path)
        own = next((n.get(_OWN) for n in notes if n.get("concept_id") == concept_id), None)
        origin = own if isinstance(own, dict) else origin
    about = {
        "model": str(origin.get("model") or model),
        "fingerprint": str(origin.get("fingerprint") or ""),
        "method": str(origin.get("method") or "imported (EasyEdit)"),
        "provenance": dict(origin.get("provenance") or {}),
    }
    if form == "vector":
        norms = {int(k): float(v) for k, v in (origin.get("residual_norm") or {}).items()}
        middle = chosen[len(chosen) // 2]
        return SteeringVector(directions=found, residual_norm=norms, layer=middle, **about)
    return (LoRA if form == "lora" else LocalWeight)(found, **about)


def known_layers(directory: Path) -> list[int]:
    """The layers of which a folder has a file."""
    names = (re.fullmatch(r"layer_(\d{1,6})\.pt", path.name) for path in directory.glob("*.pt"))
    return sorted(int(name[1]) for name in names if name is not None)


def _origin(result: Trained, layer: int) -> dict[str, Any]:
    about: dict[str, Any] = {
        "model": result.model,
        "fingerprint": result.fingerprint,
        "method": result.method,
        "provenance": dict(result.provenance),
    }
    if isinstance(result, SteeringVector):
        about["residual_norm"] = {str(k): v for k, v in result.residual_norm.items()}
    return about


def _notes(path: Path) -> list[dict[str, Any]]:
    """The lines of a metadata file; none where there is no file. The last of a concept counts."""
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"{str(path)!r} holds a line that is no JSON object")
    return lines[::-1]


def _of_concept(content: Any, notes: Sequence[Mapping], concept_id: int, path: Path) -> Any:
    """The part of a file that belongs to one concept."""
    if isinstance(content, Tensor) and content.ndim == 2 and len(content) > 1:
        said = next((n.get("ref") for n in notes if n.get("concept_id") == concept_id), None)
        row = int(str(said).rsplit("_", 1)[-1]) if said is not None else concept_id
        if (notes and said is None) or not 0 <= row < len(content):
            held = sorted(int(n["concept_id"]) for n in notes) or f"0 to {len(content) - 1}"
            raise ValueError(f"{str(path)!r} has no concept {concept_id}: it has {held}")
        return content[row]
    if isinstance(content, Mapping) and content and all(isinstance(k, int) for k in content):
        if concept_id not in content:
            raise ValueError(f"{str(path)!r} has no concept {concept_id}: it has {list(content)}")
        return content[concept_id]
    return content


def _change(content: Any, form: str, path: Path) -> Any:
    """A direction (D,), or the update of a weight. Raises ValueError for another form."""
    held = _form_of(content)
    if held != form:
        raise ValueError(
            f"{str(path)!r} holds {held or type(content).__name__}, not a {form.replace('_', ' ')}"
        )
    try:
        if form == "vector":
            return content.reshape(-1).float()
        one, other = (content[key].float() for key in _KEYS[form])
        return AddLowRank(one, other) if form == "lora" else AddLinear(one, other)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{str(path)!r}: {error}") from None


def _form_of(content: Any) -> str | None:
    if isinstance(content, Tensor):
        one = content.is_floating_point() and content.numel() and content.ndim in (1, 2)
        return "vector" if one and content.numel() == content.shape[-1] else None
    if isinstance(content, Mapping):
        for form, keys in _KEYS.items():
            if all(isinstance(content.get(key), Tensor) for key in keys):
                return form
    return None


def save_results(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write texts as EasyEdit does: a list of objects with `RESULT_KEYS`. Raises OSError."""
    plain = [{key: row[key] for key in RESULT_KEYS} for row in rows]
    content = json.dumps(plain, indent=4, ensure_ascii=False)
    write_atomically(Path(path), content.encode("utf-8", errors="surrogatepass"))


def load_results(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read texts that EasyEdit, or `save_results`, wrote.

    Raises FileNotFoundError, and ValueError for a file that is no such list.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no results at {str(path)!r}")
    try:
        rows = json.loads(path.read_text("utf-8", errors="surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{str(path)!r} holds no list of results")
    for index, row in enumerate(rows):
        missing = [key for key in ("input", "pred") if key not in row]
        if missing:
            raise ValueError(f"{str(path)!r}, result {index} lacks {missing[0]!r}: it has {[*row]}")
    return [{key: row.get(key) for key in RESULT_KEYS} for row in rows]


def save_losses(
    losses: Sequence[float], factor: float, path: str | os.PathLike[str], *, epoch: int = 0
) -> None:
    """Write losses as EasyEdit's train_losses.csv, one row a step, in place of what was there.

    losses  nats per token of each step's answers; factor: the coefficient that they were steered by
    """
    steps = range(len(losses))
    frame = pd.DataFrame(
        {
            "epoch": epoch,
            "step": list(steps),
            "pos_steer_loss": [float(loss) for loss in losses],
            "pos_steering_factors": float(factor),
            "neg_steering_factors": float(factor),
        }
    )
    write_atomically(Path(path), frame.to_csv(index=False).encode())


def load_losses(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read train_losses.csv: columns epoch, step, loss (nats per token) and factor, one row a step.

    Raises FileNotFoundError, and ValueError for a file without those columns.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no losses at {str(path)!r}")
    frame = pd.read_csv(path)
    wanted = ("epoch", "step", "pos_steer_loss", "pos_steering_factors")
    missing = [name for name in wanted if name not in frame]
    if missing:
        raise ValueError(f"{str(path)!r} has no column {missing[0]!r}: it has {[*frame.columns]}")
    factors = [_FACTOR.search(str(value)) for value in frame["pos_steering_factors"]]
    return pd.DataFrame(
        {
            "epoch": frame["epoch"].astype(int),
            "step": frame["step"].astype(int),
            "loss": frame["pos_steer_loss"].astype(float),
            "factor": [float(found[0]) if found else float("nan") for found in factors],
        }
    )
