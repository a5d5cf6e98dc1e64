"""A sweep: what a steered change does to texts as its coefficient grows, in both signs.

Rows are prompts times coefficients, laid along the batch axis and cut into chunks that fit a
memory budget (planning.py). The plan of the chunks is settled, and stored, before the first one
runs (running.py), and each row depends on its chunk alone: so a sweep that was killed picks up
where it was and ends with the same frame (assembly.py). What a text is worth is asked of judges
when all are written; this module knows none of them by name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from workbench import judges as judging
from workbench.forward import steering
from workbench.forward.tracing import Remote
from workbench.generation.generate import check_sampling
from workbench.interventions.updates import Intervention
from workbench.judges import Judge
from workbench.support.checks import require_layers, require_model
from workbench.support.interrupts import stopping
from workbench.support.store import open_chunks, tensors_hash
from workbench.sweeps.assembly import assemble
from workbench.sweeps.planning import check_judges, chunk_rows, lay_out, provenance
from workbench.sweeps.running import Work, run_chunks
from workbench.sweeps.slopes import slope_records
from workbench.text.positions import Mask, Positions, check_positions, everything, select
from workbench.text.splits import settle_role
from workbench.text.tokens import Prompt, encode
from workbench.vectors.controls import as_strong_as, random_like
from workbench.vectors.steerable import Steerable, require_steerable
from workbench.vectors.steering_vector import Unit

if TYPE_CHECKING:
    from workbench.loading.models import LM


def sweep(
    lm: LM,
    steered: Steerable,
    prompts: Sequence[Prompt],
    coefficients: Sequence[float] | None = None,
    *,
    unit: Unit | None = None,
    layers: Sequence[int] | None = None,
    positions: Positions = everything,
    new_tokens: int = 32,
    temperature: float = 0.0,
    seed: int = 0,
    trait: str | None = None,
    judges: Sequence[Judge] = (),
    controls: Sequence[str] | Mapping[str, Steerable] = (),
    prompted: Sequence[Prompt] = (),
    kl: bool = True,
    split: str | None = None,
    apart_from: pd.DataFrame | None = None,
    memory: float = 1 << 30,
    directory: str | Path | None = None,
    progress: bool = True,
    stop: threading.Event | None = None,
    remote: Remote = False,
) -> pd.DataFrame:
    """Generate and score one text per prompt and coefficient.

    Args:
        lm: The model.
        steered: A steering vector, a LoRA or a local weight.
        prompts: Texts or chats, or a `PromptSet`, whose role is then the split.
        coefficients: In `unit`; by default 33 from -2 to 2.
        unit: "norm", residual norms, as vectors are counted by default, or "raw", multiples of
            what is steered as it is: the m of a LoRA or local weight, which has no other.
        layers: Where to steer; by default the vector's own layer, or all that were trained.
        positions: Which tokens to steer.
        new_tokens: The most tokens of a text.
        temperature: 0 is greedy; otherwise all coefficients of a prompt share their noise.
        seed: Of the sampling noise and of the random control.
        trait: What the judges look for; by default the trait of what is steered.
        judges: Each adds its columns, read off the finished texts; see judges/.
        controls: ("random",) for a random direction or change of weights, or others of the same
            kind by name, such as {"random": random_like(vector, 0), "shuffled": extract(...,
            shuffle_labels=0)}; they are brought to the same length, or Frobenius norm, at each
            layer. All names that begin with "random" are draws of one control: {"random 1":
            random_like(vector, 0, draw=1), ...}. At coefficient 0 a control is the unsteered model,
            and has no rows there.
        prompted: Prompts that ask for the trait; run unsteered, as rows of "prompted".
        kl: Also measure the divergence of the steered distributions, by one more forward.
        split: "select" (choosing a coefficient, the default) or "report". A report says what it
            is apart from: by `apart_from`, or by prompts that are a `PromptSet` of that role.
        apart_from: The frame of the sweep that chose the coefficient, when this one reports.
        memory: Bytes that one chunk may take beside the weights.
        directory: Where finished chunks are kept; a sweep that was cut short resumes from there,
            with the same judges or others.
        progress: Show a bar with the time left.
        stop: Set it to end early, as Ctrl-C does: the chunks that are done are returned, the one
            that is being written is dropped.
        remote: True runs on NDIF, "local" simulates that here.

    Returns one row per text, ordered by vector, prompt and coefficient. Means are over a text's
    own new tokens (its end token included), logarithms natural:

        prompt_index         which prompt; for "prompted" rows, which of those
        prompt               as the model reads it
        coefficient          multiples of what is steered as it is, at the (first) steered layer
        coefficient_norm     in residual norms of that layer; NaN where none are known
        vector               "vector" (of whatever is steered), the name of a control, or "prompted"
        text                 what was written
        empty                whether that is nothing but white space
        tokens, finish       how many tokens, and "end" or "length"
        logprob_unsteered    mean log-probability under the unsteered model
        logprob_steered      the same under the model that wrote it
        excess               how much less likely the text is under the unsteered model than its
                             own samples are, in nats per token; see scoring.py
        drift, drift_from    how far that adds up in its worst stretch beyond half a nat a token,
                             in nats, and the token before which the stretch began; see drift.py
        alert                the ALERT score as its code has it: mean over prompt and text of
                             log P(next token = this token), unsteered
        entropy              of the steered next-token distribution
        kl                   KL(steered || unsteered), if asked for
        distinct_1, 2, 3     distinct n-grams of tokens over all of them; NaN where there are none
        longest_repeat       tokens in the longest span that stands in the text twice
        repeat_from          the token at which that span stands for the second time

    and the judges' columns. `attrs` say how the frame came about (JSON values). "complete" is
    False if the sweep was stopped, and "missing" then says which coefficients lack which prompts
    (assembly.py); "slopes" holds `slope_summary(frame)` as records, of the prompts that are
    whole, where a judge measured the trait.

    Raises ValueError before any work, and before anything is written, for what it cannot do:
    settings out of range, coefficients that are not finite, coefficients or layers that stand
    twice, judges that are no list, prompts that made the vector, a vector of another model, a
    budget too small for one text, a `directory` that holds another sweep.
    """
    require_model(lm)
    check_sampling(new_tokens, temperature, seed=seed)
    require_steerable(steered)
    unit = steered.units[0] if unit is None else unit
    interventions = _prepare(steered, controls, seed, layers, positions, unit)
    rows = lay_out(steered, prompts, coefficients, unit, layers, tuple(interventions), prompted)
    steered.check(lm)
    batch = encode(lm, [*prompts, *prompted], new_tokens=new_tokens)
    role = _role(steered, prompts, prompted, split, apart_from)
    if temperature == 0 and len(set(map(str, prompts))) < len(prompts):
        raise ValueError("a prompt stands twice; greedy texts of both would be the same")
    trait = str(steered.provenance.get("trait") or "") if trait is None else trait
    check_judges(judges, trait)
    for kind in interventions:
        steering.plan(lm, batch, interventions[kind](torch.ones(len(batch))))
    lengths = batch.attention.sum(dim=1).numpy()
    chunks = chunk_rows(lm, rows, lengths, new_tokens, memory, kl)
    plan = provenance(
        lm,
        steered,
        rows,
        batch,
        prompts=prompts,
        prompted=prompted,
        added={kind: interventions[kind](1.0) for kind in interventions},
        settings={
            "unit": unit,
            # A rule's name does not say what it does: what it touches does.
            "touched": tensors_hash(
                {
                    "prompts": select(lm, batch, positions),
                    "generated": torch.tensor(bool(positions.generated)),
                }
            ),
            "new_tokens": int(new_tokens),
            "temperature": float(temperature),
            "seed": int(seed),
            "kl": bool(kl),
            "split": role,
        },
    )
    disk = None
    if directory is not None:
        stored = {**plan, "chunks": [chunk.tolist() for chunk in chunks]}
        disk = open_chunks(directory, stored, len(chunks))
    work = Work(
        lm,
        rows,
        [*prompts, *prompted],
        batch,
        interventions,
        new_tokens,
        temperature,
        seed,
        kl,
        remote,
    )
    with stopping(stop) as stopped:
        parts = run_chunks(work, chunks, disk, stopped, memory=memory, progress=progress)
    names = [judging.name(judge) for judge in judges]
    about = {**plan, "positions": repr(positions), "trait": trait, "judges": names}
    frame = assemble(rows, parts, about)
    # Outside of the block above: a hosted judge may wait long, and Ctrl-C shall stop it.
    frame = judging.judge(frame, judges, trait)
    frame.attrs["slopes"] = slope_records(frame)
    return frame


# ---- before the first chunk ---------------------------------------------------------------------


def _prepare(
    steered: Steerable,
    controls: Sequence[str] | Mapping[str, Steerable],
    seed: int,
    layers: Sequence[int] | None,
    positions: Positions,
    unit: Unit,
) -> dict[str, Callable[..., tuple[Intervention, ...]]]:
    """For what is steered and each control: coefficient -> interventions."""
    check_positions(positions)
    require_layers(layers)
    if isinstance(positions, Mask):
        raise ValueError(
            "a mask belongs to one batch; a sweep runs many: give a position rule, such as "
            "positions.everything"
        )
    if isinstance(controls, str):
        controls = (controls,)
    if hasattr(controls, "at"):
        raise ValueError(
            f"controls is a single one, {controls!r}; give it by name: controls={{'random': it}}"
        )
    if not isinstance(controls, Mapping):
        unknown = [name for name in controls if name != "random"]
        if unknown:
            raise ValueError(
                f"control {unknown[0]!r} cannot be made of what is steered alone; give it by name: "
                "controls={'shuffled': extract(lm, pairs, ..., shuffle_labels=0)}"
            )
        controls = {name: random_like(steered, seed) for name in controls}
    reserved = {"vector", "prompted"} & set(controls)
    if reserved:
        raise ValueError(f"a control cannot be called {min(reserved)!r}; that name is taken")

    def at(steered: Steerable) -> Callable[..., tuple[Intervention, ...]]:
        def interventions(coefficient: float | torch.Tensor) -> tuple[Intervention, ...]:
            return steered.at(coefficient, layers=layers, positions=positions, unit=unit)

        interventions(1.0)  # refuses now what it would refuse later
        return interventions

    own = at(steered)  # refuses layers before the controls look at them
    made = {name: as_strong_as(steered, each, name, layers) for name, each in controls.items()}
    return {"vector": own, **{name: at(control) for name, control in made.items()}}


def _role(
    steered: Steerable,
    prompts: Sequence[Prompt],
    prompted: Sequence[Prompt],
    split: str | None,
    apart_from: pd.DataFrame | None,
) -> str:
    """The split that the prompts belong to. Raises ValueError where splits would mix."""
    chose = None if apart_from is None else apart_from.attrs.get("prompt_hashes")
    if apart_from is not None and chose is None:
        raise ValueError(
            "apart_from= does not say which prompts it holds: attrs['prompt_hashes'] is missing; "
            "give the frame as sweep returned it"
        )
    return settle_role(
        prompts,
        prompted,
        split=split,
        made=steered.texts,
        layer=steered.held_out_texts,
        chose=chose,
    )
