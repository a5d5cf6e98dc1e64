"""A sweep: what a steering vector does to texts as its coefficient grows, in both signs.

Rows are prompts times coefficients, laid along the batch axis and cut into chunks that fit a
memory budget. The plan of the chunks is settled (and stored) before the first one runs, and each
row depends on its chunk alone: so a sweep that was killed picks up where it was and ends with the
same frame. What a text is worth is asked of judges; this module knows none of them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from workbench import tracing
from workbench.generate import Generation, end_ids, generate
from workbench.judges import Judge
from workbench.measures import distinct, longest_repeat
from workbench.planning import OWN, Rows, check_judges, chunk_rows, lay_out, provenance
from workbench.positions import Mask, Positions, everything
from workbench.scoring import prompt_echoes, score
from workbench.slopes import slopes
from workbench.splits import PromptSet, require_disjoint, text_hashes
from workbench.store import Chunks, open_chunks
from workbench.tokens import Batch, Prompt, encode
from workbench.tracing import Remote
from workbench.updates import Intervention
from workbench.vectors import SteeringVector, Unit, random_like

if TYPE_CHECKING:
    from workbench.models import LM

__all__ = ["random_like", "slopes", "sweep"]


def sweep(
    lm: LM,
    vector: SteeringVector,
    prompts: Sequence[Prompt],
    coefficients: Sequence[float] | None = None,
    *,
    unit: Unit = "norm",
    layers: Sequence[int] | None = None,
    positions: Positions = everything,
    new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
    trait: str | None = None,
    judges: Sequence[Judge] = (),
    controls: Sequence[str] | Mapping[str, SteeringVector] = (),
    prompted: Sequence[Prompt] = (),
    kl: bool = True,
    split: str | None = None,
    apart_from: pd.DataFrame | None = None,
    memory: int = 1 << 30,
    directory: str | Path | None = None,
    progress: bool = True,
    stop: threading.Event | None = None,
    remote: Remote = False,
) -> pd.DataFrame:
    """Generate and score one text per prompt and coefficient.

    Args:
        lm: The model.
        vector: What is added to the residual stream.
        prompts: Texts or chats, or a `PromptSet`, whose role is then the split.
        coefficients: In `unit`; by default 33 from -2 to 2 residual norms.
        unit: "norm", residual norms, or "raw", multiples of the vector as it is.
        layers: Where to steer; by default the vector's own layer.
        positions: Which tokens to steer.
        new_tokens: The most tokens of a text.
        temperature: 0 is greedy; otherwise all coefficients of a prompt share their noise.
        seed: Of the sampling noise and of the random control.
        trait: What the judges look for; by default the vector's trait.
        judges: Each adds its columns; see judges.py.
        controls: ("random",) for a random direction, or vectors by name, such as
            {"random": random_like(vector, 0), "shuffled": extract(..., shuffle_labels=0)}; they
            are brought to the vector's length at each layer.
        prompted: Prompts that ask for the trait; run unsteered, as rows of "prompted".
        kl: Also measure the divergence of the steered distributions, by one more forward.
        split: "select" (choosing a coefficient, the default) or "report".
        apart_from: The frame of the sweep that chose the coefficient, when this one reports.
        memory: Bytes that one chunk may take beside the weights.
        directory: Where finished chunks are kept; a sweep that was cut short resumes from there.
        progress: Show a bar with the time left.
        stop: Set it to end early, as Ctrl-C does: what is done is returned.
        remote: True runs on NDIF, "local" simulates that here.

    Returns one row per text, ordered by vector, prompt and coefficient. Means are over a text's
    own new tokens (its end token included), logarithms natural:

        prompt_index         which prompt; for "prompted" rows, which of those
        prompt               as the model reads it
        coefficient          multiples of the vector as it is, at the (first) steered layer
        coefficient_norm     in residual norms of that layer; NaN where the vector knows none
        vector               "vector", the name of a control, or "prompted"
        text                 what was written
        tokens, finish       how many tokens, and "end" or "length"
        logprob_unsteered    mean log-probability under the unsteered model
        logprob_steered      the same under the model that wrote it
        surprise             how much less likely the text is under the unsteered model than its
                             own samples are, in standard deviations of a token; see scoring.py
        alert                the ALERT score as its code has it: mean over prompt and text of
                             log P(next token = this token), unsteered
        entropy              of the steered next-token distribution
        kl                   KL(steered || unsteered), if asked for
        distinct_1, 2, 3     distinct n-grams of tokens over all of them
        longest_repeat       tokens in the longest span that stands in the text twice

    and the judges' columns. `attrs` say how the frame came about (JSON values): "complete" is
    False if the sweep was stopped; "slopes" holds the shares of `slopes(frame)` where there is a
    trait column.

    Raises ValueError before any work for what it cannot do: coefficients that are not finite or
    stand twice, prompts that made the vector, a vector of another model, a budget too small for
    one text, a `directory` that holds another sweep.
    """
    interventions = _prepare(vector, controls, seed, layers, positions, unit)
    rows = lay_out(vector, prompts, coefficients, unit, layers, tuple(interventions), prompted)
    role = _role(vector, prompts, prompted, split, apart_from)
    if temperature == 0 and len(set(map(str, prompts))) < len(prompts):
        raise ValueError("a prompt stands twice; greedy texts of both would be the same")
    vector.check(lm)
    trait = str(vector.provenance.get("trait") or "") if trait is None else trait
    check_judges(judges, trait)
    batch = encode(lm, [*prompts, *prompted], new_tokens=new_tokens)
    for kind in interventions:
        tracing.plan(lm, batch, interventions[kind](torch.ones(len(batch))))
    lengths = batch.attention.sum(dim=1).numpy()
    chunks = chunk_rows(lm, rows, lengths, new_tokens, memory, kl)
    plan = provenance(
        lm,
        vector,
        rows,
        prompts=prompts,
        prompted=prompted,
        controls={kind: interventions[kind](1.0) for kind in interventions},
        settings={
            "unit": unit,
            "positions": repr(positions),
            "new_tokens": int(new_tokens),
            "temperature": float(temperature),
            "seed": int(seed),
            "trait": trait,
            "judges": [f"{judge.__module__}.{judge.__qualname__}" for judge in judges],
            "kl": bool(kl),
            "split": role,
        },
    )
    disk = None
    if directory is not None:
        disk = open_chunks(
            directory, {**plan, "chunks": [chunk.tolist() for chunk in chunks]}, len(chunks)
        )

    def run(chunk: np.ndarray, echoes: np.ndarray, watch: Callable[..., Any]) -> pd.DataFrame:
        part = rows.take(chunk)
        texts = [batch.prompts[i].text for i in part.prompt]
        given = [(*prompts, *prompted)[i] for i in part.prompt]
        steered = part.interventions(interventions)
        made = generate(
            lm,
            encode(lm, given),
            steered,
            new_tokens=new_tokens,
            temperature=temperature,
            seed=seed,
            streams=part.index.tolist(),
            score=False,
            stopping=() if remote else (watch,),
            remote=remote,
        )
        frame = _measure(lm, part, made, texts, echoes[part.prompt], steered, kl, remote)
        for judge in judges:
            verdicts = judge(frame["text"].tolist(), texts, trait)
            frame = pd.concat([frame, verdicts.set_axis(frame.index)], axis=1)
        return frame

    with _stopping(stop) as stopped:
        parts = _run_all(
            lm, batch, chunks, disk, run, stopped, memory, new_tokens, progress, remote
        )
    return _assemble(rows, parts, chunks, plan)


# ---- before the first chunk ---------------------------------------------------------------------


def _prepare(
    vector: SteeringVector,
    controls: Sequence[str] | Mapping[str, SteeringVector],
    seed: int,
    layers: Sequence[int] | None,
    positions: Positions,
    unit: Unit,
) -> dict[str, Callable[..., tuple[Intervention, ...]]]:
    """For the vector and each control: coefficient -> interventions."""
    if isinstance(positions, Mask):
        raise ValueError(
            "a mask belongs to one batch; a sweep runs many: give a position rule, such as "
            "positions.everything"
        )
    if isinstance(controls, str):
        controls = (controls,)
    if not isinstance(controls, Mapping):
        unknown = [name for name in controls if name != "random"]
        if unknown:
            raise ValueError(
                f"control {unknown[0]!r} cannot be made from the vector alone; give it by name: "
                "controls={'shuffled': extract(lm, pairs, ..., shuffle_labels=0)}"
            )
        controls = {name: random_like(vector, seed) for name in controls}
    reserved = {"vector", "prompted"} & set(controls)
    if reserved:
        raise ValueError(f"a control cannot be called {min(reserved)!r}; that name is taken")

    def at(vector: SteeringVector) -> Callable[..., tuple[Intervention, ...]]:
        def interventions(coefficient: float | torch.Tensor) -> tuple[Intervention, ...]:
            return vector.at(coefficient, layers=layers, positions=positions, unit=unit)

        interventions(1.0)  # refuses now what it would refuse later
        return interventions

    made = {name: _as_long_as(vector, control, name, layers) for name, control in controls.items()}
    return {"vector": at(vector), **{name: at(control) for name, control in made.items()}}


def _as_long_as(
    vector: SteeringVector, control: SteeringVector, name: str, layers: Sequence[int] | None
) -> SteeringVector:
    """A control with the vector's length and residual norm at every steered layer."""
    if control.width != vector.width:
        raise ValueError(f"the control {name!r} is {control.width} wide, the vector {vector.width}")
    directions = {}
    for layer in (vector.layer,) if layers is None else layers:
        if layer not in control.directions or layer not in vector.directions:
            raise ValueError(f"the control {name!r} or the vector has no direction at {layer!r}")
        length = control.norm(layer)
        if length == 0:
            raise ValueError(f"the control {name!r} has length 0 at layer {layer}")
        directions[layer] = control.directions[layer] * (vector.norm(layer) / length)
    return replace(
        control,
        directions=directions,
        residual_norm=vector.residual_norm,
        layer=vector.layer if layers is None else next(iter(directions)),
    )


def _role(
    vector: SteeringVector,
    prompts: Sequence[Prompt],
    prompted: Sequence[Prompt],
    split: str | None,
    apart_from: pd.DataFrame | None,
) -> str:
    """The split that the prompts belong to. Raises ValueError where splits would mix."""
    own = prompts.role if isinstance(prompts, PromptSet) else None
    role = split or own or "select"
    if role not in ("select", "report"):
        raise ValueError(
            f"split {role!r}: prompts of a sweep choose a coefficient ('select') or report a "
            "result ('report'); those that made a vector do neither"
        )
    if own is not None and own != role:
        raise ValueError(f"these prompts are the {own!r} set, but the sweep says split={role!r}")
    texts = text_hashes([*prompts, *prompted])
    require_disjoint({f"{vector.method} vector": vector.texts, f"{role} prompts": texts})
    if role == "report":
        judged = vector.provenance.get("held_out_texts", ())
        require_disjoint({"pairs that chose the layer": judged, "report prompts": texts})
    if apart_from is not None:
        other = apart_from.attrs.get("prompt_hashes", ())
        require_disjoint({"the sweep it should be apart from": other, f"{role} prompts": texts})
    return role


# ---- one chunk ----------------------------------------------------------------------------------


def _measure(
    lm: LM,
    part: Rows,
    made: Generation,
    prompts: Sequence[str],
    echoes: np.ndarray,
    steered: Sequence[Intervention],
    kl: bool,
    remote: Remote,
) -> pd.DataFrame:
    """The frame of one chunk, without its judges."""
    longest = int(made.lengths.max())
    written = made.batch.extend(made.ids[:, :longest], made.lengths, made.texts)
    scores = score(lm, written, steered_by=steered, kl=kl, remote=remote)
    ids, lengths = made.ids.numpy(), made.lengths.numpy()
    final = made.ids.gather(1, made.lengths[:, None] - 1)[:, 0]
    ended = torch.isin(final, torch.tensor(end_ids(lm), dtype=torch.long)).numpy()
    read = made.batch.attention.sum(dim=1).numpy() + lengths
    columns: dict[str, Any] = {
        "row": part.row,
        "prompt_index": part.index,
        "prompt": list(prompts),
        "coefficient": part.raw,
        "coefficient_norm": part.norm,
        "vector": list(part.kind),
        "text": made.texts,
        "tokens": lengths,
        "finish": np.where(ended, "end", "length").tolist(),
        "logprob_unsteered": _mean(scores.logprobs),
        "logprob_steered": _mean(made.logprobs_steered),
        "surprise": scores.surprise.double().numpy(),
        "alert": (echoes + scores.echoes.double().nansum(dim=1).numpy()) / read,
        "entropy": _mean(made.entropy),
    }
    if scores.kl is not None:
        columns["kl"] = _mean(scores.kl)
    for n in (1, 2, 3):
        columns[f"distinct_{n}"] = distinct(ids, lengths, n)
    columns["longest_repeat"] = longest_repeat(ids, lengths)
    return pd.DataFrame(columns)


def _mean(values: torch.Tensor) -> np.ndarray:
    """Mean over each row's tokens (B, N), NaN left out: (B,) float64."""
    return values.double().nanmean(dim=1).numpy()


# ---- all chunks ---------------------------------------------------------------------------------


def _run_all(
    lm: LM,
    batch: Batch,
    chunks: Sequence[np.ndarray],
    disk: Chunks | None,
    run: Callable[[np.ndarray, np.ndarray, Callable[..., Any]], pd.DataFrame],
    stopped: Callable[[], bool],
    memory: int,
    new_tokens: int,
    progress: bool,
    remote: Remote,
) -> list[pd.DataFrame | None]:
    """The frame of every chunk, None for those that a stop prevented."""
    parts = [None if disk is None else disk.load(i) for i in range(len(chunks))]
    if all(part is not None for part in parts):
        return parts
    echoes = prompt_echoes(lm, batch, memory=memory, remote=remote).numpy()
    total = new_tokens * sum(len(chunk) for chunk in chunks)
    done = new_tokens * sum(len(c) for c, p in zip(chunks, parts, strict=True) if p is not None)
    with tqdm(total=total, initial=done, desc="sweep", unit="token", disable=not progress) as bar:
        for index, chunk in enumerate(chunks):
            if parts[index] is not None or stopped():
                continue
            before = bar.n

            def watch(ids: torch.Tensor, scores: Any, rows: int = len(chunk), **_: Any) -> Any:
                bar.update(rows)
                return torch.full((rows,), stopped(), device=ids.device)

            frame = run(chunk, echoes, watch)
            if stopped():
                continue
            if disk is not None:
                disk.save(index, frame)
                frame = disk.load(index)
            parts[index] = frame
            bar.update(new_tokens * len(chunk) - (bar.n - before))
    return parts


@contextmanager
def _stopping(stop: threading.Event | None) -> Iterator[Callable[[], bool]]:
    """Whether to stop: because of `stop`, or of the first Ctrl-C. A second one interrupts."""
    interrupted = threading.Event()

    def is_set() -> bool:
        return interrupted.is_set() or (stop is not None and stop.is_set())

    if threading.current_thread() is not threading.main_thread():
        yield is_set
        return
    former = signal.getsignal(signal.SIGINT)

    def note(*_: Any) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, former)

    signal.signal(signal.SIGINT, note)
    try:
        yield is_set
    finally:
        signal.signal(signal.SIGINT, former)


def _assemble(
    rows: Rows,
    parts: Sequence[pd.DataFrame | None],
    chunks: Sequence[np.ndarray],
    plan: Mapping[str, Any],
) -> pd.DataFrame:
    """One frame in the order of the rows, with its attrs."""
    finished = [part for part in parts if part is not None]
    frame = pd.concat(finished or [pd.DataFrame(columns=list(OWN))], ignore_index=True)
    frame = frame.sort_values("row", ignore_index=True).drop(columns="row")
    frame.attrs = {
        **plan,
        "complete": len(finished) == len(chunks),
        "rows_planned": len(rows),
        "slopes": None,
    }
    own = frame[frame["vector"] == "vector"]
    if "trait" in frame.columns and own.loc[own["trait"].notna(), "coefficient"].nunique() > 1:
        frame.attrs["slopes"] = dict(slopes(frame).attrs)
    return frame
