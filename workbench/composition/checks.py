"""What composing refuses, before the model runs and where its numbers break."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.composition.schedules import Schedule, rows_of
from workbench.forward.steering import check_fits, check_layer
from workbench.interventions.updates import AnyUpdate, Intervention, Place

if TYPE_CHECKING:
    from workbench.composition.compose import Property
    from workbench.loading.models import LM


def check_properties(lm: LM, properties: Mapping[str, Property], steps: int) -> None:
    """Raises ValueError for what does not fit the model at any of so many steps: a layer out of
    range, an update of another width or model, and a vector in place of a property."""
    for name, each in properties.items():
        fitting: dict[tuple[Place, int], AnyUpdate] = {}  # many have the same at every step
        for step in range(steps):
            added = each.at(step)
            if any(isinstance(one, Intervention) for one in added):
                raise ValueError(
                    f"property {name!r} is a {type(each).__name__}, whose strength is no "
                    "schedule's: give Same(….at(1.0))"
                )
            for at, update, _ in added:
                if (at, id(update)) not in fitting:
                    check_layer(lm, at.layer)
                    check_fits(lm, update, at)
                fitting[at, id(update)] = update


def check_kinds(properties: object, schedules: object) -> None:
    """Raises ValueError for interventions in place of a property, and a number in place of a
    schedule."""
    for name, given in (("properties", properties), ("schedules", schedules)):
        if not isinstance(given, Mapping):
            raise ValueError(
                f"{name} is {repr(given)[:200]}; give them by name: "
                "{'name': Same(vector.at(1.0))} and {'name': Fixed(1.0)}"
            )
        for key, each in given.items():
            if name == "properties" and not callable(getattr(each, "at", None)):
                raise ValueError(
                    f"property {key!r} is a {type(each).__name__}; give Same(vector.at(1.0)) "
                    "(from workbench.composition.compose import Same)"
                )
            if name == "schedules" and not (callable(each) and hasattr(each, "probe")):
                strength = each if isinstance(each, Real) else 1.0
                raise ValueError(
                    f"the schedule of {key!r} is {repr(each)[:200]}; give Fixed({strength!r}) "
                    "(from workbench.composition.schedules import Fixed)"
                )


def check_rows(schedules: Mapping[str, Schedule], rows: int) -> None:
    """Raises ValueError for a schedule that is made for another number of rows."""
    for name, schedule in schedules.items():
        own = rows_of(schedule)
        if own is not None and own != rows:
            raise ValueError(
                f"the schedule of {name!r} is for {own} rows, and there are {rows} prompts: give "
                "it one row for each"
            )


def check_numbers(logits: Tensor, what: str, step: int) -> None:
    """Raises ValueError for logits (B, V) that are NaN or infinite: every coefficient, KL and token
    from there on would be NaN, or chosen by it. `what` was added to them."""
    broken = (~(logits < torch.inf)).any(dim=-1).nonzero()[:, 0].tolist()
    if broken:
        raise ValueError(
            f"the model's logits with {what} are NaN or infinite at step {step}, in rows "
            f"{broken}: give smaller deltas or coefficients, or load the model in float32"
        )
