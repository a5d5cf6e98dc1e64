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
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from workbench.composition.answers import answer_lengths, end_answers
from workbench.composition.compose import Composed, compose
from workbench.composition.deltas import StepDeltas, step_deltas
from workbench.composition.fluency import fluency, perplexity
from workbench.composition.in_context import Examples, answers
from workbench.composition.results import Results, save_results
from workbench.composition.saving import complete, kept, parts
from workbench.composition.schedules import Diminishing, Dynamic, Fixed, Schedule, Start
from workbench.composition.study_prompts import MANUAL, Arranged, Contrast, Settings, arrange
from workbench.generation.generate import Generation, generate
from workbench.support.versions import versions
from workbench.text.tokens import Batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

BY_STEP = {"start": Start, "fixed": Fixed, "dim": Diminishing}
# As published: of one property, and of two.
ALPHAS = (-1.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0), (1.0, 1.5, 2.0)
TOP_P = (0.5, 0.6, 0.7, 0.95), (0.4, 0.5, 0.6, 0.7, 0.9)


class _Strategy(NamedTuple):
    name: str
    properties: Mapping[str, StepDeltas]
    schedules: Mapping[str, Schedule]


class _Part(NamedTuple):
    """Questions that are answered together, what was written to them behind examples, and whether
    the model ended each answer."""

    rows: slice
    alone: Batch
    shown: Generation
    ended: Sequence[bool]


def compose_study(
    lm: LM,
    first: Contrast,
    second: Contrast | None = None,
    together: Examples | None = None,
    settings: Settings | None = None,
    *,
    path: str | Path | None = None,
    memory: float = 1 << 30,
) -> Results:
    """Answer questions of `first.showing` under each strategy.

    second    another property, to be shown at the same time
    together  a data set that shows both, item by item that of `first` (its translation, say); by
              default examples of both come by turns
    path      a results file, written after each strategy: the same call goes on from what is there
    memory    bytes that questions which are answered together may take beside the weights; results
              do not depend on it but for rounding

    Strategies, by name; each but the first two is measured by `fluency`:

        no_icl, icl               unsteered, alone and behind examples (of both properties)
        start_<a>, fixed_<a>, dim_<a>   a coefficient, of two properties two: fixed_<a>_<a>
        dynamic_p<p>              by the paper's KL
        dynamic_divided_p<p>      by it divided by the number of likely tokens, as the published
                                  code does; with compat that one alone, under its own name there,
                                  dynamic_p<p>
        manual_…                  one delta of a contrast that shows both, in place of two

    Answers, and what deltas are made of, end where the model asks itself the next question
    (`answers`): tokens after that are in no text, mean, perplexity or coefficient. With compat
    answers end by the published code's rule, and its deltas know none: there as here they go on to
    the end of the text.

    `about` says, beside what it was made
    with, whether the study is `complete`, which `strategies` it has then, over how many prompts
    each step's means are (`alive`, of either side of each contrast), and what was `left_out`, with
    the reason: manual composition, where all texts of one of its sides end before the last step.

    Raises ValueError before the model runs for settings out of range, more examples than the data
    hold, data sets that do not belong together, prompts that do not fit the model's context, and a
    file that holds something else; before any strategy for a property one of whose sides ends
    before the last step; and where the model no longer writes what the file holds.
    """
    settings = settings or Settings()
    wanted = about(lm, first, second, together, settings)
    held = None if path is None else kept(path, wanted)
    if held is not None and complete(held):
        return held
    arranged = arrange(lm, first, second, together, settings)
    steps, sizes = settings.max_new_tokens, 1 + (second is not None)
    cut = parts(lm, arranged.alone, arranged.shown, steps, sizes, memory)
    deltas, left_out = _deltas(lm, arranged, settings)
    every = {each.name: each for each in _strategies(deltas, settings)}
    end = partial(end_answers, lm, compat=settings.compat)
    answered = [
        _Part(
            rows,
            arranged.alone.select(rows),
            *end(generate(lm, arranged.shown.select(rows), new_tokens=steps)),
        )
        for rows in cut
    ]
    begun = _unsteered(lm, arranged, first, answered, settings)
    results = held or Results(
        begun,
        wanted
        | {
            "dealt": {name: asdict(each) for name, each in arranged.dealt.items()},
            "alive": {
                name: each.alive.tolist() for name, each in deltas.items() if each.alive is not None
            },
            "strategies": [*begun[0]["output"], *every],
            "left_out": left_out,
            "complete": False,
            "versions": versions(),
        },
    )
    _check_same(results.questions, begun, path)
    if path is not None and held is None:
        save_results(results, path)
    missing = [each for each in every.values() if each.name not in results.questions[0]["output"]]
    bar = tqdm(
        missing, desc="strategies", unit="strategy", delay=2, leave=False,
        initial=len(every) - len(missing), total=len(every),
    )  # fmt: skip
    for number, each in enumerate(bar, 1):
        for part in answered:
            _answer(lm, results.questions[part.rows], each, part, settings)
        results.about["complete"] = number == len(missing)
        if path is not None:
            save_results(results, path)
    return results


def _deltas(
    lm: LM, arranged: Arranged, settings: Settings
) -> tuple[dict[str, StepDeltas], dict[str, str]]:
    """The deltas of each contrast, and why there are none of manual composition. Raises ValueError
    where a property has none: no strategy can do without."""
    made, missing, steps = {}, {}, settings.max_new_tokens
    until = None if settings.compat else answer_lengths
    for name, prompts in arranged.contrasts.items():
        try:
            made[name] = step_deltas(lm, *prompts, steps=steps, until=until)
        except ValueError as error:
            missing[name] = str(error)
    told = [f"property {name!r}: {why}" for name, why in missing.items() if name != MANUAL]
    if told:
        raise ValueError(f"{'; '.join(told)} (max_new_tokens is {steps})")
    return made, missing


def _unsteered(
    lm: LM, arranged: Arranged, first: Contrast, answered: Sequence[_Part], settings: Settings
) -> list[dict[str, Any]]:
    """The questions with what is written to them without steering."""
    golds = answers(arranged.dealt[first.name].evaluation, first.showing)
    questions: list[dict[str, Any]] = [
        {"prompt": prompt.text, "gold": gold}
        for prompt, gold in zip(arranged.alone.prompts, golds, strict=True)
    ]
    for rows, alone, shown, ended in answered:
        own = questions[rows]
        plain = generate(lm, alone, new_tokens=settings.max_new_tokens)
        _keep(own, "no_icl", *end_answers(lm, plain, compat=settings.compat))
        _keep(own, "icl", shown, ended)
        for asked, value in zip(own, perplexity(shown.logprobs_steered).tolist(), strict=True):
            asked["perplexity"]["icl"] = {"shown_by_shown": value}
    return questions


def _answer(
    lm: LM, questions: Sequence[dict[str, Any]], each: _Strategy, part: _Part, settings: Settings
) -> None:
    """Answer a part of the questions under a strategy, and measure how fluently."""
    _, alone, shown, _ = part
    given = each.properties, each.schedules
    whole = compose(lm, alone, *given, new_tokens=settings.max_new_tokens)
    made, ended = end_answers(lm, whole, compat=settings.compat)
    _keep(questions, each.name, made, ended)
    measured = fluency(lm, made, shown, *given, compat=settings.compat).to_dict("records")
    for asked, columns in zip(questions, measured, strict=True):
        asked["perplexity"][each.name] = columns


def _check_same(
    held: Sequence[Mapping[str, Any]], begun: Sequence[Mapping[str, Any]], path: str | Path | None
) -> None:
    """Strategies are compared with what is written behind examples: it must be one text."""
    for one, other in zip(held, begun, strict=True):
        if any(one["output"].get(name) != text for name, text in other["output"].items()):
            raise ValueError(
                f"without steering the model answers {other['prompt']!r} otherwise than when "
                f"{str(path)!r} was begun, by other versions, memory or another device: go on with "
                "those, or give another --output"
            )


def _strategies(deltas: Mapping[str, StepDeltas], given: Settings) -> Iterator[_Strategy]:
    own = {name: each for name, each in deltas.items() if name != MANUAL}
    composed = len(own) > 1
    alphas = ALPHAS[composed] if given.alphas is None else given.alphas
    shares = TOP_P[composed] if given.top_p is None else given.top_p
    for kind, schedule in BY_STEP.items():
        for values in product(alphas, repeat=len(own)):
            chosen = {name: schedule(value) for name, value in zip(own, values, strict=True)}
            yield _Strategy("_".join([kind, *map(str, values)]), own, chosen)
    kinds = {"dynamic": given.compat} | ({} if given.compat else {"dynamic_divided": True})
    dynamic = {
        f"{kind}_p{share}": Dynamic(share, divided=divided)
        for kind, divided in kinds.items()
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
    questions: Sequence[dict[str, Any]],
    strategy: str,
    made: Generation | Composed,
    ended: Sequence[bool],
) -> None:
    """A strategy's answers and coefficients with their questions."""
    for row, asked in enumerate(questions):
        for part in ("output", "finish", "perplexity", "coefficients", "kl"):
            asked.setdefault(part, {})
        length = int(made.lengths[row])
        asked["output"][strategy] = made.texts[row].strip()
        asked["finish"][strategy] = "end" if ended[row] else "length"
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
    return {
        "model": lm.name,
        "fingerprint": lm.fingerprint,
        "dtype": str(lm.dtype).removeprefix("torch."),
    } | asked_for(first, second, together, settings)


def asked_for(
    first: Contrast, second: Contrast | None, together: Examples | None, settings: Settings
) -> dict[str, Any]:
    """The same but for the model."""
    sets = [*first, *(second or ()), *([together] if together is not None else ())]
    return {
        "properties": [each.name for each in (first, second) if each is not None],
        "data": {each.name: each.hash for each in sets},
        "settings": json.loads(json.dumps(asdict(settings))),
    }
