"""Filling frames in: one speaker, with one language, register, mood and set of entities."""

from collections.abc import Mapping
from functools import cache
from random import Random
from typing import NamedTuple

from .frames import Frame, Variant, role_text, roles_named
from .lexicon import FREE_CLASSES, MOOD_CLASSES, capitalise, lexicon, to_dialect
from .planning import LOGS

_DRAWS = 16  # random draws set aside for every sentence


@cache
def choices(language: str, sign: str | None, spelled: bool) -> Mapping[str, tuple[str, ...]]:
    """Options of every free and mood slot, in one language and mood ("+", "-", None)."""
    words = lexicon()
    options = {name: words.phrases[language, name] for name in FREE_CLASSES}
    options["num"] = words.numbers[language] if spelled else words.digits
    if sign is not None:
        options |= {f"~{name}": words.moods[language, sign, name] for name in MOOD_CLASSES}
    return options


class RoleForms(dict[str, str]):
    """Role slots as text in one language, made when first needed; ``named`` collects roles."""

    def __init__(self, language: str, roles: Mapping[str, int], named: set[str]) -> None:
        super().__init__()
        self.language, self.roles, self.named = language, roles, named

    def __missing__(self, slot: str) -> str:
        self.named.update(roles_named(slot))
        text = self[slot] = role_text(self.language, slot, self.roles)
        return text


class Derivation(NamedTuple):
    """How a sentence was made: who said which frame, with which draws and which tail.

    ``statement`` is the sentence that stands in its slot "statement", if it has one.
    """

    speaker: "Speaker"
    frame: Frame
    draws: list[float]
    tail: str | None = None
    statement: "Derivation | None" = None


class Speaker:
    """Renders sentences in one language with one set of trait values."""

    def __init__(
        self, language: str, values: Mapping[str, str], roles: Mapping[str, int], named: set[str]
    ) -> None:
        self.language = language
        self.key = (
            language,
            values.get("formality") == "formal",
            values.get("verbosity") == "verbose",
        )
        mood = values.get("mood")
        self.mood = mood
        self.spelled = values.get("spelled") == "present"
        self.dialect = values.get("dialect") == "present"
        self.forms = RoleForms(language, roles, named)
        sign = None if mood is None else ("+" if mood == "positive" else "-")
        self.options = choices(language, sign, self.spelled)
        self.log_probability = 0.0

    def words(self, frame: Frame, random: list[float]) -> tuple[Variant, str]:
        """The frame filled in, before capitals, tail and dialect."""
        variant = frame.variants[self.key]
        forms, options, cost = self.forms, self.options, 0.0
        fillers = []
        for slot, draw in zip(variant.slots, variant.draws, strict=True):
            if slot in options:
                phrases = options[slot]
                cost += LOGS[len(phrases)]
                fillers.append(phrases[int(random[draw] * len(phrases))])
            else:
                fillers.append(forms[slot])
        self.log_probability -= cost
        return variant, variant.format % tuple(fillers)

    def finish(self, text: str, tail: str | None = None) -> str:
        """Capital letter, rhyming tail, dialect."""
        text = capitalise(text)
        if tail is not None:
            text = f"{text[:-1]}, {tail}{text[-1]}"
        return to_dialect(text, self.language) if self.dialect else text


def floats(random: Random) -> list[float]:
    """The draws that fill one sentence, as many for any trait values."""
    draw = random.random
    return [draw() for _ in range(_DRAWS)]
