"""The job "export": a LoRA as a PEFT adapter, a vector as a GGUF control vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench.runs.jobs import Job
from workbench.runs.records import plain
from workbench.runs.work import Work
from workbench.runs.writing import hash_of
from workbench.training.trained import Trained
from workbench.vectors.adapters import save_peft
from workbench.vectors.formats import save_gguf
from workbench.vectors.forms import LoRA
from workbench.vectors.steering_vector import SteeringVector


def decides(work: Work, job: Job, weights: str | None, result: Trained | None) -> dict[str, Any]:
    """All that decides the files."""
    return plain(
        {
            "stage": job.stage,
            "kind": job.kind,
            "weights": weights,
            "intervention": None if result is None else hash_of(result),
            "m": job.m,
        }
    )


def export(work: Work, job: Job, result: Trained) -> tuple[list[Path], list[str]]:
    """Write the files of another tool; returns them and how they are loaded.

    Raises ValueError for a result that it cannot hold.
    """
    if job.kind == "gguf" and isinstance(result, SteeringVector):
        path = job.folder / "vector.gguf"
        save_gguf(result, path)
        # Its length is m = 1, as that of the vector.
        return [path], [f"llama.cpp: --control-vector-scaled {path}:M, repeng: import_gguf"]
    if job.kind == "peft" and isinstance(result, LoRA):
        save_peft(result, work.lm, job.folder, coefficient=job.m or 0.0)
        names = ("adapter_model.safetensors", "adapter_config.json")
        said = f"PeftModel.from_pretrained(model, {str(job.folder)!r}) is the model at m {job.m:g}"
        return [job.folder / name for name in names], [said]
    raise ValueError(f"{result!r} cannot be exported as {job.kind}")
