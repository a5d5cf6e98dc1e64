"""One objective trained in every form: vector, LoRA and local weight, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from workbench.contrast.pairs import Pairs
from workbench.training.objectives import AnyObjective
from workbench.training.train import train
from workbench.training.trainable import FORMS
from workbench.training.trained import Trained

if TYPE_CHECKING:
    from workbench.loading.models import LM

#: Learning rates of wren: those published are for models ten thousand times its size.
WREN: Mapping[str, float] = MappingProxyType({"vector": 0.3, "lora": 0.03, "local_weight": 0.02})


def train_every_form(
    lm: LM,
    pairs: Pairs,
    objective: AnyObjective = "split",
    *,
    rates: Mapping[str, float] | None = None,
    watch: Mapping[str, Callable[[dict[str, float]], None]] | None = None,
    **settings: Any,
) -> dict[str, Trained]:
    """The same pairs and objective in each form: "vector", "lora" and "local_weight" -> result.

    rates     form -> learning rate; by default wren's own (`WREN`) for wren, and for any other
              model, as for a form that is not named, the published one
    watch     form -> what is given each row of its loss history as it comes
    settings  of `train`, for all forms alike

    Raises ValueError, before any step, for a form in `rates` or `watch` that is none, and as
    `train`.
    """
    given = (WREN if lm.name == "wren" else {}) if rates is None else rates
    seen = watch or {}
    for form in (*given, *seen):
        if form not in FORMS:
            raise ValueError(f"form {form!r} is unknown; choose one of {', '.join(FORMS)}")
    return {
        form: train(
            lm,
            pairs,
            objective,
            form,
            learning_rate=given.get(form),
            watch=seen.get(form),
            **settings,
        )
        for form in FORMS
    }
