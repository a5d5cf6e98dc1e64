"""Conditional steering: behaviours that act on those prompts which rules call them for.

    h' = h + f(similarity(h, c)) α v

Conditions read a prompt, rules say which behaviours they call for, and every row of a batch is
steered by its own verdict. Programming Refusal with Conditional Activation Steering, Lee et al.
2024, https://arxiv.org/abs/2409.05907. What its library does instead is conditional_reference.py.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from workbench.conditions.condition import Condition
from workbench.conditions.gates import Gate, Verdicts, gated
from workbench.conditions.logic import Rules, parse
from workbench.conditions.watching import RECHECKS, Recheck, Watch, check_watched
from workbench.forward.steering import plan
from workbench.forward.tracing import Remote
from workbench.generation.generate import Generation, generate
from workbench.generation.sampling import check_sampling, check_streams
from workbench.interventions.updates import Intervention
from workbench.text.tokens import Batch, Prompt, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

_log = logging.getLogger(__name__)
_SAMPLING = ("temperature", "top_p", "repetition_penalty", "min_new_tokens", "seed")


@dataclass(frozen=True, eq=False)
class Response:
    """What a conditionally steered model answered.

    texts       one per prompt
    verdicts    one row per prompt, condition and layer (`Verdicts.frame`), as the prompt was judged
    strengths   behaviour -> (B, N) float64, what rules called for when each token was chosen, NaN
                after a text's end
    generation  ids, lengths, log-probabilities (`generate.Generation`)
    """

    texts: list[str]
    verdicts: pd.DataFrame
    strengths: Mapping[str, Tensor]
    generation: Generation


@dataclass(frozen=True, eq=False)
class ConditionalSteering:
    """Conditions and behaviours by name, and the rules between them.

    conditions  name -> `Condition`
    behaviours  name -> interventions, such as `vector.at(0.5)` gives; those on the prompt or on
                what is written alone have positions that say so
    rules       as `logic.parse` takes or gives them: "if harmful and not medical then refuse"

    Raises ValueError for rules that `logic.parse` refuses or that name other conditions or
    behaviours, and for what is no condition or no list of interventions.
    """

    conditions: Mapping[str, Condition]
    behaviours: Mapping[str, Sequence[Intervention]]
    rules: Rules

    def __init__(
        self,
        conditions: Mapping[str, Condition],
        behaviours: Mapping[str, Sequence[Intervention]],
        rules: str | Sequence[str] | Rules,
    ) -> None:
        for name, each in conditions.items():
            if not isinstance(each, Condition):
                raise ValueError(f"condition {name!r} is {each!r}; give a Condition")
        for name, each in behaviours.items():
            listed = isinstance(each, Sequence) and not isinstance(each, str) and len(each) > 0
            if not listed or not all(isinstance(one, Intervention) for one in each):
                raise ValueError(
                    f"behaviour {name!r} is {each!r}; give interventions, such as vector.at(0.5)"
                )
        object.__setattr__(self, "conditions", dict(conditions))
        object.__setattr__(self, "behaviours", dict(behaviours))
        if not isinstance(rules, Rules):
            rules = parse(rules, list(conditions), list(behaviours))
        lacking = [name for name in rules.behaviours if name not in behaviours]
        if lacking:
            raise ValueError(f"no behaviour {lacking[0]!r}; there are {list(behaviours)}")
        object.__setattr__(self, "rules", rules)
        _ = self.gate  # refuses a rule whose condition is not there

    @property
    def gate(self) -> Gate:
        """The conditions with their rules."""
        return Gate(self.conditions, self.rules)

    def judge(
        self, lm: LM, prompts: Sequence[Prompt] | Batch, *, remote: Remote = False
    ) -> Verdicts:
        """The verdicts on prompts, from one unsteered pass. Raises ValueError as `Gate.judge`."""
        return self.gate.judge(lm, to_batch(lm, prompts), remote=remote)

    def at(self, verdicts: Verdicts) -> list[Intervention]:
        """What is steered, row by row, where the verdicts are these."""
        return [
            each
            for name in self.rules.behaviours
            for each in gated(self.behaviours[name], verdicts.strengths[name])
        ]


def respond(
    lm: LM,
    prompts: Prompt | Sequence[Prompt] | Batch,
    steering: ConditionalSteering,
    *,
    new_tokens: int = 32,
    judged_as: Prompt | Sequence[Prompt] | Batch | None = None,
    recheck: Recheck = "never",
    remote: Remote = False,
    **settings: Any,
) -> Response:
    """Answer prompts, each steered as its own verdict says; the same at any batch size.

    prompts   texts or chats, or a single one
    judged_as what conditions read instead, one for each prompt, such as the prompt with the first
              words of an answer behind it
    recheck   "never": the prompt's verdict holds; "always": the gate is looked at again at every
              token (`watching.Watch`); "until met": likewise, and a behaviour that was called for
              stays
    settings  of `generate`: temperature, seed, streamer, score, …

    Rows where nothing is called for are written as the unsteered model writes them, and where that
    is all of them, bit for bit. Raises ValueError, before the model runs, as `Gate.judge`,
    `check_watched` and `generate`, for another number of texts to judge, and for these with a
    recheck, which reads the prompts themselves; TypeError for settings that `generate` has not.
    """
    # A setting that is not one of generate's, or is given here, before the prompts are read.
    ours = {"new_tokens": new_tokens, "watch": None, "remote": remote}
    inspect.signature(generate).bind(lm, prompts, (), **ours, **settings)
    if recheck not in RECHECKS:
        raise ValueError(f"recheck {recheck!r} is unknown; choose one of {', '.join(RECHECKS)}")
    if not isinstance(prompts, Batch) and is_one(prompts):
        prompts = [prompts]  # pyright: ignore[reportAssignmentType] - one prompt is a list of one
        judged_as = None if judged_as is None else [judged_as]  # pyright: ignore
    batch = to_batch(lm, prompts, new_tokens=new_tokens)  # pyright: ignore[reportArgumentType]
    read = batch if judged_as is None else to_batch(lm, judged_as)  # pyright: ignore
    if len(read) != len(batch):
        raise ValueError(f"{len(read)} texts to judge for {len(batch)} prompts: give one for each")
    # What generate would refuse, before the prompts are read.
    sampling = {name: settings[name] for name in _SAMPLING if name in settings}
    check_sampling(new_tokens, **{"temperature": 0.0, **sampling})
    if settings.get("streams") is not None:
        check_streams(settings["streams"], len(batch))
    used = {name: steering.behaviours[name] for name in steering.rules.behaviours}
    plan(lm, batch, [each for some in used.values() for each in some], new_tokens)
    if recheck != "never":
        if judged_as is not None:
            raise ValueError(
                f"recheck {recheck!r} reads the prompts themselves: leave out judged_as"
            )
        check_watched(steering.gate.used)
    verdicts = steering.gate.judge(lm, read, remote=remote)
    watch = None
    if recheck != "never":
        held = recheck == "until met"
        watch = Watch(verdicts.conditions, steering.rules, used, verdicts.means, held)
    made = generate(
        lm,
        batch,
        [] if watch is not None else steering.at(verdicts),
        new_tokens=new_tokens,
        watch=watch,
        remote=remote,
        **settings,
    )
    called = _until_end(verdicts.strengths if watch is None else watch.called, made)
    if watch is not None and _log.isEnabledFor(logging.DEBUG):
        for name, each in called.items():
            for row, steps in enumerate(each.tolist()):
                _log.debug("row %d: %r called for %s", row, name, steps)
    return Response(made.texts, verdicts.frame(), called, made)


def _until_end(strengths: Mapping[str, Tensor], made: Generation) -> dict[str, Tensor]:
    """Strengths (B,) or (B, N) as (B, N), NaN after each text's end."""
    ended = torch.arange(made.ids.shape[1]) >= made.lengths[:, None]
    return {
        name: torch.where(ended, torch.nan, each if each.ndim == 2 else each[:, None])
        for name, each in strengths.items()
    }


def is_one(prompts: object) -> bool:
    """Whether it is a single prompt: a text, or the messages of one chat."""
    if isinstance(prompts, str):
        return True
    return isinstance(prompts, Sequence) and len(prompts) > 0 and isinstance(prompts[0], Mapping)
