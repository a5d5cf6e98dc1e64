"""What was baked into a model: each change with its size, and how the same one is known again.

A change is the same as another if it has the same direction at the same place: layer, site, and
weights and bias up to one factor, of either sign. Its config, which travels with a checkpoint,
keeps a sketch of every change,

    s_k = (2 Σ_ij cos(w_k i) dW_ij cos(w_k j) + √2 Σ_j db_j cos(w_k j)) / |(dW, db)|

with w_k the square root of the k-th prime: eight numbers of about 1, that rounding moves by 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.interventions.updates import Add, Intervention, per_row
from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.support.checks import number
from workbench.support.store import tensors_hash

if TYPE_CHECKING:
    from workbench.loading.models import LM

# Of a config, what says which changes are in the weights already.
CONFIG_KEY = "baked"
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
_NEAR = 1e-3
# Of a record of a change, what is text, and what is a number or not known.
_WORDS = ("kind", "site", "sha256", "made_on", "base")
_NUMBERS = ("coefficient", "length", "share")


@dataclass(frozen=True)
class Change:
    """One thing that is baked in.

    layer, site   None and "every write" for a removed direction
    coefficient   as given, of the tensors as given; None where there is none
    sha256        of the tensors as given
    sketch        of their direction; empty where weights are asked instead
    made_on       name of the model that it was made on, "" where that is not known
    length        of what is added to each token, |c v|, in the model's own units; None for a LoRA
                  or local weight, which add something else to every token
    share         of the median length of the unsteered stream there, on the texts of the check
    """

    kind: str
    layer: int | None
    site: str
    coefficient: float | None
    sha256: str
    made_on: str
    sketch: tuple[float, ...] = ()
    length: float | None = None
    share: float | None = None


def described(each: Intervention) -> Change:
    """What an intervention that a weight can hold changes."""
    update: Any = each.update
    kinds = {Add: "vector", AddLowRank: "LoRA", AddLinear: "local weight"}
    names = {Add: ("direction",), AddLowRank: ("a", "b"), AddLinear: ("weight", "bias")}
    size, origin = size_of(each), update.origin
    weight, bias = matrices(each)
    return Change(
        kind=kinds[type(update)],
        layer=each.layer,
        site=each.site,
        coefficient=size,
        sha256=tensors_hash({name: getattr(update, name) for name in names[type(update)]}),
        made_on=origin.model if origin is not None else "",
        sketch=_sketch(weight, bias),
        length=None if bias is None or weight is not None else abs(size) * float(bias.norm()),
    )


def size_of(each: Intervention) -> float:
    """Its one coefficient."""
    return float(per_row(each.coefficient))  # type: ignore[arg-type]


def matrices(each: Intervention) -> tuple[Tensor | None, Tensor | None]:
    """dW (I, D) and db (D,), float32, not yet times the coefficient; None for what it lacks."""
    update = each.update
    if isinstance(update, Add):
        return None, update.direction.detach().float()
    assert isinstance(update, AddLowRank | AddLinear)
    bias = update.bias.detach().float() if isinstance(update, AddLinear) else None
    return update.matrix().detach().float(), bias if bias is not None and bias.any() else None


def refuse_twice(lm: LM, changes: Sequence[Change]) -> None:
    """Raise ValueError where one of the changes is in the model's weights already, or stands twice
    among them: the same direction at the same place, whatever its coefficient, unit or sign."""
    for index, change in enumerate(changes):
        old = _find(change, records(lm.model.config))
        if old is not None:
            raise ValueError(
                f"this {change.kind} is baked into {lm.name!r} already (layer {old['layer']}, "
                f"coefficient {old['coefficient']:g}): baked twice it would act twice. Load the "
                f"model that it was baked onto, {old['base']!r}, and bake that"
            )
        other = _find(change, [asdict(each) for each in changes[:index]])
        if other is not None:
            raise ValueError(
                f"the {change.kind} of layer {change.layer} is given twice (coefficients "
                f"{other['coefficient']:g} and {change.coefficient:g}, what the model is edited by "
                "included); give it once, with the sum of the coefficients"
            )


def record(lm: LM, config: Any, changes: Sequence[Change]) -> None:
    """Say in a config what is baked into its model: all that was into `lm`, and the changes. What
    another program kept there is not carried on."""
    new = [asdict(each) | {"sketch": list(each.sketch), "base": lm.name} for each in changes]
    setattr(config, CONFIG_KEY, [*records(lm.model.config), *new])


def records(config: Any) -> list[dict[str, Any]]:
    """What a config says is baked into its model: the changes of `record`, as JSON values.

    A config comes from anybody, and the key may be another program's: what is not of the form that
    `record` writes is none of ours and left out.
    """
    kept = getattr(config, CONFIG_KEY, None)
    return [dict(each) for each in kept if _ours(each)] if isinstance(kept, list | tuple) else []


def _ours(each: Any) -> bool:
    """Whether it is a change as `record` writes it."""
    if not isinstance(each, Mapping):
        return False
    words = all(isinstance(each.get(name), str) for name in _WORDS)
    # Length and share were not always measured.
    numbers = all(each.get(name) is None or math.isfinite(number(each[name])) for name in _NUMBERS)
    layer, sketch = each.get("layer"), each.get("sketch", ())
    whole = isinstance(layer, int) and not isinstance(layer, bool)
    placed = "layer" in each and (layer is None or whole)
    if not (words and numbers and placed and isinstance(sketch, list | tuple)):
        return False
    # A change that is known again by its sketch has a size.
    return not sketch or (
        len(sketch) == len(_PRIMES)
        and all(math.isfinite(number(value)) for value in sketch)
        and each.get("coefficient") is not None
    )


def _find(change: Change, known: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first of the known changes that is the same."""
    place = (change.layer, change.site)
    return next(
        (
            each
            for each in known
            if (each["layer"], each["site"]) == place
            and _same(change.sketch, each.get("sketch", ()))
        ),
        None,
    )


def _same(one: Sequence[float], two: Sequence[float]) -> bool:
    if not one or not two:
        return False
    a, b = torch.tensor(one), torch.tensor(two)
    return bool(min((a - b).abs().max(), (a + b).abs().max()) < _NEAR)


def _sketch(weight: Tensor | None, bias: Tensor | None) -> tuple[float, ...]:
    total, square = torch.zeros(len(_PRIMES)), torch.zeros(())
    if weight is not None:
        left, right = (_waves(size).to(weight.device) for size in weight.shape)
        total = total + 2 * ((left @ weight) * right).sum(dim=1).cpu()
        square = square + weight.square().sum().cpu()
    if bias is not None:
        total = total + 2**0.5 * (_waves(len(bias)).to(bias.device) @ bias).cpu()
        square = square + bias.square().sum().cpu()
    return tuple(round(each, 6) for each in (total / square.sqrt().clamp_min(1e-30)).tolist())


def _waves(size: int) -> Tensor:
    """cos(w_k i), (8, size), the angles in float64."""
    at = torch.arange(1, size + 1, dtype=torch.float64)
    return torch.outer(torch.tensor(_PRIMES, dtype=torch.float64).sqrt(), at).cos().float()
