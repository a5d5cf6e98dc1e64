"""Where in a text the unsteered model begins to lose it: a cumulative sum of its excess.

    W_0 = 0,   W_t = max(0, W_{t-1} + d_t - k),   d_t = -log p_t - H_t   (scoring.py)

Page's CUSUM (Biometrika 1954), which finds a lasting rise of the mean of d_t from 0 soonest where
the rise is 2 k. In a text that the unsteered model wrote, the d_t have mean 0 and W keeps falling
back; in one that falls apart it climbs from there on. Pure tensor maths.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Nats per token that a text's surprise may exceed what it should be by. From wren's texts with
# their exact coherence (6 traits, 2 layers, greedy and sampled): between 0.45 and 0.8 the error of
# the ceiling (breakage.py) hardly changes (7 to 11 % of it), and the smaller the rise, the more of
# the texts at the recommended coefficient hold.
RISE = 0.5


def drift(excess: Tensor, allowed: float = RISE) -> tuple[Tensor, Tensor]:
    """The highest climb of each text, max W_t in nats, and the token before which it began.

    excess   (B, N) d_t of every token, NaN after a text's end
    allowed  k, in nats per token

    Returns (B,) float64 and (B,) long; a text that never climbs has 0 and its own length.
    """
    steps = excess.double()
    count, columns = steps.shape
    height, began = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.long)
    highest, start = height.clone(), (~steps.isnan()).sum(dim=1)
    for token in range(columns):
        began = torch.where(height > 0, began, token)
        climbed = (height + steps[:, token] - allowed).clamp_min(0)
        height = torch.where(steps[:, token].isnan(), height, climbed)
        start = torch.where(height > highest, began, start)
        highest = torch.maximum(highest, height)
    return highest, start
