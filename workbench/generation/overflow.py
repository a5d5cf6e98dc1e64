"""Whether a steered model still said anything while it wrote, told from what was recorded.

Where a coefficient is too large, the stream overflows its number format. Then logits are NaN; or a
last RMSNorm divides by an infinite root mean square, and all of them are 0. Either way the largest
is whichever stands first, mostly a pad token, and the text says nothing of the vector. A LayerNorm
with a bias hides it: its logits are finite and not all alike. Knows nothing of how texts are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.interventions.updates import Intervention

# Nats. So close to log V float32 leaves the entropy of V equal logits.
_ROUNDING = 1e-5
_SHOWN = 5  # rows that a message names


def overflowed(
    chosen: Tensor, entropy: Tensor, ended: Tensor, vocabulary: int, *, steered: bool
) -> Tensor:
    """Which texts have a token whose logits say nothing, (B,) bool.

    chosen   (B, n) log P(token) of the model that wrote it, NaN for logits that hold any
    entropy  (B, n) of its distributions, nats
    ended    (B, n) bool, what comes after a text's end and does not count
    steered  whether V equal logits count, too: an unsteered model that gives them was not trained
    """
    lost = chosen.isnan()
    if steered:
        equal = (entropy - math.log(vocabulary)).abs() < _ROUNDING
        lost = lost | (equal & (chosen == -entropy))
    return (lost & ~ended).any(dim=1)


def said(lost: Tensor, interventions: Sequence[Intervention]) -> str:
    """The warning of `generate` about lost rows (B,) bool, with the coefficients that they had."""
    rows = lost.nonzero()[:, 0].tolist()
    shown = ", ".join(map(str, rows[:_SHOWN])) + (", …" if len(rows) > _SHOWN else "")
    which = f"row{'s' if len(rows) > 1 else ''} {shown} of {len(lost)}"
    if not interventions:
        return f"{which}: the logits are not finite, so that the text means nothing"
    under = ", ".join(dict.fromkeys(_coefficients(each, rows[:_SHOWN]) for each in interventions))
    return (
        f"{which}: steered by {under}, the model overflows its numbers, so that its logits are not "
        "finite or all alike and the text means nothing; give a smaller coefficient"
    )


def _coefficients(intervention: Intervention, rows: Sequence[int]) -> str:
    coefficient = intervention.coefficient
    if callable(coefficient):
        return f"a function of the step at layer {intervention.layer}"
    values = torch.as_tensor(coefficient).detach().reshape(-1)
    own = values.tolist() if len(values) == 1 else values[list(rows)].tolist()
    numbers = ", ".join(dict.fromkeys(f"{value:g}" for value in own))
    return f"the coefficient {numbers} at layer {intervention.layer}"
