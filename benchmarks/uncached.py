"""Dynamic composition as the method reads: one prompt, no cache, the whole text again at every
pass, edits by plain hooks. Knows nothing of the package's own loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from workbench.loading.models import LM


def written(
    lm: LM,
    ids: Sequence[int],
    deltas: Mapping[str, Tensor],
    top_p: float,
    steps: int,
    *,
    probe: float = 2.0,
    most: float = 2.0,
) -> tuple[list[int], dict[str, list[float]]]:
    """New ids, and each property's coefficients; deltas (T, L, W) at the heads of all layers."""
    row, used = list(ids), {name: [] for name in deltas}
    for _ in range(steps):
        clean = _next(lm, row, len(ids), {}, deltas)
        for name in deltas:
            alone = {name: [probe] * (len(used[name]) + 1)}
            used[name].append(
                _strength(clean, _next(lm, row, len(ids), alone, deltas), top_p, most)
            )
        row.append(int(_next(lm, row, len(ids), used, deltas).argmax()))
    return row[len(ids) :], used


def _strength(clean: Tensor, steered: Tensor, top_p: float, most: float) -> float:
    likely: set[int] = set()
    for logits in (clean, steered):
        total = 0.0
        for token in logits.argsort(descending=True).tolist():
            likely.add(token)
            total += float(logits.softmax(-1)[token])
            if total > top_p:
                break
    own = sorted(likely)
    p, q = clean.log_softmax(-1)[own].log_softmax(-1), steered.log_softmax(-1)[own].log_softmax(-1)
    return min(max(float((p.exp() * (p - q)).sum() / len(own)), 0.0), most)


def _next(
    lm: LM,
    row: list[int],
    start: int,
    strengths: Mapping[str, list[float]],
    deltas: Mapping[str, Tensor],
) -> Tensor:
    """Logits (V,) after a row whose prompt has `start` ids, every step's edit where it was made."""

    def edit(layer: int) -> Any:
        def hook(_module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            read = given[0].clone()
            flat = read.view(-1, read.shape[-1])
            for name, values in strengths.items():
                for step, strength in enumerate(values):
                    flat[start - 1 + step] += strength * deltas[name][step, layer]
            return (read, *given[1:])

        return hook

    blocks = lm.model.get_submodule(lm.layer_path)
    handles = [
        block.get_submodule(lm.attention_name(layer)).register_forward_pre_hook(edit(layer))
        for layer, block in enumerate(blocks.children())
    ]
    try:
        with torch.no_grad():
            return lm.model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1].float()
    finally:
        for handle in handles:
            handle.remove()
