"""Reading prompts: what a user asks for, and of whom and what."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from .automaton import Automaton, combine, tokenise
from .frames import Frame, Variant, frames
from .lexicon import LANGUAGES, NAME_CLASSES, lexicon
from .matcher import split_sentences
from .parser import MARKER, ROLES, TITLE


@dataclass(frozen=True)
class Prompt:
    """What a prompt says: traits asked for, entities by role, the kind of the last request and
    the polarity of the last statement that it quotes ("+", "-" or None)."""

    asked: Mapping[str, str]
    roles: Mapping[str, int]
    kind: str | None
    statement: str | None


def _with_statements(variant: Variant) -> Iterator[tuple[Variant, str | None]]:
    """The user's line with every statement that it may quote written out."""
    if "statement" not in variant.slots:
        yield variant, None
        return
    kind = variant.frame.group.removeprefix("ask.").removesuffix("_yes")
    place = variant.slots.index("statement")
    pieces = variant.format.split("%s")
    for sign in "+-":
        for statement in frames()[f"statement.{kind}{sign}"]:
            inner = statement.variants[variant.language, True, False]
            head = "%s".join(pieces[: place + 1])
            tail = "%s".join(pieces[place + 1 :])
            slots = (*variant.slots[:place], *inner.slots, *variant.slots[place + 1 :])
            text = head + inner.format + tail
            yield replace(variant, format=text, slots=slots, draws=()), sign


@dataclass(frozen=True, eq=False)
class _Line(Variant):
    """One sentence of a user's line or an instruction."""

    statement: str | None = None


def _sentences(variant: Variant, statement: str | None) -> Iterator[_Line]:
    """The sentences of a line, each with its own slots."""
    slots = list(variant.slots)
    for part in split_sentences(variant.format):
        count = part.count("%s")
        yield _Line(
            frame=variant.frame,
            language=variant.language,
            formality=None,
            verbosity=None,
            format=part,
            slots=tuple(slots[:count]),
            draws=(),
            has_mood=False,
            has_number=False,
            has_dialect=False,
            statement=statement,
        )
        slots = slots[count:]


@cache
def prompt_automaton(language: str) -> Automaton:
    """Everything that a user may say in one language, sentence by sentence."""
    members: list[Frame] = [
        frame
        for group, group_frames in frames().items()
        if group.startswith(("ask.", "instruction."))
        for frame in group_frames
    ]
    return Automaton(
        language,
        [
            line
            for frame in members
            for variant, sign in _with_statements(frame.variants[language, True, False])
            for line in _sentences(variant, sign)
        ],
    )


def _kind(group: str) -> str:
    return group.removeprefix("ask.").split("_")[0]


def read_prompt(prompt: str) -> Prompt:
    """What the lines of a prompt ask for; lines that the grammar does not know are passed over.

    ``prompt`` is everything before the completion, with or without role markers.
    """
    asked: dict[str, str] = {}
    roles: dict[str, int] = {}
    kind = statement = None
    speaker = "user"
    for index, part in enumerate(MARKER.split(prompt)):
        if index % 2:
            speaker = part.strip("<|>")
            continue
        title = TITLE.match(part)
        if title:
            names = part[: title.end() - 1].split(" & ")
            for role, name in zip(NAME_CLASSES, names, strict=True):
                if name in lexicon().names[role]:
                    roles[role] = lexicon().names[role].index(name)
            kind = "story"
        elif speaker != "assistant":
            for line, says in _lines(part):
                group = line.frame.group
                if group.startswith("instruction."):
                    _, trait, value = group.split(".")
                    asked[trait] = value
                else:
                    kind, statement = _kind(group), line.statement or statement
                    roles |= {role: value for role, value in says.items() if role in ROLES}
    return Prompt(asked, roles, kind, statement)


def _lines(text: str) -> Iterator[tuple[_Line, dict[str, int]]]:
    """The known sentences of a text, in the language that knows most of them."""
    found = []
    for language in LANGUAGES:
        automaton = prompt_automaton(language)
        lines = []
        for sentence in split_sentences(text):
            tokens = automaton.canonical(tokenise(sentence))
            for line, fillers in automaton.matches(tokens):
                says = combine(fillers)
                if says is not None and isinstance(line, _Line):
                    lines.append((line, says))
                    break
        found.append(lines)
    yield from max(found, key=len)
