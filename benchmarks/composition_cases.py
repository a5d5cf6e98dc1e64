"""What study_composition.py composes: deltas of a seed, settings, and how texts are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import pandas as pd
from keeping import ROOT  # noqa: F401  # puts the checkout on the path
from torch import Tensor

from workbench.composition import queries as data
from workbench.composition.blocks import Setting, ended, run
from workbench.composition.deltas import StepDeltas, step_deltas
from workbench.composition.schedules import (
    Bounded,
    Budget,
    Diminishing,
    Dynamic,
    Fixed,
    Schedule,
    Start,
)
from workbench.generation.generate import generate
from workbench.generation.scoring import score
from workbench.text.tokens import encode
from workbench.wren.judge import assess, trait
from workbench.wren.lexicon import LANGUAGES
from workbench.wren.traits import traits

if TYPE_CHECKING:
    from workbench.loading.models import LM

TOKENS = 40  # wren's first sentence ends before
MAKING, JUDGING = 16, 2  # queries of each language but the target, for deltas and for judging
SECONDS = tuple(data.KINDS)
# Chosen on seed 0, where texts begin to show both properties and break soon after.
THREE = (0.3, 0.4, 0.5)
FIXED = (0.2, *THREE, 0.6, 0.8, 1.0)
STARTS = (0.5, 1.0, 2.0, 4.0)
DIMINISHING = (0.3, 0.45, 0.6, 0.9)
CAPPED = (0.3, 0.4, 0.5, 0.6, 0.8)
TOP_P = (0.5, 0.6, 0.7, 0.8, 0.9)
UNIT, MIDDLE = 0.5, 0.7
BOUNDS = (0.25, 0.4, 0.6)
NATS = (5.0, 10.0, 20.0, 40.0)


def settings() -> list[Setting]:
    """Every way to schedule two properties: by its family, and how strong it is within it."""
    found = [_both("none", 0.0, Fixed(0.0))]
    found += [_both("start", each, Start(each)) for each in STARTS]
    found += [_both("fixed", each, Fixed(each)) for each in FIXED]
    found += [
        Setting(
            "fixed pair", (one + two) / 2, {"language": Fixed(one), "second": Fixed(two)},
            f"{one:g}, {two:g}",
        )
        for one, two in product(THREE, repeat=2) if one != two
    ]  # fmt: skip
    found += [_both("diminishing", each, Diminishing(each)) for each in DIMINISHING]
    # The paper's KL, and the published code's, on one grid.
    found += [_both("dynamic, undivided", p, Dynamic(p)) for p in TOP_P]
    found += [_both("dynamic, divided", p, Dynamic(p, divided=True)) for p in TOP_P]
    found += [_both("capped", each, capped(each)) for each in CAPPED]
    found += [_both("capped, by p", p, capped(UNIT, p)) for p in TOP_P if p != MIDDLE]
    found += [_both("capped, divided", p, capped(UNIT, p, divided=True)) for p in (0.5, 0.9)]
    found += [
        _both("bounded", each, Bounded(Dynamic(MIDDLE, divided=True), partial(_constant, each)))
        for each in BOUNDS
    ]
    return found + [_both("budget", each, Budget(each, most=1.0, probe=UNIT)) for each in NATS]


def some(found: Sequence[Setting]) -> list[Setting]:
    """Those of which deltas averaged over steps are compared."""
    return [each for each in found if each.name in ("start", "fixed", "diminishing", "capped")]


def capped(most: float, p: float = MIDDLE, *, divided: bool = False) -> Dynamic:
    """The dynamic schedule with a lower cap than the published one: it looks at the property at the
    most that it may be. The KL is not scaled, so that it is at the cap more often than not."""
    return Dynamic(p, clip=(0.0, most), divided=divided, probe=most)


def deltas(lm: LM, second: str, seed: int, source: data.Source) -> dict[str, StepDeltas]:
    """Those of every language and of the second property's first value."""
    without = data.lines(second, JUDGING, seed)
    values = {**{each: ("language", each) for each in LANGUAGES},
              second: (second, traits[second].values[0])}  # fmt: skip
    return {
        key: step_deltas(
            lm,
            *data.sides(second, name, value, MAKING, source, seed, without),
            steps=TOKENS,
        )
        for key, (name, value) in values.items()
    }


def texts(
    lm: LM,
    second: str,
    seed: int,
    source: data.Source,
    ways: Sequence[Setting],
    *,
    beside: bool = True,
) -> pd.DataFrame:
    """One row per text: of every language, value of the second property and setting. `beside`: and
    of deltas averaged over steps, of instructions, and of examples."""
    made, parts = deltas(lm, second, seed, source), []
    without = data.lines(second, JUDGING, seed)
    for language, value in product(LANGUAGES, traits[second].values):
        asked = data.judging(second, language, JUDGING, seed)
        prompts = [query.prompt() for query in asked]
        sign = 1.0 if value == traits[second].values[0] else -1.0
        own = replace(made[second], values=sign * made[second].values)
        both = {"language": made[language], "second": own}
        judge = partial(judged, second, language, sign)
        wanted = {"language": language, second: value}
        behind = {
            how: [
                data.showing(second, query, wanted, how, Random(f"judged {seed} {number}"),
                             without)
                for number, query in enumerate(asked)
            ]
            for how in ("instructions", "examples")
        }  # fmt: skip
        surprise = partial(surprises, lm, behind["instructions"])
        given = {"new_tokens": TOKENS, "judge": judge, "fluency": surprise}
        frames = [run(lm, prompts, both, ways, **given).assign(form="per step")]
        if beside:
            mean = {name: each.averaged() for name, each in both.items()}
            frames.append(run(lm, prompts, mean, some(ways), **given).assign(form="averaged"))
            frames += [_prompted(lm, how, each, judge, surprise) for how, each in behind.items()]
        parts += [each.assign(language_of=language, value=value) for each in frames]
    whole = pd.concat(parts, ignore_index=True).drop(columns="text")
    return whole.assign(second=second, seed=seed, source=source)


def judged(
    second: str, language: str, sign: float, written: Sequence[str], ends: Sequence[bool]
) -> Mapping[str, Sequence[Any]]:
    """What the exact judge says of texts: `language`, `property` and `both`, whether they are
    shown; `coherence`, `whole` (all of it coherent) and `words`."""
    names = [trait(text, data.NAMES[language]) > 0 for text in written]
    shows = [sign * trait(text, second) > 0 for text in written]
    read = [
        assess(text, finish="end" if end else "length")
        for text, end in zip(written, ends, strict=True)
    ]
    return {
        "language": names,
        "property": shows,
        "both": [one and two for one, two in zip(names, shows, strict=True)],
        "coherence": [each.coherence for each in read],
        "whole": [each.coherence == 1 for each in read],
        "words": [each.words for each in read],
    }


def surprises(
    lm: LM, behind: Sequence[str], ids: Tensor, lengths: Tensor
) -> Mapping[str, Sequence[float]]:
    """What the unsteered model thinks of texts behind prompts that ask for both properties: minus
    the mean log-probability of a token, in nats."""
    every = [*behind] * (len(ids) // len(behind))
    written = encode(lm, every).extend(ids, lengths)
    return {"surprise": (-score(lm, written).logprobs.double().nanmean(dim=1)).tolist()}


def _prompted(lm: LM, how: str, prompts: Sequence[str], judge: Any, surprise: Any) -> pd.DataFrame:
    """What a prompt that shows or asks for both does."""
    made = generate(lm, prompts, new_tokens=TOKENS, score=False)
    columns = {
        "schedule": how, "level": 0.0, "label": "", "prompt": [*range(len(prompts))],
        "tokens": made.lengths.numpy(), "text": made.texts, "form": "none",
    }  # fmt: skip
    more = {
        **judge(made.texts, ended(lm, made.ids, made.lengths)),
        **surprise(made.ids, made.lengths),
    }
    return pd.DataFrame({**columns, **more})


def _both(name: str, level: float, schedule: Schedule) -> Setting:
    return Setting(name, level, {"language": schedule, "second": schedule})


def _constant(value: float, step: int) -> float:
    return value
