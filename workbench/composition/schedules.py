"""How strongly a property is steered at each step of a text: a coefficient per row and step.

A schedule is asked at every step, before that token is chosen, and may look at two next-token
distributions of the same text so far: of the unsteered model, and of the model with this property
alone at the schedule's `probe`. Multi-property Steering of Large Language Models with Dynamic
Activation Composition, Scalena et al. 2024, https://arxiv.org/abs/2406.17563: `Start`, `Fixed`,
`Diminishing` and `Dynamic`. `Given`, `Budget` and `Bounded` are ours. Knows nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from workbench.statistics.distributions import divergence, likely_kl
from workbench.support.checks import number


@dataclass(frozen=True, eq=False)
class Seen:
    """What a schedule may look at: (B, V) log-probabilities of the next token, unsteered and with
    the property alone at the schedule's probe, `spent` (B,), the KL(steered || unsteered) of all
    tokens so far as they were written, in nats, and how many properties look `together`."""

    clean: Tensor
    steered: Tensor
    spent: Tensor
    together: int = 1


class Schedule(Protocol):
    """A coefficient (B,) for every row at a step of `steps`; `probe` is the coefficient at which
    the property is looked at alone, one number or one a row (B,), None where the schedule looks at
    nothing. One that is made for so many rows says how many, as `rows`."""

    @property
    def probe(self) -> float | Tensor | None: ...

    def __call__(self, step: int, steps: int, seen: Seen | None) -> float | Tensor: ...


def rows_of(schedule: Schedule) -> int | None:
    """How many rows a schedule is made for, None for any number."""
    probe = schedule.probe
    own = len(probe) if isinstance(probe, Tensor) and probe.ndim else None
    return getattr(schedule, "rows", None) or own


def looked(schedule: Schedule, seen: Seen | None) -> Seen:
    """What a schedule needs to see. Raises ValueError where it was shown nothing."""
    if seen is None:
        raise ValueError(
            f"{type(schedule).__name__} looks at next-token distributions and was shown none: give "
            "it Seen(clean, steered, spent)"
        )
    return seen


@dataclass(frozen=True)
class _ByStep:
    """A schedule that looks at nothing but the step."""

    coefficient: float
    probe: None = None

    def __post_init__(self) -> None:
        _check("coefficient", self.coefficient)


class Start(_ByStep):
    """The coefficient at the last token of the prompt, 0 after."""

    def __call__(self, step: int, steps: int, seen: Seen | None) -> float:
        return self.coefficient if step == 0 else 0.0


class Fixed(_ByStep):
    """The same coefficient at every step."""

    def __call__(self, step: int, steps: int, seen: Seen | None) -> float:
        return self.coefficient


class Diminishing(_ByStep):
    """coefficient (1 - step / steps)."""

    def __call__(self, step: int, steps: int, seen: Seen | None) -> float:
        return self.coefficient * (1 - step / steps)


@dataclass(frozen=True, eq=False)
class Given:
    """The coefficients of each step, (T,) or, of each row, (B, T), such as another run's; 0 after.

    Raises ValueError for another shape, and for values that are not finite.
    """

    values: Tensor
    probe: None = None

    def __post_init__(self) -> None:
        if self.values.ndim not in (1, 2) or not self.values.shape[-1]:
            raise ValueError(
                f"coefficients {tuple(self.values.shape)}; give (steps,) or (B, steps)"
            )
        if not bool(torch.isfinite(self.values).all()):
            raise ValueError("coefficients are not all finite numbers")

    @property
    def rows(self) -> int | None:
        """B, or None where all rows have the same."""
        return len(self.values) if self.values.ndim == 2 else None

    def __call__(self, step: int, steps: int, seen: Seen | None) -> Tensor:
        if step >= self.values.shape[-1]:
            return torch.zeros(self.values.shape[:-1])
        return self.values[..., step]


@dataclass(frozen=True)
class Dynamic:
    """The KL(unsteered || probed) over the likely tokens, clipped: where the property is not there
    yet the coefficient is large, where it is, small.

    top_p    tokens are likely that either distribution holds among its most likely ones, up to and
             with the one that carries their probability beyond this
    clip     the least and the greatest coefficient
    divided  False: the KL, which is the paper's; True: divided by the number of likely tokens,
             which is the published code's
    probe    the coefficient at which the property is looked at

    Raises ValueError for a top_p outside (0, 1), and clip bounds that are not in order.
    """

    top_p: float = 0.5
    clip: tuple[float, float] = (0.0, 2.0)
    divided: bool = False
    probe: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < number(self.top_p) < 1:
            raise ValueError(f"top_p is {self.top_p!r}; give a share between 0 and 1")
        _check("probe", self.probe)
        low, high = (number(each) for each in self.clip)
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"clip is {self.clip!r}; give the least and the greatest coefficient")

    def __call__(self, step: int, steps: int, seen: Seen | None) -> Tensor:
        seen = looked(self, seen)
        found = likely_kl(seen.clean, seen.steered, self.top_p, divided=self.divided)
        return found.clamp(*self.clip)


@dataclass(frozen=True)
class Budget:
    """As much as spends an even share of the KL that is left over the tokens that are left, and of
    the properties that look.

    A small step of size m changes the distribution by a KL that grows with m²: the probe's tells
    how much, roughly, for it lies on all tokens so far. What was spent is what the texts really
    differed by, of all properties together: those that pull one way spend more than their shares,
    which later tokens make up for.

    nats    KL(steered || unsteered) of a whole text
    most    the greatest coefficient
    """

    nats: float
    most: float = 2.0
    probe: float = 1.0

    def __post_init__(self) -> None:
        for name in ("nats", "most", "probe"):
            _check(name, getattr(self, name), least=0)

    def __call__(self, step: int, steps: int, seen: Seen | None) -> Tensor:
        seen = looked(self, seen)
        probed = divergence(seen.steered, seen.clean).clamp_min(1e-12)
        share = (self.nats - seen.spent).clamp_min(0) / (steps - step) / seen.together
        return (self.probe * (share / probed).sqrt()).clamp_max(self.most)


@dataclass(frozen=True)
class Bounded:
    """Another schedule, nowhere beyond a bound: `bound(step)` gives the greatest coefficient, one
    number or one a row, such as a manifold's. Raises ValueError, when asked, for a bound of another
    number of rows."""

    schedule: Schedule
    bound: Callable[[int], float | Tensor]

    @property
    def probe(self) -> float | Tensor | None:
        return self.schedule.probe

    @property
    def rows(self) -> int | None:
        """How many rows the other schedule is made for, None for any number."""
        return rows_of(self.schedule)

    def __call__(self, step: int, steps: int, seen: Seen | None) -> Tensor:
        wanted = torch.as_tensor(self.schedule(step, steps, seen))
        most = torch.as_tensor(self.bound(step), dtype=wanted.dtype)
        if wanted.ndim and most.ndim and len(wanted) != len(most):
            raise ValueError(
                f"the bound of step {step} is for {len(most)} rows, the coefficients are for "
                f"{len(wanted)}: give one number, or one for each"
            )
        return torch.minimum(wanted, most)


def _check(name: str, value: float, *, least: float = -math.inf) -> None:
    if not (math.isfinite(number(value)) and value >= least):
        more = "" if least == -math.inf else f" of at least {least:g}"
        raise ValueError(f"{name} is {value!r}; give a finite number{more}")
