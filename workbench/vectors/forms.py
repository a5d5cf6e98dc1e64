"""LoRA and local weight: changes of MLP down-projections, scaled by a coefficient as a vector is.

    change of the output = m (x dW + db), by layer      (weight_updates.py; "Why Steering Works")

What training makes of the two forms that act on weights: the tensors of each layer, the model that
they belong to, and where they came from. This module knows nothing of how they are trained.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import safetensors.torch
import torch
from torch import Tensor

from workbench.interventions.updates import Coefficient, Intervention, Origin
from workbench.interventions.weight_updates import AddLinear, AddLowRank
from workbench.support.checks import require_lists
from workbench.support.store import read_tensors, write_atomically
from workbench.text.positions import Positions, everything
from workbench.vectors.files import require_own_name
from workbench.vectors.steering_vector import Unit

if TYPE_CHECKING:
    from workbench.loading.models import LM

Form = TypeVar("Form", bound="WeightForm")


@dataclass(frozen=True, eq=False)
class WeightForm:
    """Changes of down-projections, by 0-based decoder layer; see `LoRA` and `LocalWeight`.

    changes     layer -> its update, float32 on the CPU
    model       name of the model it was made on; fingerprint: sha256 of its config and weights
                ("" when unknown)
    method      how it was found
    provenance  objective, data and text hashes, settings, seed, versions, history: JSON values

    Raises ValueError for no layer, a negative one, unequal widths, or changes of another form.
    """

    changes: Mapping[int, Any]
    model: str
    fingerprint: str
    method: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = ""
    update: ClassVar[type] = object
    # What its coefficient m counts, see `at`.
    units: ClassVar[tuple[Unit, ...]] = ("raw",)

    def __post_init__(self) -> None:
        if not self.changes:
            raise ValueError(f"a {self.kind} needs a change at one layer at least")
        plain = {}
        for layer, change in sorted(self.changes.items()):
            if not isinstance(change, self.update):
                raise ValueError(
                    f"the change of layer {layer} is {change!r}; a {self.kind} takes "
                    f"{self.update.__name__} (from workbench.interventions.weight_updates)"
                )
            if int(layer) < 0:
                raise ValueError(f"layer {layer} is negative; layers are counted from 0")
            tensors = {name: t.detach().to("cpu").float() for name, t in tensors_of(change).items()}
            plain[int(layer)] = self.update(**tensors, origin=self.origin)
        widths = sorted({change.width for change in plain.values()})
        if len(widths) > 1:
            raise ValueError(f"the changes write streams of different widths: {widths}")
        object.__setattr__(self, "changes", plain)

    @property
    def origin(self) -> Origin | None:
        """The model that it was made on, None when its weights are not known."""
        return Origin(self.model, self.fingerprint, self.kind) if self.fingerprint else None

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that it changes."""
        return tuple(self.changes)

    @property
    def default_layers(self) -> tuple[int, ...]:
        """The layers that `at` changes unless told otherwise: all that were trained together."""
        return self.layers

    @property
    def residual_norm(self) -> Mapping[int, float]:
        """Known of no layer: what a change of weights adds depends on what its layer reads."""
        return {}

    @property
    def width(self) -> int:
        """D, the width of what it writes: that of the residual stream."""
        return self.changes[self.layers[0]].width

    @property
    def texts(self) -> frozenset[str]:
        """Hashes of the texts that it was trained on, for `splits.require_disjoint`."""
        return frozenset(self.provenance.get("texts", ()))

    @property
    def held_out_texts(self) -> frozenset[str]:
        """Hashes of the other texts that chose its epoch: a report keeps apart from them too."""
        return frozenset(self.provenance.get("held_out_texts", ()))

    def tensors(self) -> dict[str, Tensor]:
        """All that it is made of: "<name>.<layer>" -> tensor."""
        return {
            f"{name}.{layer}": tensor
            for layer, change in self.changes.items()
            for name, tensor in tensors_of(change).items()
        }

    def norm(self, layer: int) -> float:
        """Frobenius norm of what coefficient 1 adds to weight and bias of a layer together.

        Raises ValueError for a layer that it does not change.
        """
        parts = [part.norm() for part in self.delta(layer) if part is not None]
        return float(torch.stack(parts).norm())

    def scaled(
        self: Form, factors: Mapping[int, float], residual_norm: Mapping[int, float]
    ) -> Form:
        """Its changes at these layers alone, each times its factor. What norms the stream has is
        nothing to a change of weights. Raises KeyError for a layer that it does not change."""
        return replace(self, changes={k: self.changes[k].times(by) for k, by in factors.items()})

    def __repr__(self) -> str:
        trait = self.provenance.get("trait") or self.provenance.get("pairs") or self.kind
        sizes = ", ".join(
            f"{layer}: " + " x ".join(str(tuple(t.shape)) for t in tensors_of(change).values())
            for layer, change in list(self.changes.items())[:3]
        )
        more = ", ..." if len(self.layers) > 3 else ""
        head = f"{type(self).__name__}({trait!r}, {self.method}, model {self.model!r}, "
        return head + f"{{{sizes}{more}}})"

    def at(
        self,
        coefficient: Coefficient,
        *,
        layers: Sequence[int] | None = None,
        positions: Positions = everything,
        unit: Unit = "raw",
    ) -> tuple[Intervention, ...]:
        """The interventions that add it `coefficient` times, one per layer (default: all of them,
        as they were trained together).

        They run on the weights that it was made on, and on any if those are not known. With
        coefficient m everywhere the model is the one with weight W + m dW and bias b + m db.
        Raises ValueError for layers that are no list of different layers that it changes, and for
        another unit than "raw".
        """
        if unit not in self.units:
            raise ValueError(
                f"unit {unit!r}: the coefficient of a {self.kind} is m, multiples of the change as "
                "it is; use unit='raw'"
            )
        require_lists(layers=layers)
        chosen = self.layers if layers is None else tuple(layers)
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"layers {layers!r}: name at least one, and each once")
        missing = [layer for layer in chosen if layer not in self.changes]
        if missing:
            raise ValueError(
                f"no change at layer {missing[0]!r}; this {self.kind} has {self.layers}"
            )
        return tuple(
            Intervention(layer, self.changes[layer], coefficient, positions, "mlp")
            for layer in chosen
        )

    def delta(self, layer: int) -> tuple[Tensor, Tensor | None]:
        """What coefficient 1 adds to the down-projection of a layer: dW (I, D) and db (D,) or
        None. Raises ValueError for a layer that it does not change."""
        (intervention,) = self.at(1.0, layers=[layer])
        change: Any = intervention.update
        return change.matrix(), getattr(change, "bias", None)

    def check(self, lm: LM, *, same_model: bool = True) -> None:
        """Raise ValueError unless it fits `lm`: widths, layers and, unless `same_model` is False,
        the weights."""
        for layer, change in self.changes.items():
            if layer >= lm.layers:
                raise ValueError(
                    f"this {self.kind} changes layer {layer}, the model {lm.name!r} has layers "
                    f"0 to {lm.layers - 1}"
                )
            own, found = (change.reads, change.width), (lm.inner_width(layer), lm.width)
            if own != found:
                raise ValueError(
                    f"this {self.kind} changes a map of {own[0]} to {own[1]} at layer {layer} "
                    f"(made on {self.model!r}), the down-projection of {lm.name!r} maps "
                    f"{found[0]} to {found[1]}"
                )
        if same_model and self.origin is not None and lm.in_memory:
            lm.check_origin(self.origin)

    def __mul__(self: Form, factor: float) -> Form:
        """The change times a number: at coefficient m what `factor` m was."""
        return replace(self, changes={k: v.times(float(factor)) for k, v in self.changes.items()})

    __rmul__ = __mul__

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, whole or not at all. Raises ValueError for a name that ends
        as another tool's file does (.pt, .gguf, .svec), and OSError (a full disk, say)."""
        require_own_name(path, a_vector=False)
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors().items()}
        about = {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "method": self.method,
            "provenance": dict(self.provenance),
        }
        metadata = {"format": self._format(), "about": json.dumps(about)}
        write_atomically(Path(path), safetensors.torch.save(tensors, metadata))

    @classmethod
    def load(cls: type[Form], path: str | os.PathLike[str]) -> Form:
        """Read what `save` wrote; nothing in the file is ever run.

        Raises FileNotFoundError, and ValueError for a file that is damaged or holds another form.
        """
        metadata, tensors = read_tensors(Path(path), cls.kind, cls._format())
        try:
            about = json.loads(metadata["about"])
            return cls(
                changes=_changes(cls.update, tensors),
                model=str(about["model"]),
                fingerprint=str(about["fingerprint"]),
                method=str(about["method"]),
                provenance=dict(about["provenance"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} is a damaged {cls.kind}: {error}") from None

    @classmethod
    def _format(cls) -> str:
        return f"workbench.{cls.kind.replace(' ', '_')}/1"


class LoRA(WeightForm):
    """dW = A B of low rank, A (I, r) and B (r, D), at each layer (`AddLowRank`); no bias, and no
    factor alpha / r: the coefficient is the only dial."""

    kind = "LoRA"
    update = AddLowRank

    @property
    def rank(self) -> int:
        """r, the largest of its layers."""
        return max(change.a.shape[1] for change in self.changes.values())


class LocalWeight(WeightForm):
    """A whole dW (I, D) and db (D,) at each layer (`AddLinear`)."""

    kind = "local weight"
    update = AddLinear


def tensors_of(change: AddLowRank | AddLinear) -> dict[str, Tensor]:
    """Name -> tensor of one layer's change."""
    return {f.name: getattr(change, f.name) for f in fields(change) if f.name != "origin"}


def _changes(update: Any, tensors: Mapping[str, Tensor]) -> dict[int, Any]:
    """Layer -> update, of tensors named "<name>.<layer>"."""
    names = [f.name for f in fields(update) if f.name != "origin"]
    by_layer: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"([a-z]+)\.(\d{1,6})", name)
        if match is None or match[1] not in names:
            raise ValueError(f"unexpected tensor {name!r}")
        by_layer.setdefault(int(match[2]), {})[match[1]] = tensor
    return {layer: update(**found) for layer, found in by_layer.items()}
