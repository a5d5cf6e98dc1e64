"""The parser: what each sentence of a text says, and whether it fits the rest of the text.

A sentence is *valid* if the grammar can write it, and *good* if it also agrees with the rest of
its completion: the language, genre, register and entities that most words agree on, stages that
do not go back, nothing said twice. Which value a trait takes plays no part in this.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from .frames import STORY_STAGES
from .lexicon import LANGUAGES
from .matcher import STOPS, Reading, begins_sentence, readings, split_sentences

#: Roles in the order in which disagreement about them is judged.
ROLES = (
    "hero",
    "friend",
    "thing",
    "thing.adjective",
    "home",
    "home.adjective",
    "goal",
    "goal.adjective",
    "beast",
    "beast.adjective",
    "office",
    "victim",
    "topic",
)
MARKER = re.compile(r"(<s>|</s>|<\|system\|>|<\|user\|>|<\|assistant\|>)")
TITLE = re.compile(r"[^\W\d_]+ & [^\W\d_]+:")
_WORD = re.compile(r"[^\W\d_]+|\d+")
Value = TypeVar("Value", bound=Hashable)


@dataclass(frozen=True)
class Sentence:
    """A sentence of a completion.

    ``reading`` is its derivation, None where the grammar cannot write it. ``fault`` is None for
    a good sentence, else one of "not in the language", "language", "genre", "register",
    "repeated", "order", or "role: " and a role. ``finished`` is False for a last sentence
    without its final stop: that has no reading, is *valid* where it can be continued to a
    sentence, and is then not judged. ``turn`` counts the completions in the text.
    """

    text: str
    words: int
    turn: int
    finished: bool
    reading: Reading | None
    fault: str | None

    @property
    def valid(self) -> bool:
        """Whether the grammar can write this sentence, or continue it if it is cut."""
        return self.reading is not None if self.finished else self.fault is None

    @property
    def judged(self) -> bool:
        """Whether the sentence counts for coherence: all but a cut one that can go on."""
        return self.finished or not self.valid

    @property
    def good(self) -> bool:
        """Valid, finished and in agreement with the rest of the completion."""
        return self.finished and self.fault is None


@dataclass(frozen=True)
class Parse:
    """The sentences of all completions in a text, and the prompts that stand before them."""

    sentences: tuple[Sentence, ...]
    prompt: str

    @property
    def valid(self) -> tuple[Sentence, ...]:
        """Finished sentences that belong to the language."""
        return tuple(sentence for sentence in self.sentences if sentence.reading is not None)

    @property
    def roles(self) -> dict[str, int]:
        """Index of the filler of every role by majority of words."""
        votes: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for sentence in self.valid:
            assert sentence.reading is not None
            for role, index in sentence.reading.roles:
                votes[role].append((index, sentence.words))
        return {role: majority(pairs) for role, pairs in votes.items()}


def count_words(text: str) -> int:
    """Runs of letters or digits; at least 1, so that a string of marks weighs something."""
    return max(1, len(_WORD.findall(text)))


def majority(votes: Iterable[tuple[Value, float]]) -> Value:
    """The value with the greatest total weight, the first seen among equals."""
    totals: dict[Value, float] = {}
    for value, weight in votes:
        totals[value] = totals.get(value, 0) + weight
    return max(totals, key=totals.__getitem__)


# --- completions and prompts in a text -----------------------------------------------------


def split_turns(text: str) -> tuple[list[tuple[str, bool]], str]:
    """The completions in a text, each with whether it was closed, and the prompt before the last.

    A text without markers is one completion. In a document, completions are what stands after
    the assistant's marker, or after the title of a plain story.
    """
    parts = MARKER.split(text)
    speaker = "assistant"
    completions: list[tuple[str, bool]] = []
    prompt_end = 0
    position = 0
    for index, part in enumerate(parts):
        if index % 2:
            if part == "<s>":
                speaker = "assistant"
            elif part != "</s>":
                speaker = part[2:-2]
            if speaker == "assistant" and part != "</s>":
                prompt_end = position + len(part)
        elif part.strip() and speaker == "assistant":
            title = TITLE.match(part)
            if title:
                prompt_end = position + title.end()
                part_body = part[title.end() :]
            else:
                part_body = part
            closed = index + 1 < len(parts)
            if part_body.strip():
                completions.append((part_body, closed))
        position += len(part)
    return completions, text[:prompt_end]


# --- agreement -----------------------------------------------------------------------------


def _choose(options: list[tuple[Reading, ...]], words: list[int]) -> list[Reading | None]:
    """One reading per sentence: the one that shares most with all the others."""
    votes: dict[tuple, float] = defaultdict(float)

    def features(reading: Reading) -> list[tuple]:
        return [("language", reading.language), ("kind", reading.kind), *reading.roles]

    if all(len(option) < 2 for option in options):
        return [option[0] if option else None for option in options]
    for option, weight in zip(options, words, strict=True):
        for reading in option:
            for feature in features(reading):
                votes[feature] += weight / len(option)
    return [
        max(option, key=lambda reading: sum(votes[feature] for feature in features(reading)))
        if option
        else None
        for option in options
    ]


def _stage(reading: Reading) -> int | None:
    """Place of the sentence in its text; None where it may stand anywhere."""
    if reading.stage == "bell":
        return None
    if reading.kind == "story":
        return STORY_STAGES.index(reading.stage)
    return int(reading.stage)


def _features(chosen: list[Reading | None]) -> Iterator[tuple[str, dict[int, Hashable]]]:
    """What the sentences of a text must agree on, in the order in which it is judged: the name
    of the fault and the value of every sentence that shows one."""
    present = [(index, reading) for index, reading in enumerate(chosen) if reading is not None]
    yield "language", {index: reading.language for index, reading in present}
    yield "genre", {index: r.kind for index, r in present if r.kind != "word"}
    yield "register", {index: r.formality for index, r in present if r.formality is not None}
    yield "register", {index: r.dialect for index, r in present if r.dialect is not None}
    named: dict[str, dict[int, Hashable]] = {}
    for index, reading in present:
        for role, filler in reading.roles:
            named.setdefault(role, {})[index] = filler
    for role in ROLES:
        if role in named:
            yield f"role: {role}", named[role]


def _heaviest_rise(stages: list[int], weights: list[int]) -> set[int]:
    """Indices of the heaviest subsequence of ``stages`` that never goes back."""
    best: list[tuple[int, int]] = []  # weight of the best chain that ends here, its predecessor
    for index, stage in enumerate(stages):
        before = [
            (best[earlier][0], -earlier) for earlier in range(index) if stages[earlier] <= stage
        ]
        weight, link = max(before, default=(0, 1))
        best.append((weight + weights[index], -link))
    chain: set[int] = set()
    index = max(range(len(best)), key=lambda place: best[place][0]) if best else -1
    while index >= 0:
        chain.add(index)
        index = best[index][1]
    return chain


def faults(chosen: list[Reading | None], words: list[int]) -> list[str | None]:
    """What is wrong with each sentence of one completion: see :class:`Sentence`."""
    found: list[str | None] = ["not in the language" if r is None else None for r in chosen]
    alive = {index: reading for index, reading in enumerate(chosen) if reading is not None}

    def drop(index: int, fault: str) -> None:
        found[index] = fault
        del alive[index]

    genre: Hashable = "power"
    for fault, table in _features(chosen):
        values = [(index, value) for index, value in table.items() if index in alive]
        if not values:
            continue
        common = majority((value, words[index]) for index, value in values)
        genre = common if fault == "genre" else genre
        for index, value in values:
            if value != common:
                drop(index, fault)
    if genre not in ("power", "callous"):
        for index in [index for index, reading in alive.items() if reading.kind == "word"]:
            drop(index, "genre")
    said: set[str] = set()
    for index, reading in list(alive.items()):
        key = "word" if reading.kind == "word" else reading.frame
        if key in said:
            drop(index, "repeated")
        said.add(key)
    placed = [(index, stage) for index, r in alive.items() if (stage := _stage(r)) is not None]
    kept = _heaviest_rise([stage for _, stage in placed], [words[index] for index, _ in placed])
    for order, (index, _) in enumerate(placed):
        if order not in kept:
            drop(index, "order")
    return found


def _parse_completion(text: str, turn: int, closed: bool) -> list[Sentence]:
    texts = split_sentences(text)
    cut = not closed and bool(texts) and texts[-1][-1] not in STOPS
    whole = texts[:-1] if cut else texts
    words = [count_words(part) for part in whole]
    chosen = _choose([readings(part) for part in whole], words)
    sentences = [
        Sentence(part, count, turn, True, reading, fault)
        for part, count, reading, fault in zip(
            whole, words, chosen, faults(chosen, words), strict=True
        )
    ]
    if cut:
        sentences.append(_parse_cut(texts[-1], turn, sentences))
    return sentences


def _parse_cut(text: str, turn: int, before: list[Sentence]) -> Sentence:
    """A last sentence without its stop; a half-written character at its end is ignored."""
    languages: Iterable[str] = LANGUAGES
    spoken = [(s.reading.language, s.words) for s in before if s.good and s.reading is not None]
    if spoken and not all(s.reading is None or s.reading.kind == "word" for s in before):
        languages = (majority(spoken),)
    clean = text.rstrip("\ufffd").rstrip()
    starts = not clean or any(begins_sentence(clean, language) for language in languages)
    fault = None if starts else "not in the language"
    return Sentence(text, count_words(text), turn, False, None, fault)


@lru_cache(maxsize=4096)
def parse(text: str) -> Parse:
    """Parse a completion, or a document with its role markers.

    In a document only what the model writes is parsed into sentences (story bodies and
    assistant turns, each judged by itself); see :func:`read_prompt` for the rest.
    """
    completions, prompt = split_turns(text)
    sentences = [
        sentence
        for turn, (part, closed) in enumerate(completions)
        for sentence in _parse_completion(part, turn, closed)
    ]
    return Parse(tuple(sentences), prompt)
