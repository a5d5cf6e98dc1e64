"""The study of dynamic activation composition: strategies beside each other on questions apart.

One property, or two at once, by data sets of in-context examples. Deltas are made from one part of
the questions; the others are answered under each strategy, alone and, for the text that fluency is
measured by, behind examples without steering. Scalena et al. 2024,
https://arxiv.org/abs/2406.17563. What the texts are worth is left to judges of the file that
`composed_results` keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from workbench.composed_results import Results
from workbench.composition import Composed, compose
from workbench.composition_prompts import MANUAL, Contrast, Settings, arrange
from workbench.deltas import StepDeltas, step_deltas
from workbench.fluency import fluency, perplexity
from workbench.generate import Generation, end_ids, generate
from workbench.in_context import Examples, answer, answers
from workbench.schedules import Diminishing, Dynamic, Fixed, Schedule, Start
from workbench.versions import versions

if TYPE_CHECKING:
    from workbench.models import LM

BY_STEP = {"start": Start, "fixed": Fixed, "dim": Diminishing}
# As published: of one property, and of two.
ALPHAS = (-1.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0), (1.0, 1.5, 2.0)
TOP_P = (0.5, 0.6, 0.7, 0.95), (0.4, 0.5, 0.6, 0.7, 0.9)


class _Strategy(NamedTuple):
    name: str
    properties: Mapping[str, StepDeltas]
    schedules: Mapping[str, Schedule]


def compose_study(
    lm: LM,
    first: Contrast,
    second: Contrast | None = None,
    together: Examples | None = None,
    settings: Settings | None = None,
) -> Results:
    """Answer questions of `first.showing` under each strategy.

    second    another property, to be shown at the same time
    together  a data set that shows both, item by item that of `first` (its translation, say); by
              default examples of both come by turns

    Strategies, by name; each but the first two is measured by `fluency`:

        no_icl, icl               unsteered, alone and behind examples (of both properties)
        start_<a>, fixed_<a>, dim_<a>   a coefficient, of two properties two: fixed_<a>_<a>
        dynamic_p<p>              by the paper's KL
        dynamic_per_token_p<p>    by it over the number of likely tokens, as the published code
                                  does; with compat that one alone, as dynamic_p<p>
        manual_…                  one delta of a contrast that shows both, in place of two

    Texts end where the model asks itself the next question.

    Raises ValueError before the model runs for settings out of range, more examples than the data
    hold, data sets that do not belong together, and prompts that do not fit the model's context.
    """
    settings = settings or Settings()
    arranged = arrange(lm, first, second, together, settings)
    steps = settings.max_new_tokens
    deltas = {
        name: step_deltas(lm, *prompts, steps=steps) for name, prompts in arranged.contrasts.items()
    }
    shown = generate(lm, arranged.shown, new_tokens=steps)
    plain = generate(lm, arranged.alone, new_tokens=steps)
    rows = arranged.dealt[first.name].evaluation
    texts = [prompt.text for prompt in arranged.alone.prompts]
    questions: list[dict[str, Any]] = [
        {"prompt": text, "gold": gold}
        for text, gold in zip(texts, answers(rows, first.showing), strict=True)
    ]
    _keep(lm, questions, "no_icl", plain)
    _keep(lm, questions, "icl", shown)
    for asked, value in zip(questions, perplexity(shown.logprobs_steered).tolist(), strict=True):
        asked["perplexity"]["icl"] = {"shown_by_shown": value}
    every = list(_strategies(deltas, settings))
    for each in tqdm(every, desc="strategies", unit="strategy", delay=2, leave=False):
        made = compose(lm, arranged.alone, each.properties, each.schedules, new_tokens=steps)
        _keep(lm, questions, each.name, made)
        measured = fluency(
            lm, made, shown, each.properties, each.schedules, compat=settings.compat
        ).to_dict("records")
        for asked, columns in zip(questions, measured, strict=True):
            asked["perplexity"][each.name] = columns
    made_with = about(lm, first, second, together, settings) | {
        "dealt": {name: asdict(each) for name, each in arranged.dealt.items()},
        "versions": versions(),
    }
    return Results(questions, made_with)


def _strategies(deltas: Mapping[str, StepDeltas], given: Settings) -> Iterator[_Strategy]:
    own = {name: each for name, each in deltas.items() if name != MANUAL}
    composed = len(own) > 1
    alphas = ALPHAS[composed] if given.alphas is None else given.alphas
    shares = TOP_P[composed] if given.top_p is None else given.top_p
    for kind, schedule in BY_STEP.items():
        for values in product(alphas, repeat=len(own)):
            chosen = {name: schedule(value) for name, value in zip(own, values, strict=True)}
            yield _Strategy("_".join([kind, *map(str, values)]), own, chosen)
    kinds = {"dynamic": given.compat} | ({} if given.compat else {"dynamic_per_token": True})
    dynamic = {
        f"{kind}_p{share}": Dynamic(share, per_token=per_token)
        for kind, per_token in kinds.items()
        for share in shares
    }
    for name, schedule in dynamic.items():
        yield _Strategy(name, own, dict.fromkeys(own, schedule))
    if MANUAL in deltas:
        one = {MANUAL: deltas[MANUAL]}
        fixed = {f"fixed_{alpha}": Fixed(alpha) for alpha in alphas}
        for name, schedule in (fixed | dynamic).items():
            yield _Strategy(f"{MANUAL}_{name}", one, {MANUAL: schedule})


def _keep(
    lm: LM, questions: Sequence[dict[str, Any]], strategy: str, made: Generation | Composed
) -> None:
    """A strategy's texts and coefficients with their questions."""
    ends = set(end_ids(lm))
    for row, asked in enumerate(questions):
        for part in ("output", "finish", "perplexity", "coefficients", "kl"):
            asked.setdefault(part, {})
        length = int(made.lengths[row])
        text = answer(made.texts[row])
        ended = int(made.ids[row, length - 1]) in ends or text != made.texts[row].strip()
        asked["output"][strategy] = text
        asked["finish"][strategy] = "end" if ended else "length"
        if isinstance(made, Composed):
            asked["coefficients"][strategy] = {
                name: table[row, :length].tolist() for name, table in made.coefficients.items()
            }
            if made.kl is not None:
                asked["kl"][strategy] = made.kl[row, :length].tolist()


def about(
    lm: LM,
    first: Contrast,
    second: Contrast | None,
    together: Examples | None,
    settings: Settings,
) -> dict[str, Any]:
    """What decides the results of a study, as JSON values."""
    sets = [*first, *(second or ()), *([together] if together is not None else ())]
    return {
        "model": lm.name,
        "fingerprint": lm.fingerprint,
        "properties": [each.name for each in (first, second) if each is not None],
        "data": {each.name: each.hash for each in sets},
        "settings": json.loads(json.dumps(asdict(settings))),
    }
