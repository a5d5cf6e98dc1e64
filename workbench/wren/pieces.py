"""A sentence part by part, each with all that the writer could have put there instead.

With everything else about a text held fixed, a slot could have held any word of its class, and a
role that no sentence has named yet any entity that is left. This is `Speaker.words` and what comes
after it once more, slower, and knowing of every choice what else it could have been.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from .frames import frames, role_text, roles_named
from .lexicon import capitalise, capitalise_inside, lexicon, to_dialect
from .roles import role_counts
from .speaker import Derivation


class Piece(NamedTuple):
    """A part of a sentence; ``options`` are all that could stand there, () where nothing else.

    ``space`` says that a space stands before it, which the tokenizer counts to the word;
    ``capital`` that a sentence begins with it. Text and options are without either.
    """

    text: str
    options: tuple[str, ...] = ()
    space: bool = False
    capital: bool = False

    def written(self, text: str) -> str:
        """The text, or an option in its place, as it stands in the document."""
        return (" " if self.space else "") + (capitalise(text) if self.capital else text)


def pieces(said: Derivation, named: set[str], *, space: bool = False) -> Iterator[Piece]:
    """The sentence, as it stands in the document; ``named`` collects the roles that it names.

    ``space`` says that a space stands before the sentence.
    """
    language, capital = said.speaker.language, True
    *parts, last = _parts(said, named, space)
    if said.tail is not None:
        last = last._replace(text=f"{last.text[:-1]}, {said.tail}{last.text[-1]}")
    for part in (*parts, last):
        piece = part._replace(text=capitalise_inside(part.text), capital=capital)
        if said.speaker.dialect:
            options = _in_dialect(piece.options, language)
            piece = piece._replace(text=to_dialect(piece.text, language), options=options)
        yield piece
        capital = piece.text[-1] in ".!?"


def _parts(said: Derivation, named: set[str], space: bool) -> Iterator[Piece]:
    speaker, variant = said.speaker, said.frame.variants[said.speaker.key]
    slots = zip((*variant.slots, None), (*variant.draws, 0), strict=True)
    for literal, (slot, draw) in zip(variant.literals, slots, strict=True):
        if words := literal.strip(" "):
            yield Piece(words, space=space or literal.startswith(" "))
            space = literal.endswith(" ")
        else:
            space = space or literal == " "
        if slot is None:
            return
        if slot == "statement":
            piece = _statement(said, named)
        elif slot in speaker.options:
            options = speaker.options[slot]
            piece = Piece(options[int(said.draws[draw] * len(options))], options)
        else:
            piece = _role(said, slot, named)
        yield piece._replace(space=space)
        space = False


@cache
def _in_dialect(options: tuple[str, ...], language: str) -> tuple[str, ...]:
    return tuple(to_dialect(option, language) for option in options)


def _statement(said: Derivation, named: set[str]) -> Piece:
    statement = said.statement
    assert statement is not None
    group = frames()[statement.frame.group]
    options = tuple(
        "".join(
            piece.written(piece.text) for piece in pieces(statement._replace(frame=frame), {*named})
        )
        for frame in group
    )
    return Piece(options[group.index(statement.frame)], options)


def _role(said: Derivation, slot: str, named: set[str]) -> Piece:
    language, roles = said.speaker.language, said.speaker.forms.roles
    text, needed = role_text(language, slot, roles), roles_named(slot)
    if named.issuperset(needed):
        return Piece(text)
    if needed == ("topic",):
        options = _topics(language, slot, lexicon().topics[roles["topic"]].harmful)
    else:
        fixed = tuple((role, roles[role]) for role in needed if role in named)
        options = _fillers(language, slot, fixed)
    named.update(needed)
    return Piece(text, options)


@cache
def _topics(language: str, slot: str, harmful: bool) -> tuple[str, ...]:
    topics = lexicon().topics
    return tuple(topic.phrases[language, slot] for topic in topics if topic.harmful == harmful)


@cache
def _fillers(language: str, slot: str, fixed: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """A role slot with all that its roles could be, those ``fixed`` apart."""
    ways = [dict(fixed)]
    for role in roles_named(slot):
        if role not in ways[0]:
            ways = [way | {role: index} for way in ways for index in range(role_counts()[role])]
    return tuple(role_text(language, slot, way) for way in ways)
