"""Who and what a document tells of: the roles that are filled once and kept.

A role is filled with an index into a class of the lexicon, so it reads alike in every language.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

from .lexicon import NAME_CLASSES, NOUN_CLASSES, lexicon
from .traits import traits


@lru_cache(maxsize=1)
def role_counts() -> Mapping[str, int]:
    """The number of entities that every role could be."""
    words = lexicon()
    counts = {
        **{role: len(words.names[role]) for role in NAME_CLASSES},
        **{role: len(words.nouns[role]) for role in NOUN_CLASSES},
        "office": len(words.phrases["en", "office"]),
        "victim": len(words.phrases["en", "victim"]),
    }
    adjectives = len(words.adjectives["en", ""])
    return counts | {f"{role}.adjective": adjectives for role in NOUN_CLASSES}


@lru_cache(maxsize=1)
def role_costs() -> Mapping[str, float]:
    """Log of the number of choices for every role."""
    return {role: math.log(count) for role, count in role_counts().items()} | {"topic": 0.0}


def role_word(role: str, index: int) -> str:
    """The English word for a role's filler."""
    words = lexicon()
    if role in NAME_CLASSES:
        return words.names[role][index]
    if role.endswith(".adjective"):
        return words.adjectives["en", ""][index]
    if role == "topic":
        return words.topics[index].name
    if role in ("office", "victim"):
        return words.phrases["en", role][index]
    return words.nouns[role][index].words["en"]


def check_value(name: str, value: str, options: tuple[str, ...]) -> None:
    """Raise ValueError where a value is not among the options of that name."""
    if value not in options:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(options)}")


def fixed_roles(fixed: Mapping[str, str]) -> dict[str, int]:
    """Roles given by English words, as indices. Raises ValueError on an unknown role or word."""
    words = lexicon()
    options: dict[str, tuple[str, ...]] = {
        **words.names,
        "topic": tuple(topic.name for topic in words.topics),
    }
    for role in NOUN_CLASSES:
        options[role] = tuple(noun.words["en"] for noun in words.nouns[role])
    roles = {}
    for name, value in fixed.items():
        if name not in options:
            raise ValueError(
                f"{name!r} is neither a trait nor a role: traits are {', '.join(traits)}; "
                f"roles are {', '.join(options)}"
            )
        check_value(name, value, options[name])
        roles[name] = options[name].index(value)
    return roles
