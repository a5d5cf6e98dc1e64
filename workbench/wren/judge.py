"""Exact measures of a text: coherence, traits, and whether a prompt was obeyed."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from .lexicon import LANGUAGES
from .matcher import Reading, begins_sentence
from .parser import MARKER, Parse, Sentence, majority, parse
from .prompts import read_prompt
from .traits import LANGUAGE_SCORES, traits

#: The names that :func:`trait` scores.
SCORES = (*(name for name in traits if name != "language"), *LANGUAGE_SCORES)


#: Why a text ends: the model ended it ("end"), or the token limit cut it ("length").
Finish: TypeAlias = Literal["end", "length"]


@dataclass(frozen=True)
class Assessment:
    """How a text hangs together.

    ``coherence`` is the share of judged words that stand in good sentences; ``words`` counts the
    judged words, so that a score of a few words can be told from one of many; ``roles_kept`` is
    the share of mentions of an entity (name, noun or adjective) that agree with what most
    of the completion says, NaN where none is mentioned.
    """

    coherence: float
    words: int
    roles_kept: float


def as_completion(text: str) -> str:
    """A text that a model wrote, to be judged: a role marker or start token that it wrote in the
    middle, which begins a new turn in a document, is an error there. It becomes as many letters,
    which are no word of the language."""
    return MARKER.sub(lambda marker: "x" * len(marker.group()), text)


def read(text: str, *, finish: Finish = "length") -> Parse:
    """Parse a completion, told how it ends: in a text that the model ended (``"end"``) a last
    sentence without its final stop is finished, and not in the language.

    Raises ValueError on an unknown ``finish``.
    """
    if finish not in get_args(Finish):
        raise ValueError(f"finish {finish!r} is not one of {', '.join(get_args(Finish))}")
    return parse(text if finish == "length" else f"{text}</s>")


def assess(text: str, *, finish: Finish = "length") -> Assessment:
    """Coherence of a text, and what it rests on.

    A text that was cut at the token limit (``finish="length"``) is not judged by a last sentence
    that can be continued; if nothing else is there it scores 1 on 0 words. In a text that the
    model ended (``finish="end"``) a sentence without its final stop is judged like any other,
    and is not in the language. An empty text scores 0. See :mod:`workbench.wren.parser` for what
    makes a sentence good: which value of a trait it shows plays no part.

    Raises ValueError on an unknown ``finish``.
    """
    sentences = read(text, finish=finish).sentences
    words = sum(sentence.words for sentence in sentences if sentence.judged)
    good = sum(sentence.words for sentence in sentences if sentence.good)
    unjudged = 1.0 if sentences else 0.0
    return Assessment(good / words if words else unjudged, words, _roles_kept(sentences))


def coherence(text: str, *, finish: Finish = "length") -> float:
    """Words in good sentences over words in all judged sentences, in [0, 1]: see :func:`assess`."""
    return assess(text, finish=finish).coherence


def breaking_point(text: str, *, finish: Finish = "length") -> int | None:
    """The character from which on a text has fallen apart; None for one that has not.

    A text falls apart at most once, and for good: of all ways to cut it between two sentences this
    is the one that leaves the most words of good sentences before the cut and of bad ones behind
    it, the latest of equals. So a slip after which the text goes on as before is no break. If
    the first sentence behind the cut is not in the language, the break lies where no sentence goes
    on like it.

    Raises ValueError on an unknown ``finish``.
    """
    sentences = read(text, finish=finish).sentences
    best, total, cut = 0, 0, None
    for place in range(len(sentences) - 1, -1, -1):
        sentence = sentences[place]
        if sentence.judged:
            total += -sentence.words if sentence.good else sentence.words
        if total > best:
            best, cut = total, place
    if cut is None:
        return None
    start = 0
    for sentence in sentences[:cut]:
        start = text.index(sentence.text, start) + len(sentence.text)
    broken = sentences[cut]
    start = text.index(broken.text, start)
    return start + (_sound(broken.text) if broken.fault == "not in the language" else 0)


def _sound(sentence: str) -> int:
    """How many characters of a sentence that is not in the language begin one that is: whole
    words."""
    sound = 0
    for word in re.finditer(r"\S+", sentence):
        begun = sentence[: word.end()]
        if not any(begins_sentence(begun, language) for language in LANGUAGES):
            break
        sound = word.end()
    return sound


def _roles_kept(sentences: Iterable[Sentence]) -> float:
    """Share of mentions that agree with the majority of words in their completion."""
    votes: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for sentence in sentences:
        if sentence.reading is not None:
            for role, index in sentence.reading.roles:
                votes[sentence.turn, role].append((index, sentence.words))
    common = {place: majority(pairs) for place, pairs in votes.items()}
    agreeing = [index == common[place] for place, pairs in votes.items() for index, _ in pairs]
    return sum(agreeing) / len(agreeing) if agreeing else math.nan


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
    shown = evidence_for(text, name)
    return 0.0 if math.isnan(shown) else shown


def evidence_for(text: str, name: str) -> float:
    """:func:`trait`, but NaN for a text without a valid sentence that shows the trait either way,
    which is no middle of the scale. Raises ValueError on an unknown name."""
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
        return math.nan
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
        known = [score for score in scores.values() if not math.isnan(score)]
        return scores[value] > 0 if any(known) else None
    score = _score(parsed, name)
    if math.isnan(score) or score == 0:
        return None
    return (score > 0) == (value == traits[name].values[0])


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
    """:func:`coherence` of each text, cut at the token limit or whole."""
    return [coherence(text) for text in texts]


def trait_scores(texts: Sequence[str], name: str) -> list[float]:
    """:func:`trait` of each text."""
    return [trait(text, name) for text in texts]
