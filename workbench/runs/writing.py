"""The job "apply": texts under an intervention, at one coefficient, on the test prompts.

Sampling noise belongs to the prompt and the response: every coefficient, method and form shares it,
and so do the unsteered texts, so that any two of them can be compared text by text.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from workbench import judges
from workbench.generation.generate import end_ids, generate
from workbench.interventions.updates import Intervention
from workbench.runs.checking import readable
from workbench.runs.jobs import Job
from workbench.runs.known_keys import GENERATION
from workbench.runs.layouts import raw
from workbench.runs.records import key_of, plain
from workbench.runs.work import Stopped, Work, in_parts
from workbench.support.store import tensors_hash, write_atomically
from workbench.text.splits import as_text
from workbench.text.tokens import Prompt
from workbench.training import easyedit
from workbench.training.trained import Trained
from workbench.vectors.steering_vector import SteeringVector

if TYPE_CHECKING:
    from workbench.loading.models import LM

_COLUMNS = ("prompt", "text", "whole", "finish")


def hash_of(result: Trained) -> str:
    """sha256 of the tensors of a result."""
    if isinstance(result, SteeringVector):
        tensors = {str(layer): tensor for layer, tensor in result.directions.items()}
    else:
        tensors = {
            f"{layer}.{each.name}": getattr(change, each.name)
            for layer, change in result.changes.items()
            for each in fields(change)
            if isinstance(getattr(change, each.name), torch.Tensor)
        }
    return tensors_hash(tensors)


def decides(work: Work, job: Job, weights: str | None, result: Trained | None) -> dict[str, Any]:
    """All that decides the texts."""
    values = work.hyper.applying(job.combination)
    prompts = [as_text(prompt) for prompt in prompts_of(work, job, values)]
    return plain(
        {
            "stage": job.stage,
            "weights": weights,
            "intervention": None if result is None else hash_of(result),
            "m": job.m,
            "prompts": key_of({"prompts": prompts}),
            "bad_pairs": work.options.bad_pairs,
            # Texts do not depend on those that they are written with.
            "settings": {k: v for k, v in values.items() if k != "generation_batch_size"},
        }
    )


def prompts_of(work: Work, job: Job, values: dict[str, Any]) -> list[Prompt]:
    """The prompts to write on, as chats if asked. Raises ValueError where there are none."""
    items = work.data.prompts(job.combination.concept)[: values["generation_data_size"]]
    if not items:
        raise ValueError(
            f"{work.options.dataset!r} has no prompts to write on: put test.jsonl beside "
            "train.jsonl, or say where it is in the dataset format's generation section"
        )
    if not values["use_chat_template"]:
        return [item.prompt for item in items]
    system = values["system_prompt"]
    head = [{"role": "system", "content": system}] if system else []
    return [
        (*head, {"role": "user", "content": item.prompt})
        if isinstance(item.prompt, str)
        else item.prompt
        for item in items
    ]


def write(
    work: Work, job: Job, causes: dict[str, Any], result: Trained
) -> tuple[list[Path], list[str]]:
    """Write the texts; returns the files and sentences about them.

    Raises Stopped, and ValueError for prompts that do not fit the context.
    """
    values, lm = causes["settings"], work.lm
    prompts = prompts_of(work, job, values)
    kept, said = readable(lm, prompts, values["max_new_tokens"], work.options.bad_pairs)
    items = work.data.prompts(job.combination.concept)
    responses = values["num_responses"]
    rows = [(number, response) for number in kept for response in range(responses)]
    assert job.m is not None
    steering = raw(restricted(result, values["layers"]), job.m) if job.m else ()
    said += _untrained(result, job.m)

    size = work.hyper.applying(job.combination)["generation_batch_size"]

    def texts(edits: tuple[Intervention, ...], own: dict[str, Any]) -> pd.DataFrame:
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]

        def part(index: int) -> pd.DataFrame:
            return _part(work, prompts, parts[index], edits, values)

        return in_parts(job.folder, own | {"size": size}, len(parts), part, work.stop)

    frame = texts(steering, causes)
    before: list[list[str]] = [[] for _ in kept]
    unsteered = causes | {"intervention": None, "m": 0.0}
    if values["generate_orig_output"]:
        name = key_of(unsteered)
        if name not in work.unsteered:
            work.unsteered[name] = texts((), unsteered)["text"].tolist()
        found = work.unsteered[name]
        before = [found[i * responses : i * responses + 1] for i in range(len(kept))]
    results = []
    for place, number in enumerate(kept):
        own = frame.iloc[place * responses : (place + 1) * responses]
        results.append(
            {
                "input": _asked(items[number].prompt),
                "orig_pred": before[place],
                "pred": own["text"].tolist(),
                "reference_response": items[number].reference,
                "complete_output": own["whole"].tolist(),
            }
        )
    path = work.layout.results(job.combination, job.m)
    easyedit.save_results(results, path)
    written = [path]
    if work.data.trait is not None:
        scores, sentence = _scored(frame, work.data.trait)
        written.append(path.with_name("scores.csv"))
        write_atomically(written[-1], scores.to_csv(index=False).encode())
        said.append(sentence)
    return written, said


def restricted(result: Trained, layers: list[int] | None) -> Trained:
    """The result at some of its layers only; None: at all of them.

    Raises ValueError for a layer at which nothing was made.
    """
    if layers is None:
        return result
    missing = [layer for layer in layers if layer not in result.layers]
    if missing:
        raise ValueError(f"nothing was made at layer {missing[0]}; there is {result.layers}")
    if isinstance(result, SteeringVector):
        kept = {layer: result.directions[layer] for layer in layers}
        return replace(result, directions=kept, layer=layers[0])
    return replace(result, changes={layer: result.changes[layer] for layer in layers})


def _untrained(result: Trained, m: float) -> list[str]:
    """A sentence where a coefficient lies outside those that were trained."""
    known = result.provenance.get("factors")
    if not m or not isinstance(known, list) or not known:
        return []
    low, high = min(map(abs, known)), max(map(abs, known))
    if low <= abs(m) <= high:
        return []
    return [f"m {m:g} lies outside the factors that it was trained at, {low:g} to {high:g}"]


def _asked(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else as_text(prompt)


def _part(
    work: Work,
    prompts: list[Prompt],
    rows: list[tuple[int, int]],
    edits: tuple[Intervention, ...],
    values: dict[str, Any],
) -> pd.DataFrame:
    """The texts of some rows, (prompt, response) each. Raises Stopped where they were cut."""

    def watch(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(rows),), work.stop.event.is_set(), device=ids.device)

    own = {key: values[key] for key in GENERATION}
    sampled = own.pop("do_sample")
    warmth = own.pop("temperature")
    made = generate(
        work.lm,
        [prompts[number] for number, _ in rows],
        edits,
        new_tokens=own.pop("max_new_tokens"),
        temperature=warmth if sampled else 0.0,
        seed=values["seed"],
        streams=[number * values["num_responses"] + response for number, response in rows],
        score=False,
        stopping=(watch,),
        **own,
    )
    ended = _ended(work.lm, made.ids, made.lengths)
    if work.stop.event.is_set() and not (ended | (made.lengths == made.ids.shape[1])).all():
        raise Stopped
    lines = zip(made.batch.prompts, made.ids.tolist(), made.lengths.tolist(), strict=True)
    whole = [work.lm.tokenizer.decode([*prompt.ids, *ids[:n]]) for prompt, ids, n in lines]
    table = {
        "prompt": [prompt.text for prompt in made.batch.prompts],
        "text": made.texts,
        "whole": whole,
        "finish": ["end" if end else "length" for end in ended.tolist()],
    }
    return pd.DataFrame(table, columns=list(_COLUMNS))


def _ended(lm: LM, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(B,) bool, whether a text has the token that ends it."""
    final = ids.gather(1, (lengths - 1).clamp_min(0)[:, None])[:, 0]
    return torch.isin(final, torch.tensor(end_ids(lm), dtype=torch.long)) & (lengths > 0)


def _scored(frame: pd.DataFrame, trait: str) -> tuple[pd.DataFrame, str]:
    """What the exact judge says of each text, and of all of them in words."""
    scores = judges.score(
        frame["text"].tolist(),
        frame["prompt"].tolist(),
        trait,
        by=judges.exact,
        finish=frame["finish"].tolist(),
    )
    known, shown = scores["coherence"].dropna(), scores["trait"].dropna()
    told = [f"coherence {known.mean():.2f}"] if len(known) else ["too short to be judged"]
    if len(shown):
        told.append(f"{trait} {shown.mean():+.2f} in the {len(shown)} that show it either way")
    return scores, f"exact scores of {len(scores)} texts: {', '.join(told)}"
