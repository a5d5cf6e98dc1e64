"""How large a change is beside the stream that it changes: what one of its coefficients is worth.

    size(l) = median over tokens of |h'_l - h_l| / |h_l|        with coefficient 1, at layer l alone

h_l is the residual stream after block l. For a steering vector this is the reciprocal of a residual
norm in raw units; for a LoRA or a local weight, whose change depends on what its layer reads, only
texts can say it. There m times the size says how many residual norms a coefficient m adds (behind
an MLP whose output is normed again, as in Gemma-2, only near m = 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from workbench.forward import tracing
from workbench.forward.reading import batches
from workbench.forward.tracing import TOKENS
from workbench.text.positions import Rule
from workbench.text.tokens import Batch, Prompt, to_batch
from workbench.vectors.steerable import Steerable, require_steerable

if TYPE_CHECKING:
    from workbench.loading.models import LM

# The first token's stream is often many times longer than all others.
_LATER = Rule("later", lambda batch: batch.attention & (batch.positions > 0), True)


def relative_size(
    lm: LM,
    steered: Steerable,
    prompts: Sequence[Prompt] | Batch,
    layers: Sequence[int] | None = None,
) -> dict[int, float]:
    """Layer -> relative size of what a raw coefficient of 1 adds there, of the whole stream.

    prompts  texts of at least two tokens each, such as those that are steered
    layers   by default those at which `steered` acts unless told

    Raises ValueError for what has no coefficient, does not fit the model or lacks a layer.
    """
    require_steerable(steered)
    steered.check(lm)
    batch = to_batch(lm, prompts)
    found = {}
    for layer in steered.default_layers if layers is None else layers:
        change = steered.at(1.0, layers=[layer], unit="raw")
        ratios = []
        for part, _ in batches(batch, TOKENS):
            plain, moved = (
                tracing.activations(lm, part, [layer], _LATER, interventions=given).values
                for given in ((), change)
            )
            ratios.append((moved - plain).norm(dim=-1) / plain.norm(dim=-1))
        found[layer] = float(torch.cat(ratios).median())
    return found
