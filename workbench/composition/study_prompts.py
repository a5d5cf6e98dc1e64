"""Which prompts a study of activation composition needs, made before the model runs.

A property is a pair of data sets. Of their questions some make deltas and others are answered, none
both; `compat` has the published code's prompts instead, which do not keep them apart. Knows nothing
of strategies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.composition import in_context_reference as reference
from workbench.composition.in_context import Dealt, Examples, contrast, deal, in_context, questions
from workbench.composition.schedules import Dynamic, Fixed
from workbench.support.checks import check_whole
from workbench.text.tokens import Batch, to_batch

if TYPE_CHECKING:
    from workbench.loading.models import LM

#: What the delta of both properties together is called.
MANUAL = "manual"


class Contrast(NamedTuple):
    """A property: the data set that shows it, and the one that shows its opposite."""

    showing: Examples
    opposite: Examples

    @property
    def name(self) -> str:
        return self.showing.name.partition("_")[0]


@dataclass(frozen=True)
class Settings:
    """How a study is run, by the published names.

    icl_examples     k, examples of each prompt
    support          prompts that a delta is made from
    evaluation_size  questions that are answered
    max_new_tokens   steps of a delta, and the most tokens of an answer
    alphas, top_p    what strategies are tried at; the published values by default
    seed             deals examples out to prompts; 0, with compat the published 32
    compat           prompts, draws, ends of answers and KL as the published code has them: see
                     `in_context_reference`, `answers`, and `divided` of `schedules.Dynamic`

    Raises ValueError for numbers out of range.
    """

    icl_examples: int = 4
    support: int = 30
    evaluation_size: int = 50
    max_new_tokens: int = 30
    alphas: tuple[float, ...] | None = None
    top_p: tuple[float, ...] | None = None
    seed: int | None = None
    compat: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("icl_examples", 1), ("support", 1), ("evaluation_size", 1), ("max_new_tokens", 1),
        ):  # fmt: skip
            check_whole(name, getattr(self, name), least)
        if self.seed is None:
            object.__setattr__(self, "seed", reference.SEED if self.compat else 0)
        for alpha in self.alphas or ():
            Fixed(alpha)
        for share in self.top_p or ():
            Dynamic(share)


class Arranged(NamedTuple):
    """Prompts of a study: contrasts by property, and the questions alone and behind examples."""

    contrasts: Mapping[str, tuple[Batch, Batch]]
    alone: Batch
    shown: Batch
    dealt: Mapping[str, Dealt]


def check(
    first: Contrast, second: Contrast | None, together: Examples | None, given: Settings
) -> None:
    """Refuse, without a model, what `arrange` would: raises ValueError for two names that are one,
    more examples than the data hold, and data sets that do not belong together."""
    names = [each.name for each in (first, second) if each is not None]
    if MANUAL in names or len(set(names)) < len(names):
        raise ValueError(f"properties {names}: give two names that differ, none {MANUAL!r}")
    if together is not None and second is None:
        raise ValueError(f"{together.name!r} shows two properties; give the second one too")
    shots = given.icl_examples
    if second is not None and together is None and not given.compat and shots % 2:
        raise ValueError(
            f"icl_examples is {shots}: examples of two properties come by turns, so that an even "
            "number shows both alike; or give a data set that shows both"
        )
    (_published_deals if given.compat else _prompts)(first, second, together, given)


def arrange(
    lm: LM, first: Contrast, second: Contrast | None, together: Examples | None, given: Settings
) -> Arranged:
    """All prompts as batches. Raises ValueError as `check`, and for a prompt that does not fit the
    model's context."""
    check(first, second, together, given)
    if given.compat:
        contrasts, alone, shown, dealt = _published_prompts(lm, first, second, together, given)
    else:
        contrasts, alone, shown, dealt = _prompts(first, second, together, given)

    def fitting(prompts: Sequence[str] | Batch) -> Batch:
        return to_batch(lm, prompts, new_tokens=given.max_new_tokens)

    sides = {name: (fitting(one), fitting(other)) for name, (one, other) in contrasts.items()}
    return Arranged(sides, fitting(alone), fitting(shown), dealt)


def _prompts(
    first: Contrast, second: Contrast | None, together: Examples | None, given: Settings
) -> tuple[dict[str, tuple[list[str], list[str]]], list[str], list[str], dict[str, Dealt]]:
    sizes: Any = {
        "icl_examples": given.icl_examples, "support": given.support, "seed": given.seed,
    }  # fmt: skip
    sets: list[Examples] = [*first] if together is None else [*first, together]
    if second is not None and together is None:
        # Examples by turns: one deal, so that none of an answered question made a delta.
        size = min(map(len, (*first, *second)))
        first, second = (Contrast(*(part.head(size) for part in each)) for each in (first, second))
        sets = [*first, *second]
    dealt = deal(sets, **sizes, evaluation_size=given.evaluation_size)
    every = {first.name: dealt}
    contrasts = {first.name: contrast(dealt.extraction, *first)}
    shown = [together or first.showing]
    if second is not None:
        opposite = [first.opposite]
        if together is None:
            every[second.name] = Dealt(dealt.extraction, ())
            shown.append(second.showing)
            opposite.append(second.opposite)
        else:
            rows = dealt.evaluation
            taken = {each.items[index].input for each in sets for row in rows for index in row}
            every[second.name] = deal([*second], **sizes, evaluation_size=0, without=taken)
        contrasts[second.name] = contrast(every[second.name].extraction, *second)
        contrasts[MANUAL] = contrast(dealt.extraction, shown, opposite)
    alone = questions(dealt.evaluation, first.showing)
    return contrasts, alone, in_context(dealt.evaluation, *shown), every


def _published_prompts(
    lm: LM, first: Contrast, second: Contrast | None, together: Examples | None, given: Settings
) -> tuple[dict[str, tuple[Batch, Batch]], Batch, Batch, dict[str, Dealt]]:
    pairs, every = _published_deals(first, second, together, given)
    contrasts = {}
    for name, pair in pairs.items():
        rows = every[name].extraction
        one, other = (reference.reference_in_context(lm, rows, part) for part in pair)
        contrasts[name] = one, other
    rows = every[first.name].evaluation
    alone = reference.reference_questions(lm, rows, first.showing)
    shown = reference.reference_in_context(lm, rows, together or first.showing)
    return contrasts, alone, shown, every


def _published_deals(
    first: Contrast, second: Contrast | None, together: Examples | None, given: Settings
) -> tuple[dict[str, Contrast], dict[str, Dealt]]:
    if second is not None and together is None:
        raise ValueError(
            "the published code shows two properties by a data set that holds both: give it "
            "(source_lang_dataset), or leave compat out"
        )
    pairs = {each.name: each for each in (first, second) if each is not None}
    if together is not None:
        pairs[MANUAL] = Contrast(together, first.opposite)
    every = {}
    for name, pair in pairs.items():
        if len(pair.showing) != len(pair.opposite):
            raise ValueError(
                f"data sets {pair.showing.name!r} and {pair.opposite.name!r} hold "
                f"{[len(part) for part in pair]} examples; the published code needs as many"
            )
        every[name] = reference.reference_deal(
            len(pair.showing),
            icl_examples=given.icl_examples,
            support=given.support,
            evaluation_size=given.evaluation_size,
            seed=reference.SEED if given.seed is None else given.seed,
        )
    return pairs, every
