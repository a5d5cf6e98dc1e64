"""Where in a text the unsteered model begins to lose it: a cumulative sum of its excess.

    W_0 = 0,   W_t = max(0, W_{t-1} + d_t - k),   d_t = -log p_t - H_t   (scoring.py)

Page's CUSUM (Biometrika 1954), which finds a lasting rise of the mean of d_t from 0 soonest where
the rise is 2 k. In a text that the unsteered model wrote, the d_t have mean 0 and W keeps falling
back; in one that falls apart it climbs from there on. How high it climbs by chance depends on the
model: one rare token in a text that is sure of itself adds its whole surprise. Pure tensor maths.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Nats per token that a text's surprise may exceed what it should be by. Chosen on wren's texts with
# their exact coherence (6 traits, 2 layers, greedy and sampled): between 0.45 and 0.8 the error of
# the ceiling (breakage.py) was 7 to 11 % of it, and the smaller the rise, the more of the texts at
# the recommended coefficient hold.
RISE = 0.5


def drift(excess: Tensor, allowed: float = RISE) -> tuple[Tensor, Tensor]:
    """The highest climb of each text, max W_t in nats, and the token before which it began.

    excess   (B, N) d_t of every token, NaN after a text's end
    allowed  k, in nats per token

    Returns (B,) float64 and (B,) long; a text that never climbs has 0 and its own length. Raises
    ValueError for a gap within a text.
    """
    steps = excess.double()
    known = ~steps.isnan()
    if (known[:, 1:] & ~known[:, :-1]).any():
        raise ValueError("a text has a token of unknown surprise before its end")
    count, columns = steps.shape
    height = steps.new_zeros(count)
    began = torch.zeros(count, dtype=torch.long, device=steps.device)
    highest, start = height.clone(), known.sum(dim=1)
    for token in range(columns):
        began = torch.where(height > 0, began, token)
        climbed = (height + steps[:, token] - allowed).clamp_min(0)
        height = torch.where(known[:, token], climbed, height)
        start = torch.where(height > highest, began, start)
        highest = torch.maximum(highest, height)
    return highest, start
