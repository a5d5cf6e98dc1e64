"""The job "loss": how likely both answers of every pair are under an intervention.

What is measured is the vector, LoRA or local weight that lies in its folder, read when the job
starts. At m = 0 nothing is steered, and the losses are the model's own. All coefficients of a
combination are measured in one go, since what lies below the intervention is the same for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from workbench.preference.odds import odds, remarks
from workbench.runs.checking import usable
from workbench.runs.jobs import Job
from workbench.runs.layouts import raw
from workbench.runs.records import plain
from workbench.runs.work import Work, in_parts
from workbench.runs.writing import hash_of, restricted
from workbench.training.trained import Trained

# Pairs of one piece: what a kill may cost.
_PIECE = 32
_COLUMNS = (
    "pair",
    "m",
    "loss_positive",
    "loss_negative",
    "unsteered_positive",
    "unsteered_negative",
    "preference",
    "utility",
    "likelihood",
    "tokens_positive",
    "tokens_negative",
    "begins_alike",
)


def decides(work: Work, job: Job, weights: str | None, result: Trained | None) -> dict[str, Any]:
    """All that decides the losses. Raises ValueError where the split has no pairs."""
    values = work.hyper.applying(job.combination)
    pairs = work.pairs(
        job.combination, work.options.split, values["use_chat_template"], values["system_prompt"]
    )
    return plain(
        {
            "stage": job.stage,
            "weights": weights,
            "intervention": None if result is None else hash_of(result),
            "m": job.m,
            "split": work.options.split,
            "pairs": pairs.fingerprint,
            "bad_pairs": work.options.bad_pairs,
            "layers": values["layers"],
            "chat": [values["use_chat_template"], values["system_prompt"]],
        }
    )


def measure(
    work: Work, jobs: list[Job], causes: dict[str, Any], result: Trained
) -> tuple[dict[float, list[Path]], list[str]]:
    """Measure and write the losses of one combination at the coefficients of some jobs.

    Returns the files of each coefficient, and sentences about all of them.
    Raises Stopped between pieces, and ValueError for pairs that the model cannot read.
    """
    own, chat = jobs[0].combination, causes["chat"]
    pairs = work.pairs(own, work.options.split, chat[0], chat[1])
    pairs, said = usable(work.lm, pairs, None, work.options.bad_pairs)
    steered = raw(restricted(result, causes["layers"]), 1.0)
    wanted = [float(job.m or 0.0) for job in jobs]
    grid = sorted({0.0, *wanted})
    key = plain({**causes, "m": grid})

    def piece(index: int) -> pd.DataFrame:
        start = index * _PIECE
        found = odds(work.lm, steered, pairs[start : start + _PIECE], grid, quiet=True)
        return found.assign(pair=found["pair"] + start)

    count = -(-len(pairs) // _PIECE)
    frame = in_parts(jobs[0].folder, key, count, piece, work.stop)
    unsteered = frame[frame["m"] == 0].set_index("pair")
    for side in ("positive", "negative"):
        frame[f"unsteered_{side}"] = frame["pair"].map(unsteered[f"loss_{side}"])
    files = {
        m: work.layout.save_losses(frame[frame["m"] == m][list(_COLUMNS)], own, m) for m in wanted
    }
    return files, said + remarks(frame, result, pairs)
