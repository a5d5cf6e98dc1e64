"""What training lowers: SFT, RePS and SPLIT, as functions of two completions' log-probabilities.

    L_p, L_n   minus the log-probability of the winning and the losing completion, per token
    SFT        L_p
    RePS       -log sigmoid( s / |w| log P(w) - log P(l) / |l| ),
               s = max(scaler (log P_ref(l) - log P_ref(w)), 1)          (scaled SimPO)
    SPLIT      lambda_p L_p + lambda_n L_n + gamma relu(theta - (L_n - L_p))
               + reference (relu(L_p - L_p_ref) + relu(L_n - L_n_ref))

w wins and l loses, P_ref is the unsteered model. Sources: "Why Steering Works" (arXiv 2602.02343)
for SPLIT, which its code spells SPILT; "Improved Representation Steering for Language Models"
(arXiv 2505.20809) for RePS. Every term is of one example, and an objective is their mean; `compat`
computes as the published code does: L_p and L_n over all tokens of the minibatch, so that the hinge
sees their means, and |w|, |l| counting the prompt too. This module knows nothing of models.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from workbench.support.checks import number


@dataclass(frozen=True, eq=False)
class Side:
    """One completion of each of n examples.

    logprob    (n,) log P(completion | prompt) under the steered model, natural, summed over tokens
    tokens     (n,) how many tokens the completion has
    length     (n,) how many prompt and completion have together
    reference  (n,) the log-probability under the unsteered model; None where nobody asks for it
    """

    logprob: Tensor
    tokens: Tensor
    length: Tensor
    reference: Tensor | None = None

    def losses(self) -> Tensor:
        """(n,) loss per token of each completion, in nats."""
        return -self.logprob / self.tokens

    def pooled(self) -> Tensor:
        """() loss per token over all tokens, as the published code has it."""
        return -self.logprob.sum() / self.tokens.sum()

    def reference_losses(self, pooled: bool) -> Tensor:
        """The same of the unsteered model: (n,), or () if `pooled`."""
        if self.reference is None:
            raise ValueError("this objective needs the unsteered model's log-probabilities")
        own = Side(self.reference, self.tokens, self.length)
        return own.pooled() if pooled else own.losses()


class Objective(Protocol):
    """What is lowered. `needs_losing` and `needs_reference` say which passes it asks for."""

    @property
    def name(self) -> str: ...
    @property
    def needs_losing(self) -> bool: ...
    @property
    def needs_reference(self) -> bool: ...
    def __call__(self, winning: Side, losing: Side | None, *, compat: bool = False) -> Tensor: ...


@dataclass(frozen=True)
class SFT:
    """L_p: the winning completion alone."""

    name = "sft"
    needs_losing = False
    needs_reference = False

    def __call__(self, winning: Side, losing: Side | None, *, compat: bool = False) -> Tensor:
        return winning.pooled() if compat else winning.losses().mean()


@dataclass(frozen=True)
class RePS:
    """-log sigmoid of the scaled difference of log-probabilities per token (see the module).

    Raises ValueError for a scaler that is not a finite number of at least 0.
    """

    scaler: float = 1.0
    name = "reps"
    needs_losing = True
    needs_reference = True

    def __post_init__(self) -> None:
        _check(self)

    def __call__(self, winning: Side, losing: Side | None, *, compat: bool = False) -> Tensor:
        assert losing is not None
        if winning.reference is None or losing.reference is None:
            raise ValueError("reps needs the unsteered model's log-probabilities")
        ahead = self.scaler * (losing.reference - winning.reference)
        of_winning, of_losing = (
            (side.length if compat else side.tokens) for side in (winning, losing)
        )
        gap = ahead.clamp_min(1) / of_winning * winning.logprob - losing.logprob / of_losing
        return -logsigmoid(gap).mean()


@dataclass(frozen=True)
class SPLIT:
    """lambda_p L_p + lambda_n L_n + gamma relu(theta - (L_n - L_p)) (see the module).

    The two losses keep both answers likely (utility), the hinge asks for a gap of `theta` nats a
    token (preference). Published: winning 1, losing 0.3 to 0.6, margin (gamma) 3.5 to 8, threshold
    (theta) 0.3 to 0.6, reference 0.
    Raises ValueError for a weight that is not a finite number.
    """

    winning: float = 1.0
    losing: float = 0.5
    margin: float = 5.0
    threshold: float = 0.5
    reference: float = 0.0
    name = "split"
    needs_losing = True

    def __post_init__(self) -> None:
        _check(self)

    @property
    def needs_reference(self) -> bool:
        return self.reference != 0

    def __call__(self, winning: Side, losing: Side | None, *, compat: bool = False) -> Tensor:
        assert losing is not None
        high, low = (
            (side.pooled() if compat else side.losses()) for side in (winning, losing)
        )  # (n,), or () in compat
        hinge = torch.relu(self.threshold - (low - high))
        total = self.winning * high + self.losing * low + self.margin * hinge
        if self.needs_reference:
            excess = [
                torch.relu(loss - side.reference_losses(compat))
                for loss, side in ((high, winning), (low, losing))
            ]
            total = total + self.reference * (excess[0] + excess[1])
        return total.mean()


OBJECTIVES: dict[str, type[SFT] | type[RePS] | type[SPLIT]] = {
    "sft": SFT,
    "reps": RePS,
    "split": SPLIT,
    "spilt": SPLIT,  # as the published code spells it
}

AnyObjective: TypeAlias = str | Objective


def as_objective(objective: AnyObjective) -> Objective:
    """An objective by its name, with its defaults; one that is given as it is.

    Raises ValueError for another name and for what is no objective.
    """
    if isinstance(objective, str) and objective.lower() in OBJECTIVES:
        return OBJECTIVES[objective.lower()]()
    parts = ("name", "needs_losing", "needs_reference")
    if not callable(objective) or isinstance(objective, type) or not _has(objective, parts):
        raise ValueError(
            f"objective {objective!r} is unknown; choose 'sft', 'reps' or 'split', or give one "
            "with its weights: SPLIT(margin=5.0) (from workbench.training.objectives import SPLIT)"
        )
    return objective


def describe(objective: Objective) -> dict[str, Any]:
    """The name and the weights of an objective, as JSON values."""
    known = isinstance(objective, SFT | RePS | SPLIT)
    return {"name": objective.name, **(asdict(objective) if known else {"is": repr(objective)})}


def _has(thing: object, names: tuple[str, ...]) -> bool:
    return all(hasattr(thing, name) for name in names)


def _check(objective: RePS | SPLIT) -> None:
    for each in fields(objective):
        value = getattr(objective, each.name)
        if not math.isfinite(number(value)) or (isinstance(objective, RePS) and value < 0):
            least = " of at least 0" if isinstance(objective, RePS) else ""
            raise ValueError(f"{each.name} {value!r}: give a finite number{least}")
