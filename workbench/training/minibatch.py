"""What a training run is: its settings, and the loss of a minibatch under them.

Ties a form (trainable.py), an objective (objectives.py) and examples (examples.py) together. Steps
and checkpoints are elsewhere (fitting.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from workbench.contrast.pairs import Pairs
from workbench.support.checks import check_whole, number
from workbench.text.positions import Mask, Positions, check_positions
from workbench.training.examples import Examples, completion_logprobs
from workbench.training.fitting import Losses, Schedule
from workbench.training.objectives import Objective, Side, describe
from workbench.training.trainable import Form, Parameters, begin, interventions

if TYPE_CHECKING:
    from workbench.loading.models import LM

Sub = Literal["negate", "remove"] | None


@dataclass(frozen=True)
class Settings:
    """Everything but the model and the pairs that decides a result; see `train.train`.

    Raises ValueError for a value out of range, naming it.
    """

    objective: Objective
    form: Form
    layers: tuple[int, ...]
    rank: int
    factors: tuple[float, ...]
    sub: Sub
    positions: Positions
    epochs: int
    batch: int
    learning_rate: float
    warmup: float
    weight_decay: float
    clip: float
    dropout: float
    patience: int | None
    compat: bool
    seed: int
    parts: int = 1

    def __post_init__(self) -> None:
        least_of = {"epochs": 1, "batch": 1, "rank": 1, "parts": 1, "seed": 0}
        for name, least in least_of.items():
            check_whole(name, getattr(self, name), least)
        if self.patience is not None:
            check_whole("patience", self.patience, 1)
        for name in ("learning_rate", "clip"):
            if not 0 < number(getattr(self, name)) < math.inf:
                raise ValueError(f"{name} {getattr(self, name)!r}: give a finite number above 0")
        for name in ("warmup", "dropout"):
            if not 0 <= number(getattr(self, name)) < 1:
                raise ValueError(f"{name} {getattr(self, name)!r}: give a share, 0 <= {name} < 1")
        if not 0 <= number(self.weight_decay) < math.inf:
            raise ValueError(f"weight_decay {self.weight_decay!r}: give a finite number, 0 or more")
        wrong = [f for f in self.factors if not math.isfinite(number(f)) or f == 0]
        if wrong or not self.factors:
            raise ValueError(
                f"factors {list(self.factors)!r}: give at least one, and finite numbers other "
                "than 0, which would train nothing"
            )
        if self.sub not in ("negate", "remove", None):
            raise ValueError(f"sub {self.sub!r} is unknown; use 'negate', 'remove' or None")
        if self.sub == "remove" and self.form.name != "vector":
            raise ValueError(
                f"sub='remove' takes a vector out of the stream; the form {self.form.name!r} has "
                "none: use sub='negate'"
            )
        check_positions(self.positions)
        if isinstance(self.positions, Mask):
            raise ValueError(
                "a mask belongs to one batch; training runs many: give a position rule"
            )

    @property
    def has_extra(self) -> bool:
        return self.compat and self.form.name == "vector"

    def begin(self, lm: LM) -> Parameters:
        """The parameters at the start. Raises ValueError where a layer has no site for the form."""
        return begin(lm, self.form, self.layers, self.rank, self.seed, extra=self.has_extra)

    def schedule(self, count: int) -> Schedule:
        """The steps over `count` examples."""
        return Schedule(
            count,
            self.epochs,
            self.batch,
            self.learning_rate,
            self.warmup,
            self.weight_decay,
            self.clip,
            self.patience,
            self.seed,
            self.parts,
        )

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **plain,
            "objective": describe(self.objective),
            "form": self.form.name,
            "layers": list(self.layers),
            "rank": self.rank if self.form.name == "lora" else None,
            "factors": [float(factor) for factor in self.factors],
            "positions": repr(self.positions),
        }


@dataclass(frozen=True, eq=False)
class Task:
    """A run's settings with its examples, and those that judge it (None: nothing is held out).

    pairs  the pairs that the examples are made of; numbers: which those were among all
    """

    lm: LM
    settings: Settings
    pairs: Pairs
    numbers: Sequence[int]
    examples: Examples
    judging: Examples | None

    def losses(self, parameters: Parameters, chosen: Sequence[int], step: int) -> Losses:
        """The objective on some examples of a step, with gradients. Raises ValueError as `plan`."""
        schedule = self.settings.schedule(len(self.examples))
        before = schedule.examples(step).index(chosen[0])
        # Each part of a step has noise of its own.
        noise = (self.settings.seed, step, before) if before else (self.settings.seed, step)
        epoch = step // schedule.epoch
        return self._losses(*self._sides(self.examples, parameters, chosen, epoch, noise))

    @torch.no_grad()
    def judge(self, parameters: Parameters) -> float:
        """The objective on the held-out examples: always with the same factors, no dropout."""
        judging, size = self.judging, self.settings.batch
        assert judging is not None
        everyone = range(len(judging))
        parts = [everyone[start : start + size] for start in range(0, len(judging), size)]
        sides = (self._sides(judging, parameters, part, 0, None) for part in parts)
        found = [float(self._losses(*both).loss) for both in sides]
        return float(np.average(found, weights=[len(part) for part in parts]))

    @torch.no_grad()
    def against(self, parameters: Parameters) -> np.ndarray | None:
        """(n,) by how much each held-out pair's preference falls from its factor's negative to its
        factor, nats per token; None where nothing is held out or one side is not read."""
        judging, size = self.judging, self.settings.batch
        if judging is None or self.settings.sub != "negate":
            return None
        if not self.settings.objective.needs_losing:
            return None
        falls = np.zeros(len(judging) // 2)
        for start in range(0, len(judging), size):
            chosen = range(start, min(start + size, len(judging)))
            winning, losing = self._sides(judging, parameters, chosen, 0, None)
            assert losing is not None
            ahead = (losing.losses() - winning.losses()).cpu().numpy()
            np.add.at(falls, [judging.pair(example) for example in chosen], -ahead)
        return falls

    def name(self, chosen: Sequence[int]) -> str:
        """Some examples in words."""
        among = sorted({self.examples.pair(example) for example in chosen})
        said = ", ".join(f"{self.numbers[i]} ({self.pairs[i].positive[:40]!r})" for i in among)
        return f"in a batch of pairs {said}"

    def _losses(self, winning: Side, losing: Side | None) -> Losses:
        """The objective on one minibatch."""
        loss = self.settings.objective(winning, losing, compat=self.settings.compat)
        return Losses(loss, _mean(winning), math.nan if losing is None else _mean(losing))

    def _sides(
        self,
        examples: Examples,
        parameters: Parameters,
        chosen: Sequence[int],
        epoch: int,
        noise: Sequence[int] | None,
    ) -> tuple[Side, Side | None]:
        """Both sides of a minibatch as it is steered, the losing one only if it is needed: factors
        keyed by the epoch, dropout by `noise` (None: no dropout)."""
        settings, objective = self.settings, self.settings.objective
        drawn = np.random.default_rng([settings.seed, epoch, 1])
        factor = torch.from_numpy(drawn.choice(settings.factors, len(examples))[list(chosen)])
        sign = examples.sign[list(chosen)]
        repeats = 2 if objective.needs_losing else 1  # both sides of an example share its factor
        batch, rows = examples.batch(chosen, objective.needs_losing)
        edits = interventions(
            settings.form,
            parameters,
            (factor.float() * sign).repeat(repeats),
            settings.positions,
            removed=(sign < 0).repeat(repeats) if settings.sub == "remove" else None,
            dropout=0.0 if noise is None else settings.dropout,
            seed=noise or (),
        )
        found = completion_logprobs(self.lm, batch, edits)
        count = len(factor)
        winning = examples.side(found[:count], rows[:count])
        if not objective.needs_losing:
            return winning, None
        return winning, examples.side(found[count:], rows[count:])


def _mean(side: Side) -> float:
    return float(side.losses().detach().mean())
