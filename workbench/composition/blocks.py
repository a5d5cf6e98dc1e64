"""Many schedules at once: every setting takes a block of the batch's rows.

One call of `compose` writes the texts of all settings. Knows nothing of what a text shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from workbench.composition.answers import ended
from workbench.composition.compose import Property, compose
from workbench.composition.schedules import Schedule, Seen, looked
from workbench.text.tokens import Prompt

if TYPE_CHECKING:
    from workbench.loading.models import LM


@dataclass(frozen=True)
class Setting:
    """A way to schedule every property.

    name       of its family, such as "dynamic"
    level      how strong it is within it
    schedules  property -> its schedule
    label      what tells settings of one level apart, such as the pair of coefficients
    """

    name: str
    level: float
    schedules: Mapping[str, Schedule]
    label: str = ""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Schedules side by side, each for `size` rows, in their order. Those that look at nothing are
    probed at 0, the unsteered model."""

    schedules: Sequence[Schedule]
    size: int

    @property
    def probe(self) -> Tensor:
        """(B,) every row's own."""
        probes = [0.0 if each.probe is None else each.probe for each in self.schedules]
        return torch.tensor(probes).repeat_interleave(self.size)

    def __call__(self, step: int, steps: int, seen: Seen | None) -> Tensor:
        seen, found = looked(self, seen), []
        for place, schedule in enumerate(self.schedules):
            mine = slice(place * self.size, (place + 1) * self.size)
            own = replace(
                seen,
                clean=seen.clean[mine],
                steered=seen.steered[mine],
                spent=seen.spent[mine],
            )
            given = torch.as_tensor(schedule(step, steps, own), dtype=torch.float32)
            found.append(given.expand(self.size))
        return torch.cat(found)


def run(
    lm: LM,
    prompts: Sequence[Prompt],
    properties: Mapping[str, Property],
    settings: Iterable[Setting],
    *,
    new_tokens: int,
    judge: Callable[[Sequence[str], Sequence[bool]], Mapping[str, Sequence[Any]]] | None = None,
    fluency: Callable[[Tensor, Tensor], Mapping[str, Sequence[Any]]] | None = None,
) -> pd.DataFrame:
    """One row per setting and prompt: `schedule`, `level`, `label`, `prompt`, `tokens`, `kl` (nats
    a token, KL(composed || unsteered)), `coefficient PROPERTY` (the mean over the text's tokens),
    and what is handed in.

    judge     texts, and whether the model ended each -> columns
    fluency   ids (B, N) and lengths (B,) of texts, all prompts' of one setting after another's ->
              columns
    """
    every, size = list(settings), len(prompts)
    blocks = {name: Blocks([each.schedules[name] for each in every], size) for name in properties}
    made = compose(lm, [*prompts] * len(every), properties, blocks, new_tokens=new_tokens)
    assert made.kl is not None
    columns: dict[str, Any] = {
        "schedule": [each.name for each in every for _ in range(size)],
        "level": [each.level for each in every for _ in range(size)],
        "label": [each.label for each in every for _ in range(size)],
        "prompt": [*range(size)] * len(every),
        "tokens": made.lengths.numpy(),
        "kl": made.kl.double().nanmean(dim=1).numpy(),
        "text": made.texts,
    }
    for name, table in made.coefficients.items():
        columns[f"coefficient {name}"] = table.double().nanmean(dim=1).numpy()
    if judge is not None:
        columns |= judge(made.texts, ended(lm, made.ids, made.lengths))
    if fluency is not None:
        columns |= fluency(made.ids, made.lengths)
    return pd.DataFrame(columns)
