"""Named maps that stand beside affine updates: replace, remove a direction, turn.

    Replace          h + m s (t - h)            towards a target t, in a share s of the width
    RemoveDirection  h - m ((h - t)·v̂) v̂        towards a target t, along a direction v
    Turn             |h| (cos m ĥ + sin m ŵ)     by an angle m towards v, w the part of v across h

with v̂ = v / |v|. Like every update they leave a token whose coefficient is 0 as it was. They
compute in float32 or better, and round once, to the stream's own precision: in half precision a
product along v would be rounded coarsely, and the square of a stream's length may be out of range.
Keeping the length of a stream is in keep_norm.py. A run on another model than a map's `origin` is
refused; None, as of tensors made by hand, runs on all. Knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workbench.interventions.updates import Origin


@dataclass(frozen=True, eq=False)
class Replace:
    """h + m s (t - h): with m = 1 what a site writes is replaced by a target, where s is 1.

    target  (W,), the same for every token; or (B, T, W), one for each token of one batch
    share   (W,) or, one for each row of a batch, (B, W): how much of each part of the width is
            replaced, such as 1 in one head's part and 0 in the others'; None: all

    Raises ValueError for other shapes or values that are not finite and, when used, for streams
    of another batch than the target's.
    """

    target: Tensor
    share: Tensor | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        _check_target(self.target)
        share = self.share
        if share is not None and (share.ndim not in (1, 2) or share.shape[-1] != self.width):
            raise ValueError(
                f"the share has shape {tuple(share.shape)}; give ({self.width},) or "
                f"(rows, {self.width})"
            )

    @property
    def width(self) -> int:
        return self.target.shape[-1]

    def on_rows(self, rows: Tensor) -> Replace:
        """The same on some rows of the batch that it belongs to."""
        share = self.share
        return replace(
            self,
            target=_of_rows(self.target, 3, rows),
            share=None if share is None else _of_rows(share, 2, rows),
        )

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        _check_batch(self.target, hidden)
        stream = _fine(hidden)
        weight = scale.to(stream.dtype)
        if self.share is not None:
            share = self.share.to(stream)
            weight = weight * (share if share.ndim == 1 else share[:, None])
        # Not h + w (t - h), which would leave a rounding error of h's size where w is 1.
        return (stream * (1 - weight) + weight * self.target.to(stream)).to(hidden.dtype)


@dataclass(frozen=True, eq=False)
class RemoveDirection:
    """h - m ((h - t)·v̂) v̂: with m = 1 the stream has along a direction what a target has.

    direction  (D,), or one for each row of a batch, (B, D)
    target     (D,), or (B, T, D) for the tokens of one batch; None: 0, which takes the direction
               out; with the mean stream of ordinary text it says nothing about this one any more

    Arditi et al. 2024, https://arxiv.org/abs/2406.11717. Raises ValueError for a direction that is
    not finite or of length 0, and as `Replace`.
    """

    direction: Tensor
    target: Tensor | None = None
    origin: Origin | None = None

    def __post_init__(self) -> None:
        _check_direction(self.direction, (1, 2))
        if self.target is not None:
            _check_target(self.target)

    @property
    def width(self) -> int:
        return self.direction.shape[-1]

    def on_rows(self, rows: Tensor) -> RemoveDirection:
        """The same on some rows of the batch that it belongs to."""
        target = self.target
        return replace(
            self,
            direction=_of_rows(self.direction, 2, rows),
            target=None if target is None else _of_rows(target, 3, rows),
        )

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        stream = _fine(hidden)
        unit = _unit(self.direction, stream)
        unit = unit if unit.ndim == 1 else unit[:, None]
        over = stream
        if self.target is not None:
            _check_batch(self.target, hidden)
            over = stream - self.target.to(stream)
        along = (over * unit).sum(dim=-1, keepdim=True)
        return (stream - scale.to(stream.dtype) * along * unit).to(hidden.dtype)


@dataclass(frozen=True, eq=False)
class Turn:
    """The stream turned by an angle m, in radians, towards a direction (D,), its length kept.

    It turns in the plane of the stream h and the direction v: past v where m is larger than the
    angle between them, away from v where m is negative. A stream along v, with which v spans no
    plane, stays. Raises ValueError for a direction that is not one finite vector, or of length 0.
    """

    direction: Tensor
    origin: Origin | None = None

    def __post_init__(self) -> None:
        _check_direction(self.direction)

    @property
    def width(self) -> int:
        return self.direction.shape[0]

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        stream = _fine(hidden)
        unit = _unit(self.direction, stream)
        length = stream.norm(dim=-1, keepdim=True)
        own = stream / length.clamp_min(torch.finfo(stream.dtype).tiny)
        across = unit - (own @ unit)[..., None] * own
        size = across.norm(dim=-1, keepdim=True)
        angle = scale.to(stream.dtype)
        turned = stream * angle.cos() + length * angle.sin() * across / size
        return torch.where(size > torch.finfo(stream.dtype).eps, turned, stream).to(hidden.dtype)


def _of_rows(values: Tensor, rank: int, rows: Tensor) -> Tensor:
    """Those of some rows, where values of this rank are given for each row of a batch."""
    return values[rows] if values.ndim == rank else values


def _fine(hidden: Tensor) -> Tensor:
    """The stream in float32, or as it is where that is better."""
    return hidden.to(torch.promote_types(hidden.dtype, torch.float32))


def _unit(direction: Tensor, stream: Tensor) -> Tensor:
    """A direction (…, D) of length 1, of the stream's kind."""
    unit = direction.to(stream)
    return unit / unit.norm(dim=-1, keepdim=True)


def _check_direction(direction: Tensor, ranks: tuple[int, ...] = (1,)) -> None:
    if direction.ndim not in ranks:
        raise ValueError(f"the direction has shape {tuple(direction.shape)}; give one vector (D,)")
    if not bool(torch.isfinite(direction).all()):
        raise ValueError("the direction has values that are not finite numbers")
    if not bool(direction.any(dim=-1).all()):
        raise ValueError("the direction has length 0, so that it names no direction")


def _check_target(target: Tensor) -> None:
    if target.ndim not in (1, 3):
        raise ValueError(
            f"the target has shape {tuple(target.shape)}; give (W,), or (B, T, W) for the tokens "
            "of one batch"
        )
    if not bool(torch.isfinite(target).all()):
        raise ValueError("the target has values that are not finite numbers")


def _check_batch(target: Tensor, hidden: Tensor) -> None:
    if target.ndim == 3 and target.shape[:2] != hidden.shape[:2]:
        raise ValueError(
            f"the target belongs to a batch of {tuple(target.shape[:2])} tokens, not to "
            f"{tuple(hidden.shape[:2])}; a target for a text that is being written is (W,)"
        )
