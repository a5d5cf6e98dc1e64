"""Which texts a sweep makes, in which chunks, and what must be the same for it to resume."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.interventions.updates import Intervention, held
from workbench.judges import Judge, check_listed
from workbench.loading.layers import text_config
from workbench.support.checks import number
from workbench.support.store import tensors_hash
from workbench.support.versions import versions
from workbench.text.splits import PromptSet, as_text, text_hashes
from workbench.text.tokens import Batch, Prompt
from workbench.vectors.steerable import Steerable

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Columns of a sweep's own, which a judge's may not be called.
OWN = (
    "row",
    "prompt_index",
    "prompt",
    "coefficient",
    "coefficient_norm",
    "vector",
    "text",
    "empty",
    "tokens",
    "finish",
    "logprob_unsteered",
    "logprob_steered",
    "excess",
    "drift",
    "drift_from",
    "alert",
    "entropy",
    "kl",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "longest_repeat",
    "repeat_from",
)


@dataclass(frozen=True, eq=False)
class Rows:
    """The texts to make, one entry of each array per text.

    row     place in the finished frame
    kind    "vector", the name of a control, or "prompted"
    prompt  place among all prompts, those that ask for the trait last
    index   place among its own kind of prompts
    value   the coefficient as `at` takes it
    raw     the same in multiples of what is swept; norm: in residual norms, or NaN
    """

    row: np.ndarray
    kind: np.ndarray
    prompt: np.ndarray
    index: np.ndarray
    value: np.ndarray
    raw: np.ndarray
    norm: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: np.ndarray) -> Rows:
        """Those rows, by their places or as a mask."""
        return Rows(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def interventions(
        self, makers: Mapping[str, Callable[..., tuple[Intervention, ...]]]
    ) -> tuple[Intervention, ...]:
        """What steers these rows as one batch: each vector with 0 on the rows of the others."""
        found: list[Intervention] = []
        for kind, make in makers.items():
            values = np.where(self.kind == kind, self.value, 0.0)
            if values.any():
                found += make(torch.from_numpy(values).float())
        return tuple(found)


def lay_out(
    steered: Steerable,
    prompts: Sequence[Prompt],
    coefficients: Sequence[float] | None,
    unit: str,
    layers: Sequence[int] | None,
    kinds: Sequence[str],
    prompted: Sequence[Prompt],
) -> Rows:
    """Prompts times coefficients for each vector, then the prompts that ask for the trait.

    A control has no rows at coefficient 0: they would be the vector's own once more.
    Raises ValueError for prompts that are no list, or none, and for coefficients that are not
    finite numbers or stand twice.
    """
    for name, given in (("prompts", prompts), ("prompted", prompted)):
        if isinstance(given, str | Mapping):
            raise ValueError(f"{name} is one prompt, {given!r}; wrap it in a list")
        if not isinstance(given, Collection):
            raise ValueError(f"{name} is {repr(given)[:200]}; give a list of texts or chats")
    if len(prompts) == 0:
        raise ValueError("prompts is empty; give at least one prompt")
    values = _check_coefficients(coefficients)
    count, asked = len(prompts), len(prompted)
    swept = {k: values if k == "vector" else values[values != 0] for k in kinds}
    kind = np.array(
        [k for k, own in swept.items() for _ in range(count * len(own))] + ["prompted"] * asked,
        object,
    )
    index = np.concatenate(
        [*(np.repeat(np.arange(count), len(own)) for own in swept.values()), np.arange(asked)]
    )
    value = np.concatenate([*(np.tile(own, count) for own in swept.values()), np.zeros(asked)])
    places = steered.default_layers if layers is None else tuple(layers)
    factor = raw_per_norm(steered, places[0])
    many = len({format(raw_per_norm(steered, layer), ".6g") for layer in places}) > 1
    return Rows(
        row=np.arange(len(kind)),
        kind=kind,
        prompt=np.where(kind == "prompted", index + count, index),
        index=index,
        value=value,
        raw=value * (factor if unit == "norm" else 1.0),
        # One raw step is not the same share of the norm at every layer.
        norm=value / (1.0 if unit == "norm" else math.nan if many else factor),
    )


def raw_per_norm(steered: Steerable, layer: int) -> float:
    """What one residual norm is in multiples of what is swept; NaN where the norm is not known."""
    length = steered.norm(layer)
    return steered.residual_norm.get(layer, math.nan) / length if length else math.nan


def _check_coefficients(coefficients: Sequence[float] | None) -> np.ndarray:
    if coefficients is None:
        return np.linspace(-2, 2, 33)
    given = np.asarray(coefficients)
    listed = given.ndim == 1 and len(given) > 0 and given.dtype.kind in "iuf"
    if not listed or any(isinstance(coefficient, bool) for coefficient in coefficients):
        raise ValueError(f"coefficients {coefficients!r}: give a list of at least one number")
    values = given.astype(float) + 0.0  # -0 becomes 0
    if not np.isfinite(values).all():
        bad = values[~np.isfinite(values)][0]
        raise ValueError(f"coefficient {bad!r} is not finite; give finite numbers")
    ordered = np.sort(values)
    twice = ordered[1:][np.diff(ordered) == 0]
    if len(twice):
        raise ValueError(f"coefficient {float(twice[0])!r} stands twice; give each once")
    return ordered


def check_judges(judges: Sequence[Judge], trait: str) -> None:
    """Ask each judge about no texts: it refuses a trait that it does not know.

    Raises ValueError, too, for judges that are no list, and for a judge whose columns are a sweep's
    own or another judge's.
    """
    check_listed(judges)
    seen = set(OWN)
    for judge in judges:
        columns = list(judge([], trait).columns)
        taken = seen & set(columns)
        if taken:
            raise ValueError(f"the judge {judge!r} gives a column {min(taken)!r}, which is taken")
        seen |= set(columns)


def chunk_rows(
    lm: LM, rows: Rows, lengths: np.ndarray, new_tokens: int, memory: float, kl: bool
) -> list[np.ndarray]:
    """Row numbers of each chunk: as many rows as fit `memory` bytes, prompts of like length
    together so that little is padding.

    lengths  (prompts,) tokens of each prompt
    Raises ValueError for a budget that is no number of bytes, or does not hold one row.
    """
    if not 1 <= number(memory) < np.inf:
        raise ValueError(f"memory {memory!r}: give a number of bytes, such as 2e9")
    length = lengths[rows.prompt]
    order = np.argsort(-length, kind="stable")
    kinds = list(dict.fromkeys(rows.kind))
    order = order[np.argsort([kinds.index(k) for k in rows.kind[order]], kind="stable")]
    chunks, start = [], 0
    while start < len(order):
        # Within a kind lengths fall, so a chunk is as wide as its first row or that of a kind.
        need = row_bytes(lm, length[order[start:]], new_tokens, kl)
        total = np.maximum.accumulate(need) * np.arange(1, len(need) + 1)
        count = int(np.searchsorted(total, memory, side="right"))
        if count == 0:
            raise ValueError(
                f"memory={memory} bytes does not hold one text of {length[order[start]]} + "
                f"{new_tokens} tokens, which takes about {int(need[0])}; give more"
            )
        chunks.append(np.sort(order[start : start + count]))
        start += count
    return chunks


def row_bytes(lm: LM, length: np.ndarray, new_tokens: int, kl: bool) -> np.ndarray:
    """About how many bytes one row takes: the larger of its decoding (cached keys and values) and
    its scoring (the widest activations of a block, and the logits of its new tokens)."""
    config = text_config(lm.model)
    heads = getattr(config, "num_attention_heads", 1)
    per_head = getattr(config, "head_dim", None) or lm.width // heads
    keys = (getattr(config, "num_key_value_heads", None) or heads) * per_head
    size = lm.dtype.itemsize
    tokens = length + new_tokens
    inner = getattr(config, "intermediate_size", None) or 4 * lm.width
    cache = 2 * lm.layers * keys * tokens * size + 8 * lm.vocabulary * 4
    hidden = tokens * (6 * lm.width + 3 * inner) * size + heads * tokens**2 * size
    logits = (new_tokens + 1) * lm.vocabulary * (size + (4 if kl else 0))
    return np.maximum(cache + hidden // max(new_tokens, 1), hidden + logits)


def provenance(
    lm: LM,
    steered: Steerable,
    rows: Rows,
    batch: Batch,
    *,
    prompts: Sequence[Prompt],
    prompted: Sequence[Prompt],
    added: Mapping[str, tuple[Intervention, ...]],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """All that decides what the model writes, as JSON values: it goes into the plan and the attrs.

    What texts are judged by is no part of it, as judges read them when all is done.

    steered   what is swept
    batch     the prompts and those that ask for the trait, encoded together
    added     of that and each control, what coefficient 1 adds
    settings  what else decides the texts
    """
    own = added["vector"]
    kept = (
        "pairs",
        "data",
        "made_from",
        "held_out",
        "positions",
        "seed",
        "layer_choice",
        "form",
        "objective",
        "versions",
    )
    return {
        "model": lm.name,
        "fingerprint": lm.fingerprint if lm.in_memory else "",
        "dtype": str(lm.dtype).removeprefix("torch."),
        "device": str(lm.device),
        "layer": own[0].layer,
        "layers": [intervention.layer for intervention in own],
        "method": steered.method,
        "vectors": {kind: added_hash(made) for kind, made in added.items()},
        "vector_provenance": {k: steered.provenance[k] for k in kept if k in steered.provenance},
        "residual_norm": steered.residual_norm.get(own[0].layer),
        "length": steered.norm(own[0].layer),
        "coefficients": np.unique(rows.value[rows.kind == "vector"]).tolist(),
        "prompt_set": prompts.name if isinstance(prompts, PromptSet) else "",
        "prompts": _digest(prompts),
        "prompted": _digest(prompted),
        "token_ids": _token_hash(batch),
        "prompt_hashes": sorted(text_hashes([*prompts, *prompted])),
        **settings,
        "versions": versions(),
    }


def added_hash(interventions: tuple[Intervention, ...]) -> str:
    """sha256 of what coefficient 1 adds: tensors and numbers by layer and name, a vector's one by
    layer; of several updates of a layer by their order, too."""
    tensors: dict[str, torch.Tensor] = {}
    layers = [each.layer for each in interventions]
    for index, each in enumerate(interventions):
        own = {
            name: value if isinstance(value, torch.Tensor) else torch.tensor(value)
            for name, value in held(each.update).items()
            if isinstance(value, torch.Tensor | int | float)
        }
        place = f"{each.layer}.{index}" if layers.count(each.layer) > 1 else str(each.layer)
        tensors |= {f"{place}.{k}" if len(own) > 1 else place: own[k] for k in own}
    return tensors_hash(tensors)


def _token_hash(batch: Batch) -> str:
    """sha256 of what the model sees of the prompts."""
    return tensors_hash({"ids": batch.ids, "attention": batch.attention})


def _digest(prompts: Sequence[Prompt]) -> str:
    """sha256 of prompts in their order."""
    return hashlib.sha256("\0".join(as_text(prompt) for prompt in prompts).encode()).hexdigest()
