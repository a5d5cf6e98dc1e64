"""A model that stays edited: interventions that every later call on it makes as well.

    edited = edit(lm, vector.at(2.0))      generate(edited, …), sweep(edited, …), odds(edited, …)

An edited model shares its weights with the model that it was made of, which stays as it was; all
that takes a model takes an edited one. Its edits come before the interventions of a call, and it is
what such a call compares with: unsteered means edited, and no more. An edit may be a vector, a
change of weights, or the stream of another prompt written in for good (`written_in`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from workbench.forward import tracing
from workbench.forward.captures import stream_origin
from workbench.forward.steering import check_fits, check_interventions, check_place
from workbench.interventions.maps import Replace
from workbench.interventions.updates import Intervention, Origin, held, per_row
from workbench.loading.models import LM
from workbench.support.store import tensors_hash
from workbench.text import positions as rules
from workbench.text.positions import Mask, Positions

if TYPE_CHECKING:
    from workbench.text.tokens import Prompt

# What an update has of one row, (W,), or of each row of one batch: see maps.py.
_ONE_ROW = ("target", "share", "direction")


@dataclass(frozen=True, eq=False)
class Edited(LM):
    """A model under edits of its own: `edit` makes it.

    base   the model that it was made of, edited itself perhaps
    own    what this edit adds to that
    """

    base: LM
    own: tuple[Intervention, ...]

    @property
    def edits(self) -> tuple[Intervention, ...]:
        """All its edits, the first made first."""
        return (*self.base.edits, *self.own)

    @property
    def original(self) -> LM:
        """The model without any edit."""
        return self.base.original if isinstance(self.base, Edited) else self.base

    def undo(self) -> LM:
        """The model before the last edit."""
        return self.base

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the original's fingerprint and of the edits: what is made on an edited model
        is not taken for the original's. Raises ValueError as `LM.fingerprint`."""
        said = "\n".join(_content(each) for each in self.own)
        return hashlib.sha256(f"{self.base.fingerprint}\n{said}".encode()).hexdigest()

    def check_origin(self, origin: Origin) -> None:
        """Raise ValueError unless it was made on this model, or on one that this is an edit of."""
        if origin.fingerprint != self.fingerprint:
            self.base.check_origin(origin)

    def __repr__(self) -> str:
        places = ", ".join(f"{type(e.update).__name__} at layer {e.layer}" for e in self.edits)
        return f"Edited({self.original!r}, [{places}])"


def edit(lm: LM, interventions: Sequence[Intervention]) -> Edited:
    """A model that is steered by `interventions` in whatever is done with it from now on.

    `lm` may be edited already: edits are stacked, and `undo` takes the last one off again.

    Raises ValueError for what no batch to come could be steered by (coefficients or directions per
    row, a mask, a coefficient that follows the step), an update that is or holds a plain function,
    whose content no fingerprint could tell, for no interventions, and as `steering.plan`.
    """
    check_interventions(interventions)
    if not interventions:
        raise ValueError("no interventions: the model would not be edited; give one at least")
    for each in interventions:
        check_fits(lm, each.update, check_place(lm, each.layer, each.site))
        check_lasting(each)
    return Edited(lm.traced, lm.name, lm.layer_path, lm, tuple(interventions))


@contextmanager
def steered(lm: LM, interventions: Sequence[Intervention]) -> Iterator[Edited]:
    """`with steered(lm, vector.at(2.0)) as edited:` the edited model, for the length of a block.

    It is `edited` that is steered within; `lm` itself stays as it is. Raises as `edit`.
    """
    yield edit(lm, interventions)


def written_in(
    lm: LM,
    prompt: Prompt,
    layer: int,
    *,
    read: Positions = rules.last,
    at: Positions = rules.last,
    coefficient: float = 1.0,
) -> tuple[Intervention]:
    """The stream of a prompt after block `layer`, to be written into other texts: for `edit`.

    read  the tokens of the prompt whose mean stream it is
    at    the tokens of the other texts that get it
    coefficient  1 puts it in the place of what is there, less goes part of the way

    Raises ValueError as `tracing.read`, and for positions that can only be read in `at`.
    """
    stream = tracing.read(lm, [prompt], [layer], read)
    assert isinstance(stream, Tensor)
    update = Replace(stream[0, 0], None, stream_origin(lm))
    return (Intervention(layer, update, coefficient, at),)


def check_lasting(intervention: Intervention) -> None:
    """Raise ValueError for an intervention that belongs to one batch or step, by its coefficient,
    positions or update, and for an update that is or holds a plain function."""
    given = intervention.coefficient
    if callable(given) or per_row(given).numel() != 1:
        raise ValueError(
            f"the coefficient {given!r} belongs to one batch or step; what lasts has one number"
        )
    if isinstance(intervention.positions, Mask):
        raise ValueError(
            f"{intervention.positions!r} belongs to one batch; give a position rule, such as "
            "`everything` or `last`"
        )
    update: Any = intervention.update
    values = held(update) if is_dataclass(update) else {"": update}
    if any(not isinstance(each, Tensor | int | float | str | None) for each in values.values()):
        raise ValueError(
            f"the update {update!r} is or holds a function, whose content cannot be told from "
            "another's; give one that is made of tensors, such as Add or Replace"
        )
    for name, each in values.items():
        last = name.rpartition(".")[2]
        if isinstance(each, Tensor) and last in _ONE_ROW and each.ndim > 1:
            raise ValueError(
                f"the {last} of {type(update).__name__} has shape {tuple(each.shape)}: it belongs "
                "to the rows of one batch; what lasts has one for all"
            )


def _content(intervention: Intervention) -> str:
    """All that an intervention that lasts does, in words and hashes."""
    update: Any = intervention.update
    own = held(update)
    tensors = {name: value for name, value in own.items() if isinstance(value, Tensor)}
    plain = {name: value for name, value in own.items() if name not in tensors}
    coefficient = float(per_row(intervention.coefficient))  # type: ignore[arg-type]
    return (
        f"{type(update).__name__} {sorted(plain.items())} {tensors_hash(tensors)} "
        f"{intervention.layer} {intervention.site} {coefficient!r} {intervention.positions!r}"
    )
