"""What of streams is more than the rounding of a forward pass.

A coordinate in which texts differ by rounding alone must not be read: standardised it would be as
large as any other, and it may follow the texts' lengths (of a first token that all texts share,
say). Rounding is judged coordinate by coordinate, since models hold in a few of them many times
what they hold in the others (massive activations, Sun et al. 2024,
https://arxiv.org/abs/2402.17762): the rounding of those says nothing of the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Steps of a number format that a forward pass may be off by.
_STEPS = 8


def beyond_rounding(streams: Tensor, dtype: torch.dtype) -> Tensor:
    """(D,) bool: in which coordinates streams (N, D) of a model of this dtype differ by more than

        8 eps max(largest of the coordinate, median of all coordinates' largest)

    A coordinate is a sum of what may be larger than itself, so that a small one is no more exact
    than the usual one.
    """
    size = streams.abs().amax(dim=0)  # (D,)
    rounding = _STEPS * torch.finfo(dtype).eps * size.clamp_min(float(size.median()))
    return (streams - streams[0]).abs().amax(dim=0) > rounding
