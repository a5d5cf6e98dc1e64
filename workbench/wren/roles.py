"""Who and what a document tells of: the roles that are filled once and kept.

A role is filled with an index into a class of the lexicon, so it reads alike in every language.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

from .frames import NOUN_ROLES
from .lexicon import lexicon
from .traits import traits

#: Roles of one class that are never the same entity.
DIFFERENT = {"hero": "friend", "friend": "hero", "home": "goal", "goal": "home"}


@lru_cache(maxsize=1)
def role_counts() -> Mapping[str, int]:
    """The number of entities that every role could be."""
    words = lexicon()
    counts = {
        "hero": len(words.names),
        "friend": len(words.names),
        "home": len(words.nouns["place"]),
        "goal": len(words.nouns["place"]),
        "thing": len(words.nouns["thing"]),
        "beast": len(words.nouns["beast"]),
        "office": len(words.phrases["en", "office"]),
        "victim": len(words.phrases["en", "victim"]),
    }
    adjectives = len(words.adjectives["en", ""])
    described = ("home", "goal", "thing", "beast")
    return counts | {f"{role}.adjective": adjectives for role in described}


@lru_cache(maxsize=1)
def role_costs() -> Mapping[str, float]:
    """Log of the number of choices for every role: a friend is no hero, a goal no home."""
    counts = {**role_counts()}
    for role in ("friend", "goal"):
        counts[role] -= 1
    return {role: math.log(count) for role, count in counts.items()} | {"topic": 0.0}


def role_word(role: str, index: int) -> str:
    """The English word for a role's filler."""
    words = lexicon()
    if role in ("hero", "friend"):
        return words.names[index]
    if role.endswith(".adjective"):
        return words.adjectives["en", ""][index]
    if role == "topic":
        return words.topics[index].name
    if role in ("office", "victim"):
        return words.phrases["en", role][index]
    return words.nouns["place" if role in ("home", "goal") else role][index].words["en"]


def check_value(name: str, value: str, options: tuple[str, ...]) -> None:
    """Raise ValueError where a value is not among the options of that name."""
    if value not in options:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(options)}")


def fixed_roles(fixed: Mapping[str, str]) -> dict[str, int]:
    """Roles given by English words, as indices. Raises ValueError on an unknown role or word."""
    words = lexicon()
    options: dict[str, tuple[str, ...]] = {
        "hero": words.names,
        "friend": words.names,
        "topic": tuple(topic.name for topic in words.topics),
    }
    for role, noun_class in NOUN_ROLES.items():
        options[role] = tuple(noun.words["en"] for noun in words.nouns[noun_class])
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
