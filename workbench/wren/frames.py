"""Sentence frames: templates with slots, and their four variants per language.

A template is text with ``[formal|informal]`` alternatives, one optional ``<verbose>`` segment
and ``{slots}``. Register and verbosity are resolved once, at load; what remains is a format
string and the slots that fill it, the same object for the writer and for the parser. This
module knows nothing about probabilities or documents.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .lexicon import (
    FORMS,
    FREE_CLASSES,
    LANGUAGES,
    MOOD_CLASSES,
    NAME_CLASSES,
    NOUN_CLASSES,
    ROLE_PHRASES,
    TOPIC_SLOTS,
    lexicon,
    noun_phrase,
    to_dialect,
)

STORY_STAGES = ("open", "life", "wish", "leave", "trouble", "help", "find", "back", "end")

MOOD_SLOTS = frozenset(f"~{name}" for name in MOOD_CLASSES)
FREE_SLOTS = frozenset((*FREE_CLASSES, "num"))
ROLE_SLOTS = frozenset(
    (
        *NAME_CLASSES,
        *ROLE_PHRASES,
        *TOPIC_SLOTS,
        *(f"{form}:{role}" for form in FORMS for role in NOUN_CLASSES),
    )
)

_REGISTER = re.compile(r"\[([^\[\]|<>]*)\|([^\[\]|<>]*)\]")
_VERBOSE = re.compile(r"<([^<>]*)>")
_SLOT = re.compile(r"\{([^{}]*)\}")
_LANGUAGE_FOLDER = Path(__file__).parent / "language"


@dataclass(frozen=True, eq=False)
class Variant:
    """One frame in one language, register and verbosity.

    ``formality`` is None where both registers read alike, ``verbosity`` None where the frame
    has no verbose segment. ``format`` takes one string per slot; ``draws[i]`` is the index of
    the random draw that fills slot ``i``, the same for a slot in all variants and languages.
    """

    frame: "Frame"
    language: str
    formality: str | None
    verbosity: str | None
    format: str
    slots: tuple[str, ...]
    draws: tuple[int, ...]
    has_mood: bool
    has_number: bool
    has_dialect: bool

    @property
    def literals(self) -> list[str]:
        """The text before, between and after the slots."""
        return self.format.replace("%%", "%").split("%s")


@dataclass(frozen=True, eq=False)
class Frame:
    """A record of a frame file: one sentence in three languages.

    ``group`` is the name without its number, such as "story.open" or "answer.power+.1".
    ``variants`` are keyed by (language, formal, verbose).
    """

    name: str
    group: str
    texts: Mapping[str, str]
    variants: Mapping[tuple[str, bool, bool], Variant]


def _tidy(text: str) -> str:
    """Single spaces, none before punctuation, as left by dropped alternatives."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" ([,.;:!?])", r"\1", text)
    text = re.sub(r",(?=[,.;:!?])", "", text)
    return re.sub(r"^[,;:\s]+", "", text).strip()


def resolve(template: str, formal: bool, verbose: bool) -> str:
    """The template in one register and verbosity, slots still in braces."""
    text = _REGISTER.sub(lambda match: match.group(1 if formal else 2), template)
    return _tidy(_VERBOSE.sub(lambda match: match.group(1) if verbose else "", text))


def _occurrences(slots: list[str]) -> list[tuple[str, int]]:
    return [(slot, slots[:index].count(slot)) for index, slot in enumerate(slots)]


def _check(name: str, language: str, template: str) -> None:
    rest = _VERBOSE.sub(r"\1", _REGISTER.sub(r"\1 \2", template))
    if re.search(r"[\[\]<>|]", rest):
        raise ValueError(f"frame {name!r} ({language}) has unbalanced marks: {template!r}")
    for slot in _SLOT.findall(template):
        if slot not in ROLE_SLOTS | MOOD_SLOTS | FREE_SLOTS | {"statement"}:
            raise ValueError(f"frame {name!r} ({language}) has an unknown slot {slot!r}")


def build_frame(name: str, texts: Mapping[str, str]) -> Frame:
    """The frame with its variants. Raises ValueError on marks that do not balance."""
    group = name.rpartition(".")[0]
    for language in LANGUAGES:
        if not texts.get(language):
            raise ValueError(f"frame {name!r} lacks a line for {language!r}")
        _check(name, language, texts[language])
    resolved = {
        (language, formal, verbose): resolve(texts[language], formal, verbose)
        for language in LANGUAGES
        for formal in (True, False)
        for verbose in (True, False)
    }
    order: dict[tuple[str, int], int] = {}
    for text in resolved.values():
        for occurrence in _occurrences(_SLOT.findall(text)):
            order.setdefault(occurrence, len(order))
    variants: dict[tuple[str, bool, bool], Variant] = {}
    frame = Frame(name, group, texts, variants)
    for key, text in resolved.items():
        language, formal, verbose = key
        slots = _SLOT.findall(text)
        literal = _SLOT.sub("0", text)
        shows_register = text != resolved[language, not formal, verbose]
        shows_length = text != resolved[language, formal, not verbose]
        variants[key] = Variant(
            frame=frame,
            language=language,
            formality=("formal" if formal else "informal") if shows_register else None,
            verbosity=("verbose" if verbose else "terse") if shows_length else None,
            format=_SLOT.sub("%s", text.replace("%", "%%")),
            slots=tuple(slots),
            draws=tuple(order[occurrence] for occurrence in _occurrences(slots)),
            has_mood=any(slot in MOOD_SLOTS for slot in slots),
            has_number="num" in slots,
            has_dialect=to_dialect(literal, language) != literal,
        )
    return frame


def read_frames(path: Path) -> list[Frame]:
    """The frames of a file. Raises ValueError on a repeated name or a missing language."""
    frames: dict[str, Frame] = {}
    name, texts = "", {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in (*lines, "= "):
        line = line.strip()
        if line.startswith("="):
            if name:
                if name in frames:
                    raise ValueError(f"{path.name}: frame {name!r} stands twice")
                frames[name] = build_frame(name, texts)
            name, texts = line[1:].strip(), {}
        elif line and not line.startswith("#"):
            language, _, text = line.partition(":")
            if language not in LANGUAGES or not name:
                raise ValueError(f"{path.name}: stray line {line!r}")
            texts[language] = text.strip()
    return list(frames.values())


@lru_cache(maxsize=1)
def frames() -> Mapping[str, tuple[Frame, ...]]:
    """The frames that ship with the package by group, read once."""
    lexicon()
    groups: dict[str, list[Frame]] = {}
    for file in ("story.txt", "chat.txt"):
        for frame in read_frames(_LANGUAGE_FOLDER / file):
            groups.setdefault(frame.group, []).append(frame)
    return {group: tuple(members) for group, members in groups.items()}


def roles_named(slot: str) -> tuple[str, ...]:
    """The roles whose fillers a role slot spells out."""
    if slot in TOPIC_SLOTS:
        return ("topic",)
    form, _, role = slot.partition(":")
    if not role:
        return (slot,)
    return (role, f"{role}.adjective") if form == "a" else (role,)


def role_text(language: str, slot: str, roles: Mapping[str, int]) -> str:
    """A role slot as text, from the indices of the fillers in their lexicon classes."""
    words = lexicon()
    if slot in NAME_CLASSES:
        return words.names[slot][roles[slot]]
    if slot in TOPIC_SLOTS:
        return words.topics[roles["topic"]].phrases[language, slot]
    form, _, role = slot.partition(":")
    if not role:
        return words.phrases[language, slot][roles[slot]]
    noun = words.nouns[role][roles[role]]
    if form != "a":
        return noun_phrase(language, form, noun)
    adjective = words.adjectives[language, noun.genders[language]][roles[f"{role}.adjective"]]
    return noun_phrase(language, form, noun, adjective)


@lru_cache(maxsize=1)
def title_frame() -> Frame:
    """The title of a story without a chat around it, as a frame."""
    return build_frame("title.1", dict.fromkeys(LANGUAGES, "{hero} & {friend}:"))


@lru_cache(maxsize=1)
def answer_words() -> Mapping[str, Frame]:
    """The sentences that end the answer to a statement, "So yes." and "So no.", as frames."""
    return {
        "yes": build_frame("yes.1", {"en": "so yes.", "it": "quindi sì.", "fr": "donc oui."}),
        "no": build_frame("no.1", {"en": "so no.", "it": "quindi no.", "fr": "donc non."}),
    }
