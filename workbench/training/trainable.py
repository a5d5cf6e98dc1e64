"""The three forms while they are trained: their parameters by layer, and the interventions of them.

    vector        residual stream   m v                 v (D,)
    lora          MLP down-proj.    m x A B             A (I, r), B (r, D)
    local_weight  MLP down-proj.    m (x dW + db)       dW (I, D), db (D,)

Parameters are a flat dictionary, "<layer>.<name>" -> tensor. Knows nothing of objectives or steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.interventions.updates import Add, AnyUpdate, Intervention, Site, reads
from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.text.positions import Positions

if TYPE_CHECKING:
    from workbench.loading.models import LM

Parameters = dict[str, Tensor]
# The published code's vector also has a trained number that is added to m: neither saved nor used
# when the vector is applied. It is trained in `compat`.
EXTRA = "extra"


@dataclass(frozen=True)
class Form:
    """One form: where it acts, its published factors and learning rate, and how it begins.

    start   (I, D, rank, generator) -> the parameters of one layer
    update  of one layer's parameters
    """

    name: str
    site: Site
    factors: tuple[float, ...]
    learning_rate: float
    start: Callable[[int, int, int, torch.Generator], dict[str, Tensor]]
    update: Callable[..., AnyUpdate]


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> Tensor:
    """As the weight of a linear map begins: uniform within 1 / sqrt(fan in)."""
    return (2 * torch.rand(shape, generator=generator) - 1) / fan_in**0.5


def _vector(_: int, width: int, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    return {"direction": _uniform((width,), width, generator)}


def _lora(into: int, width: int, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """B begins at zero, so that the model begins unsteered."""
    return {"a": _uniform((into, rank), into, generator), "b": torch.zeros(rank, width)}


def _local_weight(into: int, width: int, rank: int, _: torch.Generator) -> dict[str, Tensor]:
    return {"weight": torch.zeros(into, width), "bias": torch.zeros(width)}


_TWENTY = tuple(float(factor) for factor in range(2, 21, 2))
_TWO = tuple(factor / 10 for factor in _TWENTY)
FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("vector", "residual", _TWENTY, 0.08, _vector, Add),
        Form("lora", "mlp", _TWO, 0.01, _lora, AddLowRank),
        Form("local_weight", "mlp", _TWO, 0.01, _local_weight, AddLinear),
    )
}


def begin(
    lm: LM, form: Form, layers: Sequence[int], rank: int, seed: int, *, extra: bool = False
) -> Parameters:
    """The parameters at the start, float32, where the model takes its token ids.

    Raises ValueError where a layer has no site for the form.
    """
    found: Parameters = {}
    for layer in layers:
        into = lm.inner_width(layer) if form.site == "mlp" else lm.width
        made = form.start(into, lm.width, rank, generator(seed, layer))
        if extra:
            made[EXTRA] = torch.zeros(1)
        found |= {f"{layer}.{name}": tensor for name, tensor in made.items()}
    return {name: tensor.to(lm.device) for name, tensor in found.items()}


def of_layer(parameters: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    """Name -> tensor of one layer, without the number that is only trained."""
    named = (name.partition(".") for name in parameters)
    return {
        name: parameters[f"{layer}.{name}"]
        for at, _, name in named
        if at == str(layer) and name != EXTRA
    }


def layers_of(parameters: Mapping[str, Tensor]) -> list[int]:
    return sorted({int(name.partition(".")[0]) for name in parameters})


def interventions(
    form: Form,
    parameters: Parameters,
    coefficients: Tensor,
    positions: Positions,
    *,
    removed: Tensor | None = None,
    dropout: float = 0.0,
    seed: Sequence[int] = (),
) -> list[Intervention]:
    """What steers a batch while the parameters are trained: gradients flow to them.

    coefficients  (B,), one per row
    removed       (B,) bool, rows that lose the component along the vector instead (`Remove`)
    dropout       the share of the change's entries that is dropped, by noise keyed by `seed`
    """
    made = []
    for layer in layers_of(parameters):
        tensors = of_layer(parameters, layer)
        update: AnyUpdate = form.update(**tensors)
        if dropout:
            update = Dropped(update, dropout, generator(*seed, layer))
        scale = coefficients if removed is None else coefficients.masked_fill(removed, 0.0)
        made.append(Intervention(layer, update, scale, positions, form.site))
        extra = parameters.get(f"{layer}.{EXTRA}")
        if extra is not None:
            # (m + extra) v: a coefficient takes no gradient, a direction does.
            more = Add(extra * tensors["direction"])
            made.append(Intervention(layer, more, (scale != 0).float(), positions))
        if removed is not None and removed.any():
            away = Remove(tensors["direction"], extra)
            made.append(Intervention(layer, away, removed.float(), positions))
    return made


def generator(*key: int) -> torch.Generator:
    """Noise that is keyed by whole numbers alone, so that a resumed run draws the same."""
    state = np.random.SeedSequence([int(part) for part in key]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


class Dropped:
    """An update of whose change a share is dropped, and the rest enlarged to the same mean.

    Of a vector, which is one change for all tokens, the same entries at each token of a row.
    """

    origin = None

    def __init__(self, update: AnyUpdate, share: float, noise: torch.Generator) -> None:
        self.update, self.share, self.noise = update, share, noise
        self.width = update.width
        self.reads = reads(update)

    def __call__(self, hidden: Tensor, scale: Tensor, *read: Tensor) -> Tensor:
        apply: Callable[..., Tensor] = self.update
        change = apply(torch.zeros_like(hidden), scale, *read)
        rows, tokens, width = change.shape
        shape = (rows, tokens if read else 1, width)
        kept = torch.rand(shape, generator=self.noise) >= self.share
        return hidden + change * (kept / (1 - self.share)).to(change.device, change.dtype)


@dataclass(frozen=True, eq=False)
class Remove:
    """h - relu(h . v + e) / |v|^2 v: the stream without what it has of v (e: 0, or trained).

    The scale only says where. Source: RePS's training pairs that null the concept out.
    """

    direction: Tensor
    extra: Tensor | None = None
    origin: Any = None

    @property
    def width(self) -> int:
        return self.direction.shape[0]

    def __call__(self, hidden: Tensor, scale: Tensor) -> Tensor:
        v = self.direction.to(hidden.device, hidden.dtype)
        along = hidden @ v if self.extra is None else hidden @ v + self.extra.to(hidden)
        # A vector of length 0 removes nothing, and its gradient is not 0 / 0.
        size = v.square().sum().clamp_min(torch.finfo(v.dtype).tiny)
        return hidden - (torch.relu(along) / size)[..., None] * v
