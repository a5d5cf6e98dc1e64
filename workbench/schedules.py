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

from workbench.checks import number

# The likely tokens are looked for among so many first, then among MORE times as many, and so on:
# sorting a whole vocabulary at every step would cost more than a small model's forward.
FEW, MORE = 32, 8


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
    nothing."""

    @property
    def probe(self) -> float | Tensor | None: ...

    def __call__(self, step: int, steps: int, seen: Seen | None) -> float | Tensor: ...


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

    def __call__(self, step: int, steps: int, seen: Seen | None) -> Tensor:
        if step >= self.values.shape[-1]:
            return torch.zeros(self.values.shape[:-1])
        return self.values[..., step]


@dataclass(frozen=True)
class Dynamic:
    """The KL(unsteered || probed) over the likely tokens, clipped: where the property is not there
    yet the coefficient is large, where it is, small.

    top_p      tokens are likely that either distribution holds among its most likely ones, up to
               and with the one that carries their probability beyond this
    clip       the least and the greatest coefficient
    per_token  divide by the number of likely tokens, as the published code does; the paper does not
    probe      the coefficient at which the property is looked at

    Raises ValueError for a top_p outside (0, 1), and clip bounds that are not in order.
    """

    top_p: float = 0.5
    clip: tuple[float, float] = (0.0, 2.0)
    per_token: bool = True
    probe: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < number(self.top_p) < 1:
            raise ValueError(f"top_p is {self.top_p!r}; give a share between 0 and 1")
        _check("probe", self.probe)
        low, high = (number(each) for each in self.clip)
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"clip is {self.clip!r}; give the least and the greatest coefficient")

    def __call__(self, step: int, steps: int, seen: Seen | None) -> Tensor:
        assert seen is not None
        kl = likely_kl(seen.clean, seen.steered, self.top_p, per_token=self.per_token)
        return kl.clamp(*self.clip)


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
        assert seen is not None
        probed = kl(seen.steered, seen.clean).clamp_min(1e-12)
        share = (self.nats - seen.spent).clamp_min(0) / (steps - step) / seen.together
        return (self.probe * (share / probed).sqrt()).clamp_max(self.most)


@dataclass(frozen=True)
class Bounded:
    """Another schedule, nowhere beyond a bound: `bound(step)` gives the greatest coefficient, one
    number or one a row, such as a manifold's."""

    schedule: Schedule
    bound: Callable[[int], float | Tensor]

    @property
    def probe(self) -> float | Tensor | None:
        return self.schedule.probe

    def __call__(self, step: int, steps: int, seen: Seen | None) -> Tensor:
        wanted = torch.as_tensor(self.schedule(step, steps, seen))
        most = torch.as_tensor(self.bound(step), dtype=wanted.dtype)
        return torch.minimum(wanted, most)


def kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first || second) (B,) of log-probabilities (B, V), in nats."""
    return (first.exp() * (first - second)).nan_to_num(0.0).sum(dim=-1).clamp_min(0)


def likely_kl(clean: Tensor, steered: Tensor, top_p: float, *, per_token: bool = True) -> Tensor:
    """KL(clean || steered) (B,) of log-probabilities (B, V), both renormalised over the tokens that
    either holds among its most likely ones up to and with the one that passes top_p; divided by
    their number, or not."""
    (own, held), (other, held_too) = (_leading(each, top_p) for each in (clean, steered))
    # What both hold counts once.
    again = _marked(clean, own, held).gather(1, other)
    tokens, counted = torch.cat([own, other], dim=1), torch.cat([held, held_too & ~again], dim=1)
    one, two = (
        each.gather(1, tokens).masked_fill(~counted, -torch.inf).log_softmax(dim=-1)
        for each in (clean, steered)
    )
    found = torch.where(counted, one.exp() * (one - two), 0.0).sum(dim=-1)
    return found / counted.sum(dim=-1) if per_token else found


def most_likely(logprobs: Tensor, top_p: float) -> Tensor:
    """(B, V) bool: the most likely tokens, up to and with the first whose cumulative probability
    exceeds top_p."""
    return _marked(logprobs, *_leading(logprobs, top_p))


def _leading(logprobs: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Ids (B, k) of as many tokens as hold the most likely ones of every row, and which of a row's
    are among them."""
    vocabulary = logprobs.shape[-1]
    count = min(FEW, vocabulary)
    while True:
        ordered, order = logprobs.topk(count, dim=-1)
        total = ordered.exp().cumsum(dim=-1)
        if count == vocabulary or bool((total[:, -1] > top_p).all()):
            break
        count = min(MORE * count, vocabulary)
    before = total.roll(1, dims=-1)
    before[:, 0] = 0
    return order, before <= top_p


def _marked(logprobs: Tensor, tokens: Tensor, held: Tensor) -> Tensor:
    """(B, V) bool: a row's tokens (B, k) that are held."""
    return torch.zeros_like(logprobs, dtype=torch.bool).scatter(1, tokens, held)


def _check(name: str, value: float, *, least: float = -math.inf) -> None:
    if not (math.isfinite(number(value)) and value >= least):
        more = "" if least == -math.inf else f" of at least {least:g}"
        raise ValueError(f"{name} is {value!r}; give a finite number{more}")
