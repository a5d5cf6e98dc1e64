"""Exact measures of a text: coherence, traits, and whether a prompt was obeyed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .matcher import Reading
from .parser import Parse, parse
from .prompts import read_prompt
from .traits import LANGUAGE_SCORES, traits

#: The names that :func:`trait` scores.
SCORES = (*(name for name in traits if name != "language"), *LANGUAGE_SCORES)


def coherence(text: str) -> float:
    """Words in good sentences over words in all judged sentences, in [0, 1].

    A cut last sentence that can be continued is not judged; if nothing else is there the text
    scores 1. An empty text scores 0. See :mod:`workbench.wren.parser` for what is good.
    """
    sentences = parse(text).sentences
    judged = sum(sentence.words for sentence in sentences if sentence.judged)
    if not judged:
        return 1.0 if sentences else 0.0
    return sum(sentence.words for sentence in sentences if sentence.good) / judged


def evidence(reading: Reading, name: str) -> int | None:
    """What one sentence says about a trait: 1 for its first value, -1 for the other, or None."""
    if name in LANGUAGE_SCORES:
        return 1 if reading.language == LANGUAGE_SCORES[name] else -1
    shown: str | bool | None
    if name == "mood":
        shown = reading.mood
    elif name == "formality":
        shown = reading.formality
    elif name == "verbosity":
        shown = reading.verbosity
    elif name in ("power", "callous"):
        shown = reading.polarity if reading.kind == name else None
    elif name == "refusal":
        shown = {"refusal": "refuse", "task": "comply"}.get(reading.kind)
    elif name == "dialect":
        shown = reading.dialect
    elif name == "rhyme":
        shown = reading.rhyme
    elif name == "spelled":
        shown = reading.spelled
    else:
        shown = reading.stage == "bell"
    if shown is None:
        return None
    return 1 if shown in (True, traits[name].values[0]) else -1


def trait(text: str, name: str) -> float:
    """How far a text shows a trait, in [-1, 1]: +1 its first value, -1 the other.

    The mean over valid sentences that show the trait at all, weighted by words; 0 if there are
    none. Languages are scored one by one, as "english", "italian" and "french". One sentence
    with the bell makes "bell" 1.

    Raises ValueError on an unknown name.
    """
    if name not in SCORES:
        raise ValueError(f"trait {name!r} is not one of {', '.join(SCORES)}")
    return _score(parse(text), name)


def _score(parsed: Parse, name: str) -> float:
    marks = [
        (mark, sentence.words)
        for sentence in parsed.valid
        if sentence.reading is not None and (mark := evidence(sentence.reading, name)) is not None
    ]
    if not marks:
        return 0.0
    if name == "bell":
        return float(max(mark for mark, _ in marks))
    return sum(mark * words for mark, words in marks) / sum(words for _, words in marks)


@dataclass(frozen=True)
class Fit:
    """How a completion answers its prompt.

    ``obeyed`` says for each trait that the prompt asks for whether the text shows the value
    (None where the text cannot show the trait); ``kept`` for each role that both the prompt and
    the text name whether they agree.
    """

    obeyed: dict[str, bool | None]
    kept: dict[str, bool]

    @property
    def share(self) -> float:
        """Share of the asked values that the text shows; NaN where nothing was asked."""
        shown = [value for value in self.obeyed.values() if value is not None]
        return sum(shown) / len(shown) if shown else float("nan")

    @property
    def roles_kept(self) -> bool:
        """Whether no entity of the prompt was replaced by another."""
        return all(self.kept.values())


def _shows(parsed: Parse, name: str, value: str) -> bool | None:
    if name == "language":
        scores = {language: _score(parsed, score) for score, language in LANGUAGE_SCORES.items()}
        return scores[value] > 0 if any(scores.values()) else None
    score = _score(parsed, name)
    return None if score == 0 else (score > 0) == (value == traits[name].values[0])


def fit(prompt: str, text: str) -> Fit:
    """Whether a completion shows what its prompt asks for: traits by instruction, and entities.

    ``prompt`` is everything before the completion, with or without role markers.
    """
    wanted, parsed = read_prompt(prompt), parse(text)
    named = parsed.roles
    return Fit(
        {name: _shows(parsed, name, value) for name, value in wanted.asked.items()},
        {role: named[role] == index for role, index in wanted.roles.items() if role in named},
    )


def coherences(texts: Iterable[str]) -> list[float]:
    """:func:`coherence` of each text."""
    return [coherence(text) for text in texts]


def trait_scores(texts: Sequence[str], name: str) -> list[float]:
    """:func:`trait` of each text."""
    return [trait(text, name) for text in texts]
