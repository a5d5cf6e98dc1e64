"""Updates that leave the residual stream as long as it was.

    h' = u(h, m) |h| / |u(h, m)|

Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from workbench.interventions.updates import Function, Intervention, Origin, Update, reads


@dataclass(frozen=True, eq=False)
class KeepNorm:
    """An update u after which streams have their former length.

    per  "token": every token; "pass": all tokens of a row's pass, and only where any of them has
         grown, as the library of conditional activation steering does (Lee et al. 2024,
         https://arxiv.org/abs/2409.05907). What a token gets then depends on those it is read
         with: a text read back in one pass is not steered as it was while it was written

    The update may be a plain function. Raises ValueError for another word, and for an update of
    weights, which never sees the stream.
    """

    update: Update
    per: Literal["token", "pass"] = "token"

    def __post_init__(self) -> None:
        if self.per not in ("token", "pass"):
            raise ValueError(f"per {self.per!r} is unknown; choose one of token, pass")
        if reads(self.update) is not None:
            raise ValueError(
                f"{type(self.update).__name__} changes weights and never sees the stream, whose "
                "length it could keep; give an update of the stream, such as vector.at(0.5)"
            )
        if not hasattr(self.update, "width"):
            object.__setattr__(self, "update", Function(self.update))

    @property
    def width(self) -> int | None:
        return self.update.width

    @property
    def origin(self) -> Origin | None:
        return self.update.origin

    def on_rows(self, rows: Tensor) -> KeepNorm:
        """The same on some rows of the batch that its update belongs to."""
        cut = getattr(self.update, "on_rows", None)
        return self if cut is None else replace(self, update=cut(rows))

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        changed = self.update(hidden, scale)
        before, after = (each.norm(dim=-1, keepdim=True) for each in (hidden, changed))
        kept = torch.where(after > 0, changed * (before / after), changed)
        if self.per == "token":
            return kept
        return torch.where((after > before).any(dim=1, keepdim=True), kept, changed)


def keep_norm(interventions: Sequence[Intervention]) -> tuple[Intervention, ...]:
    """The same interventions, each leaving every token's stream as long as it found it.

    Raises ValueError for one that does not act on the residual stream.
    """
    kept = []
    for each in interventions:
        if each.site != "residual":
            raise ValueError(
                f"layer {each.layer} is steered at its {each.site}, not in the residual stream, so "
                "that the stream's length cannot be kept there"
            )
        update = KeepNorm(each.update)  # pyright: ignore[reportArgumentType] - it refuses others
        kept.append(replace(each, update=update))
    return tuple(kept)
