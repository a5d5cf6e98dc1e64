"""In-context examples: a property shown by questions answered in its way, and then one more.

A data set is a JSON list of `{"input": question, "output": answer}` with an instruction of one line
beside it, as the published code of "Multi-property Steering of Large Language Models with Dynamic
Activation Composition" has them (Scalena et al. 2024, https://arxiv.org/abs/2406.17563): a folder
`ITA` holds `ITA_train.json` and `ITA_instr.txt`. A prompt is the instruction, k answered questions,
and a question without its answer; the same question alone is what a steered model is given. Two
such data sets, one that shows a property and one that shows its opposite, make the contrast of
`deltas.step_deltas`. How answered questions and the open one stand in a text is a `Form`, the
published one by default. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from workbench.support.checks import check_whole

_PARTS = ("input", "output")


@dataclass(frozen=True)
class Example:
    """A question and its answer, as the file has them; prompts leave outer spaces out."""

    input: str
    output: str


# Answered questions, and one that is open -> the text that ends where its answer begins.
Form: TypeAlias = Callable[[Sequence[Example], str], str]


@dataclass(frozen=True)
class Examples:
    """A data set: examples of one way to answer.

    instruction  one line that asks for it, "" for none

    Raises ValueError for a data set without examples.
    """

    items: tuple[Example, ...]
    instruction: str = ""
    name: str = "examples"

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))
        if not self.items:
            raise ValueError(f"the data set {self.name!r} is empty; give it examples")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that name what the data set says, whatever it is called."""
        said = [self.instruction, *((each.input, each.output) for each in self.items)]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    def head(self, count: int) -> Examples:
        """The first `count` examples, all where there are fewer."""
        return replace(self, items=self.items[:count])


@dataclass(frozen=True)
class Dealt:
    """Which examples make which prompt: of each, the indices of its examples, then its question's.

    extraction  prompts that deltas are made from
    evaluation  prompts that a result is reported on
    """

    extraction: tuple[tuple[int, ...], ...]
    evaluation: tuple[tuple[int, ...], ...]


def find_examples(name: str, folder: str | os.PathLike[str]) -> Examples:
    """The data set of a name such as "ITA_train", from `<folder>/ITA/ITA_train.json`.

    Raises as `load_examples`; a name that is not there names those that are.
    """
    own = Path(folder) / name.partition("_")[0]
    path = own / f"{name}.json"
    if not path.is_file():
        known = sorted(each.stem for each in Path(folder).glob("*/*.json"))
        raise FileNotFoundError(
            f"no data set {name!r}: there is no file {str(path)!r}; in {str(folder)!r} are "
            f"{', '.join(known) or 'none'}"
        )
    return load_examples(path)


def load_examples(path: str | os.PathLike[str], instruction: str | None = None) -> Examples:
    """Read `[{"input": …, "output": …}, …]`, and the instruction beside it.

    instruction  the line itself; by default that of the file `<first part of the name>_instr.txt`
                 in the same folder

    Raises FileNotFoundError for a file or an instruction that is missing, and ValueError for a file
    that holds something else, which names the row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {str(path)!r}")
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not readable as json: {error}") from None
    if not isinstance(rows, list):
        raise ValueError(f'{str(path)!r} holds no list; give [{{"input": …, "output": …}}, …]')
    items = tuple(_example(row, index, path) for index, row in enumerate(rows))
    return Examples(items, _instruction(path) if instruction is None else instruction, path.stem)


def _example(row: Any, index: int, path: Path) -> Example:
    for part in _PARTS:
        value = row.get(part) if isinstance(row, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"row {index} of {str(path)!r} has no text as {part!r}: {row!r:.200}")
    return Example(row["input"], row["output"])


def _instruction(path: Path) -> str:
    beside = path.with_name(f"{path.stem.partition('_')[0]}_instr.txt")
    if not beside.is_file():
        raise FileNotFoundError(
            f"no instruction for {str(path)!r}: write its line to {str(beside)!r}, or give "
            'instruction=, "" for none'
        )
    return beside.read_text("utf-8")


def deal(
    sets: Sequence[Examples],
    *,
    icl_examples: int = 4,
    support: int = 30,
    evaluation_size: int = 50,
    seed: int = 0,
    without: Collection[str] = (),
) -> Dealt:
    """Deal examples out to prompts, each once: no question is in two prompts, or twice in one.

    sets             data sets whose items belong together by their index (the same question, or
                     its translation), so that one deal holds for all
    icl_examples     k, the examples of each prompt; 0 leaves the question alone
    support          prompts that deltas are made from
    evaluation_size  prompts that a result is reported on; none of the others' examples is theirs
    without          questions that are not dealt: those of another deal

    A question that a data set holds twice is dealt once. Raises ValueError for data sets of
    different lengths, counts out of range, and more prompts than the data hold.
    """
    counts = _check_sizes(sets, icl_examples, support, evaluation_size)
    each = icl_examples + 1
    distinct = _distinct(sets, without)
    needed = each * sum(counts)
    if needed > len(distinct):
        held = len(distinct) // each
        raise ValueError(
            f"{support} prompts for extraction and {evaluation_size} for evaluation, each of "
            f"{icl_examples} examples and a question, need {needed} different questions; "
            f"{_names(sets)} hold {len(distinct)}, enough for {held} prompts: ask for fewer"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    rows = [
        tuple(distinct[index] for index in order[start : start + each])
        for start in range(0, needed, each)
    ]
    return Dealt(tuple(rows[:support]), tuple(rows[support:]))


def _check_sizes(
    sets: Sequence[Examples], icl_examples: int, support: int, evaluation_size: int
) -> tuple[int, int]:
    check_whole("icl_examples", icl_examples, 0)
    counts = check_whole("support", support, 0), check_whole("evaluation_size", evaluation_size, 0)
    if not sum(counts):
        raise ValueError("support 0 and evaluation_size 0: ask for at least one prompt")
    lengths = [len(each) for each in sets]
    if len(set(lengths)) != 1:
        raise ValueError(
            f"data sets {_names(sets)} hold {lengths} examples; give sets whose items belong "
            "together one by one"
        )
    return counts


def _distinct(sets: Sequence[Examples], without: Collection[str]) -> list[int]:
    """Indices whose questions stand at no earlier one, in any of the sets, nor are left out."""
    seen = {text.strip() for text in without}
    kept = []
    for index in range(len(sets[0])):
        asked = {each.items[index].input.strip() for each in sets}
        if not asked & seen:
            kept.append(index)
            seen |= asked
    return kept


def _names(sets: Sequence[Examples]) -> str:
    return " and ".join(repr(each.name) for each in sets)


def as_questions(answered: Sequence[Example], question: str) -> str:
    """The published form: "Q: …", "A: …", an empty line between."""
    said = [f"Q: {each.input.strip()}\nA: {each.output.strip()}" for each in answered]
    return "\n\n".join([*said, f"Q: {question.strip()}\nA:"])


def in_context(
    rows: Sequence[Sequence[int]], *sets: Examples, form: Form = as_questions
) -> list[str]:
    """Prompts with their examples: as they stand, in-context prompting without steering.

    Of several data sets the examples come by turns and the question from the first, under the
    instructions of all: a prompt that shows several properties at once.
    """
    lines = dict.fromkeys(each.instruction.strip() for each in sets)
    head = "".join(f"{line}\n" for line in lines if line)
    return [head + form(_answered(row[:-1], sets), _question(row, sets[0])) for row in rows]


def questions(
    rows: Sequence[Sequence[int]], examples: Examples, form: Form = as_questions
) -> list[str]:
    """The prompts' last questions alone, without examples or instruction."""
    return [form((), _question(row, examples)) for row in rows]


def answers(rows: Sequence[Sequence[int]], examples: Examples) -> list[str]:
    """What the data set answers to the prompts' last questions."""
    return [examples.items[row[-1]].output.strip() for row in rows]


def contrast(
    rows: Sequence[Sequence[int]],
    showing: Examples | Sequence[Examples],
    opposite: Examples | Sequence[Examples],
    form: Form = as_questions,
) -> tuple[list[str], list[str]]:
    """The prompts that show a property, and the same of its opposite, for `deltas.step_deltas`.

    Several data sets a side make manual composition: properties together in one contrast, and one
    delta for all. A data set that shows them together (the unsafe answers in Italian against the
    safe ones in English) does the same, as in the paper.
    """
    one, other = ([each] if isinstance(each, Examples) else each for each in (showing, opposite))
    return in_context(rows, *one, form=form), in_context(rows, *other, form=form)


def _answered(row: Sequence[int], sets: Sequence[Examples]) -> list[Example]:
    return [sets[turn % len(sets)].items[index] for turn, index in enumerate(row)]


def _question(row: Sequence[int], examples: Examples) -> str:
    return examples.items[row[-1]].input
