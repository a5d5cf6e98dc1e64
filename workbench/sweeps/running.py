"""Running the chunks of a sweep: write, score and measure their texts, and stop when asked.

A chunk is done whole or not at all, and depends on its rows alone. What texts are worth is asked
elsewhere: here is only what the model itself says and what can be counted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench.forward.tracing import Remote
from workbench.generation.generate import Generation, end_ids, generate
from workbench.generation.measures import distinct, empty, longest_repeat
from workbench.generation.scoring import prompt_echoes, score
from workbench.interventions.updates import Intervention
from workbench.statistics.drift import drift
from workbench.support.store import Chunks
from workbench.sweeps.planning import OWN, Rows
from workbench.text.tokens import Batch, Prompt, encode

if TYPE_CHECKING:
    from workbench.loading.models import LM


# What every chunk has; the divergence only where it was asked for.
LOGGED = tuple(name for name in OWN if name != "kl")


@dataclass(frozen=True, eq=False)
class Work:
    """What all chunks share.

    rows     the texts to make
    prompts  what they continue, in the order of `rows.prompt`
    batch    the same, encoded together
    makers   of the vector and each control: coefficient -> interventions
    """

    lm: LM
    rows: Rows
    prompts: Sequence[Prompt]
    batch: Batch
    makers: Mapping[str, Callable[..., tuple[Intervention, ...]]]
    new_tokens: int
    temperature: float
    seed: int
    kl: bool
    remote: Remote


def run_chunks(
    work: Work,
    chunks: Sequence[np.ndarray],
    disk: Chunks | None,
    stopped: Callable[[], bool],
    *,
    memory: float,
    progress: bool,
) -> list[pd.DataFrame | None]:
    """The frame of every chunk, None for those that a stop prevented.

    chunks   the row numbers of each
    disk     where finished chunks are read from and kept
    stopped  asked at every token; the chunk that it cuts is dropped, one that is written to its
             end is scored and kept

    Texts of coefficients so large that the stream overflows are kept like others; one warning, at
    the end, names the coefficients.
    """
    parts = [None if disk is None else _load(disk, i, chunk) for i, chunk in enumerate(chunks)]
    if stopped() or all(part is not None for part in parts):
        return parts
    echoes = prompt_echoes(work.lm, work.batch, memory=memory, remote=work.remote).numpy()
    lost: list[np.ndarray] = []
    total = work.new_tokens * sum(map(len, chunks))
    done = work.new_tokens * sum(
        len(chunk) for chunk, part in zip(chunks, parts, strict=True) if part is not None
    )
    with tqdm(total=total, initial=done, desc="sweep", unit="token", disable=not progress) as bar:
        for index, chunk in enumerate(chunks):
            if parts[index] is not None:
                continue
            if stopped():
                break
            before = bar.n

            def watch(ids: torch.Tensor, scores: Any, rows: int = len(chunk), **_: Any) -> Any:
                bar.update(rows)
                return torch.full((rows,), stopped(), device=ids.device)

            frame = _run(work, chunk, echoes, watch, lost)
            if frame is None:
                break
            if disk is not None:
                disk.save(index, frame)
                frame = _load(disk, index, chunk)
            parts[index] = frame
            bar.update(work.new_tokens * len(chunk) - (bar.n - before))
    _warn(lost)
    return parts


def _warn(lost: Sequence[np.ndarray]) -> None:
    """Warn once of texts that overflowed; `lost` are the coefficients of their rows."""
    values = np.concatenate([*lost, []])
    if not len(values):
        return
    named = ", ".join(f"{value:g}" for value in np.unique(values)[:10])
    warnings.warn(
        f"{len(values)} texts mean nothing: at the coefficients {named}"
        f"{', …' if len(np.unique(values)) > 10 else ''} the model overflows its numbers, so that "
        "its logits are not finite or all alike; their rows stay in the frame, but give a smaller "
        "range of coefficients",
        stacklevel=4,
    )


def _load(disk: Chunks, index: int, chunk: np.ndarray) -> pd.DataFrame | None:
    """A chunk from disk if it holds just the rows that the plan gives it, and all columns: one
    that another version wrote is run again."""
    frame = disk.load(index)
    if frame is None or not set(LOGGED) <= set(frame.columns):
        return None
    return frame if frame["row"].tolist() == chunk.tolist() else None


def _run(
    work: Work,
    chunk: np.ndarray,
    echoes: np.ndarray,
    watch: Callable[..., Any],
    lost: list[np.ndarray],
) -> pd.DataFrame | None:
    """The frame of one chunk, or None if `watch` cut it; the coefficients of texts that
    overflowed, in the unit of the sweep, are added to `lost`."""
    part = work.rows.take(chunk)
    steered = part.interventions(work.makers)
    made = generate(
        work.lm,
        encode(work.lm, [work.prompts[i] for i in part.prompt]),
        steered,
        new_tokens=work.new_tokens,
        temperature=work.temperature,
        seed=work.seed,
        streams=part.index.tolist(),
        score=False,
        stopping=() if work.remote else (watch,),
        remote=work.remote,
        quiet=True,
    )
    final = made.ids.gather(1, made.lengths[:, None] - 1)[:, 0]
    ended = torch.isin(final, torch.tensor(end_ids(work.lm), dtype=torch.long))
    if not (ended | (made.lengths == work.new_tokens)).all():
        return None
    lost.append(part.value[made.overflowed.numpy()])
    return _measure(work, part, made, ended.numpy(), echoes[part.prompt], steered)


def _measure(
    work: Work,
    part: Rows,
    made: Generation,
    ended: np.ndarray,
    echoes: np.ndarray,
    steered: Sequence[Intervention],
) -> pd.DataFrame:
    """One row per text: what was planned, what was written, and the numbers of both models."""
    longest = int(made.lengths.max())
    written = made.batch.extend(made.ids[:, :longest], made.lengths, made.texts)
    scores = score(work.lm, written, steered_by=steered if work.kl else None, remote=work.remote)
    climb, climb_from = drift(scores.steps)
    ids, lengths = made.ids.numpy(), made.lengths.numpy()
    read = made.batch.attention.sum(dim=1).numpy() + lengths
    columns: dict[str, Any] = {
        "row": part.row,
        "prompt_index": part.index,
        "prompt": [work.batch.prompts[i].text for i in part.prompt],
        "coefficient": part.raw,
        "coefficient_norm": part.norm,
        "vector": list(part.kind),
        "text": made.texts,
        "empty": empty(made.texts),
        "tokens": lengths,
        "finish": np.where(ended, "end", "length").tolist(),
        "logprob_unsteered": _mean(scores.logprobs),
        "logprob_steered": _mean(made.logprobs_steered),
        "excess": scores.excess.numpy(),
        "drift": climb.numpy(),
        "drift_from": climb_from.numpy(),
        "alert": (echoes + scores.echoes.double().nansum(dim=1).numpy()) / read,
        "entropy": _mean(made.entropy),
    }
    if scores.kl is not None:
        columns["kl"] = _mean(scores.kl)
    for n in (1, 2, 3):
        columns[f"distinct_{n}"] = distinct(ids, lengths, n)
    columns["longest_repeat"], columns["repeat_from"] = longest_repeat(ids, lengths)
    return pd.DataFrame(columns)


def _mean(values: torch.Tensor) -> np.ndarray:
    """Mean over each row's tokens (B, N), NaN left out: (B,) float64."""
    return values.double().nanmean(dim=1).numpy()
