"""The loop of training: steps of AdamW with a linear schedule, held-out loss, checkpoints.

Everything drawn at a step, the order of examples, their factors and the dropout, is keyed by the
seed and the place in the run alone: so a run that was cut and picked up ends with the same numbers.
This module knows nothing of what is trained or lowered beyond the functions that it is given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from workbench.support.store import load_tensors, save_tensors

# Seconds of work that a kill may cost, beside what the file system takes.
_SAVE_EVERY = 60.0
COLUMNS = ("step", "epoch", "loss", "winning", "losing", "gradient", "learning_rate", "held_out")


@dataclass(frozen=True)
class Losses:
    """What one minibatch gives: the objective, and beside it losses per token (NaN: unknown)."""

    loss: Tensor
    winning: float
    losing: float


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `count` examples an epoch in minibatches of `batch`, the last partial.

    warmup is the share of all steps in which the learning rate rises; then it falls to 0. parts is
    in how many pieces the examples of a step are read, for memory.
    """

    count: int
    epochs: int
    batch: int
    learning_rate: float
    warmup: float
    weight_decay: float
    clip: float
    patience: int | None
    seed: int
    parts: int = 1

    @property
    def epoch(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.count / self.batch)

    @property
    def steps(self) -> int:
        return self.epochs * self.epoch

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = round(self.warmup * self.steps)
        if step < rising:
            return self.learning_rate * step / rising
        return self.learning_rate * (self.steps - step) / max(1, self.steps - rising)

    def examples(self, step: int) -> list[int]:
        """The examples of a step: every epoch has an order of its own."""
        epoch, part = divmod(step, self.epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        return order[part * self.batch : (part + 1) * self.batch].tolist()

    def pieces(self, step: int) -> list[list[int]]:
        """The examples of a step as they are read together."""
        chosen, size = self.examples(step), math.ceil(self.batch / self.parts)
        return [chosen[start : start + size] for start in range(0, len(chosen), size)]


@dataclass
class State:
    """Where a run stands: all that the rest of it depends on.

    step     steps done
    best     the parameters with the lowest held-out loss so far; empty before there is one
    history  one row of `COLUMNS` per step
    """

    parameters: dict[str, Tensor]
    moments: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    history: list[list[float]] = field(default_factory=list)

    @property
    def held_out(self) -> list[float]:
        """The held-out loss of every finished epoch that has one."""
        return [row[-1] for row in self.history if not math.isnan(row[-1])]

    def complete(self, schedule: Schedule) -> bool:
        """Whether the run has ended of itself: at its last step, or for want of improvement."""
        return self.step == schedule.steps or _done(self, schedule)

    def lost(self) -> str | None:
        """In words, that the run diverged: neither the lowest held-out loss nor the mean of the
        last epoch's steps lies below one and a half times the loss of the first step, before which
        nothing was changed. None where it did not, and where nothing is held out. Held-out pairs
        alone may grow worse because they contradict those that are trained on."""
        if not self.held_out:
            return None
        first, lowest = self.history[0][2], min(self.held_out)
        ended = float(np.mean([row[2] for row in self.history if row[1] == self.history[-1][1]]))
        if min(lowest, ended) < first + abs(first) / 2:
            return None
        return (
            f"training diverged: the loss was {first:.3g} at the first step, {ended:.3g} in the "
            f"last epoch and never below {lowest:.3g} on held-out pairs, so that nothing was learnt"
        )

    def chosen(self) -> dict[str, Tensor]:
        """The parameters that the run stands for."""
        return self.best or self.parameters

    def save(self, path: Path) -> None:
        parts = {"parameters": self.parameters, "moments": self.moments, "best": self.best}
        tensors = {f"{part}/{name}": t for part, of in parts.items() for name, t in of.items()}
        table = torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(COLUMNS))
        save_tensors(path, {**tensors, "history": table, "step": torch.tensor(self.step)})

    @classmethod
    def load(cls, path: Path, device: torch.device) -> State | None:
        """What `save` wrote; None when it is missing or damaged."""
        found = load_tensors(path)
        if found is None:
            return None
        step, history = int(found.pop("step")), found.pop("history").tolist()
        parts: dict[str, dict[str, Tensor]] = {"parameters": {}, "moments": {}, "best": {}}
        for name, tensor in found.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor.to(device)
        return cls(**parts, step=step, history=history)


class Diverged(ValueError):
    """A loss or a gradient that is not a number. `state` and `result` are of the last checkpoint,
    None before the first."""

    state: State | None = None
    result: Any = None


def fit(
    state: State,
    schedule: Schedule,
    losses: Callable[[dict[str, Tensor], Sequence[int], int], Losses],
    judge: Callable[[dict[str, Tensor]], float] | None,
    name_of: Callable[[Sequence[int]], str],
    stopped: Callable[[], bool],
    path: Path | None,
    progress: bool,
    watch: Callable[[dict[str, float]], None] | None,
) -> State:
    """Run the steps that are left, and return where the run then stands.

    losses   (parameters, examples, step) -> of one minibatch, with gradients
    judge    parameters -> held-out loss, asked after every epoch; None where nothing is held out
    name_of  examples -> words for a message
    stopped  asked before every step
    path     where the state is kept, after every epoch, every minute, and at the end
    watch    given every row of the history as it comes

    Raises Diverged where a loss or a gradient is not finite; what was kept before stays.
    """
    # In one order, whether they come from the start or from a file: a norm is a sum.
    parameters = {
        name: tensor.detach().clone().requires_grad_()
        for name, tensor in sorted(state.parameters.items())
    }
    optimizer = _optimizer(parameters, state, schedule)
    kept = _copy(state)
    saved = time.monotonic()
    with tqdm(
        total=schedule.steps, initial=state.step, desc="training", unit="step", disable=not progress
    ) as bar:
        while not state.complete(schedule) and not stopped():
            step, chosen = state.step, schedule.examples(state.step)
            try:
                row = _step(parameters, optimizer, schedule, step, losses)
            except Diverged as error:
                where = f"; the checkpoint of step {kept.step} is kept" if kept.step else ""
                where += f" in {str(path.parent)!r}" if path is not None and kept.step else ""
                told = Diverged(
                    f"{error} at step {step} (epoch {step // schedule.epoch}), "
                    f"{name_of(chosen)}; lower the learning rate ({schedule.learning_rate:g}) or "
                    f"the factors{where}"
                )
                told.state = kept
                raise told from None
            state.step += 1
            ended = state.step % schedule.epoch == 0
            if ended and judge is not None:
                row[-1] = judge(parameters)
                if row[-1] < min(state.held_out, default=math.inf):
                    state.best = {name: p.detach().clone() for name, p in parameters.items()}
            state.history.append(row)
            if watch is not None:
                watch(dict(zip(COLUMNS, row, strict=True)))
            bar.update()
            bar.set_postfix(loss=f"{row[2]:.3f}", refresh=False)
            if ended or time.monotonic() - saved > _SAVE_EVERY:
                kept, saved = _keep(state, parameters, optimizer, path), time.monotonic()
    return _keep(state, parameters, optimizer, path)


def _step(
    parameters: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    step: int,
    losses: Callable[[dict[str, Tensor], Sequence[int], int], Losses],
) -> list[float]:
    """One step of the optimizer; its row of the history. Raises Diverged before it moves."""
    optimizer.zero_grad()
    pieces = schedule.pieces(step)
    seen = np.zeros(3)  # the objective and the losses of either side
    for piece in pieces:
        found = losses(parameters, piece, step)
        share = len(piece) / sum(map(len, pieces))
        value = float(found.loss.detach())
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value}")
        (found.loss * share if share < 1 else found.loss).backward()
        seen += share * np.array([value, found.winning, found.losing])
    value, winning, losing = seen.tolist()
    norm = float(torch.nn.utils.clip_grad_norm_(parameters.values(), schedule.clip))
    if not math.isfinite(norm):
        raise Diverged(f"the loss is {value:.3g} but its gradient {norm}")
    rate = schedule.rate(step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters.values()):
        raise Diverged(f"the loss is {value:.3g} but what is trained is no longer finite")
    epoch = float(step // schedule.epoch)
    return [float(step), epoch, value, winning, losing, norm, rate, math.nan]


def _done(state: State, schedule: Schedule) -> bool:
    """Whether the held-out loss has not improved for `patience` epochs."""
    seen = state.held_out
    return bool(
        schedule.patience and seen and len(seen) - 1 - int(np.argmin(seen)) >= schedule.patience
    )


def _optimizer(
    parameters: dict[str, Tensor], state: State, schedule: Schedule
) -> torch.optim.AdamW:
    """AdamW as the state left it."""
    made = torch.optim.AdamW(
        parameters.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    if state.moments:
        for name, parameter in parameters.items():
            made.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": state.moments[f"{name}/first"].clone(),
                "exp_avg_sq": state.moments[f"{name}/second"].clone(),
            }
    return made


def _keep(
    state: State, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer, path: Path | None
) -> State:
    """Bring the state up to date, write it if asked, and return a copy that later steps leave."""
    state.parameters = {name: p.detach().clone() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        moments = optimizer.state.get(parameter)
        if moments:
            state.moments[f"{name}/first"] = moments["exp_avg"].clone()
            state.moments[f"{name}/second"] = moments["exp_avg_sq"].clone()
    if path is not None:
        state.save(path)
    return _copy(state)


def _copy(state: State) -> State:
    """The same state; its tensors are never changed in place."""
    return State(
        dict(state.parameters),
        dict(state.moments),
        dict(state.best),
        state.step,
        list(state.history),
    )
