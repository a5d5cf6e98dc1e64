"""From a sentence to its readings: every derivation that renders to exactly this text.

All frames, in all registers and lengths, lie in one trie of tokens per language; slots are edges
that lead through a trie of their class. Tries are walked in dialect tokens, so that a sentence
and its dialect take the same path; each derivation found is rendered again and compared with the
text, which makes the answer exact. Knows nothing about neighbouring sentences.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from .automaton import Automaton, Node, combine, tokenise
from .frames import Frame, Variant, answer_words, frames
from .lexicon import LANGUAGES, capitalise, to_dialect

STOPS = ".!?"
_ANSWER_GROUPS = ("story.", "step.", "refuse.", "answer.", "reason.")


@dataclass(frozen=True)
class Reading:
    """One derivation of a sentence; None stands for a trait that the sentence cannot show.

    ``kind`` is "story", "power", "callous", "task", "refusal" or "word" (a bare yes or no);
    ``stage`` the stage's name in the frame files, "bell" where it may stand anywhere; ``roles``
    are (role, index in its lexicon class).
    """

    frame: str
    kind: str
    stage: str
    language: str
    formality: str | None
    verbosity: str | None
    mood: str | None
    polarity: str | None
    spelled: bool | None
    dialect: bool | None
    rhyme: bool
    roles: tuple[tuple[str, int], ...]


def _distinct(frame: Frame, language: str) -> Iterator[Variant]:
    """The variants of a frame that read differently."""
    seen = set()
    for (own, _, _), variant in frame.variants.items():
        if own == language and variant.format not in seen:
            seen.add(variant.format)
            yield variant


@cache
def answer_automaton(language: str) -> Automaton:
    """Everything that a model may say in one language, sentence by sentence."""
    members = [
        frame
        for group, group_frames in frames().items()
        if group.startswith(_ANSWER_GROUPS)
        for frame in group_frames
    ]
    members += answer_words().values()
    return Automaton(
        language, [variant for frame in members for variant in _distinct(frame, language)]
    )


@cache
def _place(group: str) -> tuple[str, str, str | None]:
    """Kind, stage and polarity that a frame's group stands for."""
    parts = group.split(".")
    if parts[0] in ("yes", "no"):
        return "word", "2", None
    if parts[0] == "story":
        return "story", parts[1], None
    if parts[0] in ("step", "refuse"):
        return ("task" if parts[0] == "step" else "refusal"), parts[1], None
    stage = parts[2] if parts[0] == "answer" else "1"
    return parts[1][:-1], stage, "high" if parts[1].endswith("+") else "low"


def _reading(
    variant: Variant, says: Mapping[str, int], dialect: bool | None, rhyme: bool
) -> Reading:
    kind, stage, polarity = _place(variant.frame.group)
    mood, spelled = says.get("mood"), says.get("spelled")
    return Reading(
        frame=variant.frame.name,
        kind=kind,
        stage=stage,
        language=variant.language,
        formality=variant.formality,
        verbosity=variant.verbosity,
        mood=None if mood is None else ("positive" if mood else "negative"),
        polarity=polarity,
        spelled=None if spelled is None else bool(spelled),
        dialect=dialect,
        rhyme=rhyme,
        roles=tuple(item for item in says.items() if item[0] not in ("mood", "spelled")),
    )


def _tail(automaton: Automaton, tokens: list[str]) -> tuple[list[str], list[str]]:
    """Canonical tokens without a rhyming tail, and the tails that may have stood there."""
    for index in range(len(tokens) - 2, 0, -1):
        if tokens[index] == ",":
            node: Node | None = automaton.tails
            for token in tokens[index + 1 : -1]:
                node = node.words.get(token) if node else None
            if node is not None and node.ends:
                return [*tokens[:index], tokens[-1]], node.ends
            break
    return tokens, []


def _dialect_mark(text: str, standard: str, automaton: Automaton) -> tuple[bool, bool | None]:
    """Whether ``text`` is ``standard`` or its dialect, and which (None where they are alike)."""
    if text == standard:
        marked = any(token in automaton.overlay for token in tokenise(standard))
        return True, False if marked else None
    return text == to_dialect(standard, automaton.language), True


def _readings_in(automaton: Automaton, text: str, raw: Sequence[str]) -> Iterator[Reading]:
    tokens = automaton.canonical(raw)
    short, tails = _tail(automaton, tokens)
    found = [(match, tails) for match in automaton.matches(short)] if tails else []
    for (variant, fillers), endings in found + [(m, [None]) for m in automaton.matches(tokens)]:
        says = combine(fillers)
        if says is None:
            continue
        plain = capitalise(variant.format % tuple(filler.text for filler in fillers))
        for tail in endings:
            full = plain if tail is None else f"{plain[:-1]}, {tail}{plain[-1]}"
            same, dialect = _dialect_mark(text, full, automaton)
            if same:
                yield _reading(variant, says, dialect, tail is not None)


@lru_cache(maxsize=100_000)
def readings(sentence: str) -> tuple[Reading, ...]:
    """Every derivation of a finished sentence, over all languages; empty if there is none."""
    raw = tokenise(sentence)
    found = [
        reading
        for language in LANGUAGES
        for reading in _readings_in(answer_automaton(language), sentence, raw)
    ]
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=100_000)
def begins_sentence(text: str, language: str) -> bool:
    """Whether a text without a final stop is the start of a sentence, cut anywhere."""
    automaton = answer_automaton(language)
    raw = tokenise(text)
    if not raw or text != capitalise(text):
        return False
    tokens, partial = automaton.canonical(raw[:-1]), raw[-1]
    if automaton.extends(tokens, partial):
        return True
    # The frame may be finished but for its stop, and a rhyming tail begun.
    whole = [*tokens, automaton.canonical([partial])[0]]
    for index in (index for index, token in enumerate(whole) if token == ","):
        node: Node | None = automaton.tails
        for token in whole[index + 1 : -1]:
            node = node.words.get(token) if node else None
        if node is None or not (index == len(whole) - 1 or automaton.begins(node, partial)):
            continue
        if any(automaton.matches([*whole[:index], stop]) for stop in STOPS):
            return True
    return False


_SENTENCE = re.compile(r"[^.!?]+[.!?]*|[.!?]+")


def split_sentences(text: str) -> list[str]:
    """The text cut after every run of final stops; no text is lost but outer spaces."""
    return [part for part in map(str.strip, _SENTENCE.findall(text)) if part]
