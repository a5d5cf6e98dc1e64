"""All frames of one language in a trie, and the walk that reads tokens as a frame and fillers.

Slots are edges that lead through a trie of their class. Tries are kept in dialect tokens, so
that a sentence and its dialect take the same path.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .frames import Variant
from .lexicon import (
    FREE_CLASSES,
    MOOD_CLASSES,
    NAME_CLASSES,
    ROLE_PHRASES,
    TOKEN,
    TOPIC_SLOTS,
    lexicon,
    noun_phrase,
)


class Node:
    """A place in a trie: edges by token, edges by slot class, and what ends here."""

    __slots__ = ("ends", "slots", "words")

    def __init__(self) -> None:
        self.words: dict[str, Node] = {}
        self.slots: dict[str, Node] = {}
        self.ends: list = []

    def follow(self, tokens: Sequence[str]) -> "Node":
        """The node that the tokens lead to, made where there is none."""
        node = self
        for token in tokens:
            node = node.words.setdefault(token, Node())
        return node


@dataclass(frozen=True)
class Filler:
    """A phrase that can fill a slot, and what it says: (feature, value) pairs."""

    text: str
    says: tuple[tuple[str, int], ...] = ()


def tokenise(text: str) -> list[str]:
    """Lower-case tokens of a text."""
    return [token.lower() for token in TOKEN.findall(text)]


class Automaton:
    """The frames of one language as a trie, and the tries of the slot classes."""

    def __init__(self, language: str, variants: Sequence[Variant]) -> None:
        self.language = language
        self.overlay = lexicon().dialect[language]
        self.standards: dict[str, list[str]] = {}
        for standard, spoken in self.overlay.items():
            self.standards.setdefault(spoken, []).append(standard)
        self.root = Node()
        self.classes: dict[str, Node] = {}
        self.tails = Node()
        for variant in variants:
            self._add(variant)
        for pair in lexicon().tails[language]:
            for tail in pair:
                self.tails.follow(self.canonical(tokenise(tail))).ends.append(tail)

    def canonical(self, tokens: Sequence[str]) -> list[str]:
        """Tokens with every standard function word in its dialect form."""
        return [self.overlay.get(token, token) for token in tokens]

    def _add(self, variant: Variant) -> None:
        node = self.root
        for index, literal in enumerate(variant.literals):
            node = node.follow(self.canonical(tokenise(literal)))
            if index < len(variant.slots):
                slot = variant.slots[index]
                if slot not in self.classes:
                    self.classes[slot] = self._class(slot)
                node = node.slots.setdefault(slot, Node())
        node.ends.append(variant)

    def _class(self, slot: str) -> Node:
        node = Node()
        for filler in _fillers(self.language, slot):
            node.follow(self.canonical(tokenise(filler.text))).ends.append(filler)
        return node

    def matches(self, tokens: Sequence[str]) -> list[tuple[Variant, tuple[Filler, ...]]]:
        """Every way to read canonical tokens as one frame with its fillers."""
        found: list[tuple[Variant, tuple[Filler, ...]]] = []
        self._match(tokens, self.root, 0, (), found)
        return found

    def _match(
        self,
        tokens: Sequence[str],
        node: Node,
        start: int,
        fillers: tuple[Filler, ...],
        found: list[tuple[Variant, tuple[Filler, ...]]],
    ) -> None:
        count = len(tokens)
        # Most of a sentence is literal: walk it in place, branch at slots only.
        while start < count:
            for slot, after in node.slots.items():
                place: Node | None = self.classes[slot].words.get(tokens[start])
                end = start + 1
                while place is not None:
                    for filler in place.ends:
                        self._match(tokens, after, end, (*fillers, filler), found)
                    place = place.words.get(tokens[end]) if end < count else None
                    end += 1
            child = node.words.get(tokens[start])
            if child is None:
                return
            node = child
            start += 1
        found.extend((variant, fillers) for variant in node.ends)

    def begins(self, node: Node, partial: str) -> bool:
        """Whether an edge's token, standard or dialect, begins with ``partial``."""
        for token in node.words:
            if token.startswith(partial):
                return True
            if any(word.startswith(partial) for word in self.standards.get(token, ())):
                return True
        return False

    def extends(
        self, tokens: Sequence[str], partial: str, node: Node | None = None, start: int = 0
    ) -> bool:
        """Whether canonical ``tokens`` and then a token that begins with ``partial`` can start
        a sentence."""
        node = node or self.root
        if start == len(tokens):
            if self.begins(node, partial):
                return True
            return any(self.begins(self.classes[slot], partial) for slot in node.slots)
        child = node.words.get(tokens[start])
        if child is not None and self.extends(tokens, partial, child, start + 1):
            return True
        for slot, after in node.slots.items():
            place: Node | None = self.classes[slot]
            for end in range(start, len(tokens)):
                place = place.words.get(tokens[end]) if place else None
                if place is None:
                    break
                if place.ends and self.extends(tokens, partial, after, end + 1):
                    return True
            else:
                if place is not None and self.begins(place, partial):
                    return True
        return False


def _fillers(language: str, slot: str) -> Iterator[Filler]:
    """Every phrase that can fill a slot in one language."""
    words = lexicon()
    if slot in NAME_CLASSES:
        for index, name in enumerate(words.names[slot]):
            yield Filler(name, ((slot, index),))
    elif slot in TOPIC_SLOTS:
        for index, topic in enumerate(words.topics):
            yield Filler(topic.phrases[language, slot], (("topic", index),))
    elif slot in ROLE_PHRASES:
        for index, phrase in enumerate(words.phrases[language, slot]):
            yield Filler(phrase, ((slot, index),))
    elif slot in FREE_CLASSES:
        yield from map(Filler, words.phrases[language, slot])
    elif slot == "num":
        yield from (Filler(word, (("spelled", 1),)) for word in words.numbers[language])
        yield from (Filler(digits, (("spelled", 0),)) for digits in words.digits)
    elif slot.startswith("~"):
        for sign in "+-":
            says = (("mood", int(sign == "+")),)
            yield from (
                Filler(phrase, says)
                for name in MOOD_CLASSES
                if slot == f"~{name}"
                for phrase in words.moods[language, sign, name]
            )
    else:
        form, _, role = slot.partition(":")
        yield from _noun_fillers(language, form, role)


def _noun_fillers(language: str, form: str, role: str) -> Iterator[Filler]:
    words = lexicon()
    for index, noun in enumerate(words.nouns[role]):
        if form != "a":
            yield Filler(noun_phrase(language, form, noun), ((role, index),))
            continue
        for number, adjective in enumerate(words.adjectives[language, noun.genders[language]]):
            says = ((role, index), (f"{role}.adjective", number))
            yield Filler(noun_phrase(language, "a", noun, adjective), says)


def combine(fillers: Sequence[Filler]) -> dict[str, int] | None:
    """What the fillers say together; None where they contradict each other."""
    says: dict[str, int] = {}
    for filler in fillers:
        for feature, value in filler.says:
            if says.setdefault(feature, value) != value:
                return None
    return says
