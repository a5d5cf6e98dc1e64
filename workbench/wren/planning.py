"""Planning documents: kind, entities, traits and what is asked, with their probabilities.

A plan fixes everything about a document but the free choices inside its sentences.
"""

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from random import Random

from .lexicon import LANGUAGES, lexicon
from .roles import check_value, fixed_roles, role_counts
from .traits import KINDS, STORY_KINDS, applicable, traits

#: Shares of the kinds of documents. "plain" is a story without a chat around it.
KIND_SHARES = {
    "plain": 0.2,
    "story": 0.28,
    "power": 0.15,
    "callous": 0.15,
    "power_callous": 0.04,
    "task": 0.18,
}
#: Share of chats that ask for traits: half of all documents.
ASKED_SHARE = 0.5 / (1 - KIND_SHARES["plain"])
#: How much oftener these are asked for than others: what half of the texts show anyway teaches a
#: model less by a text than what is rare.
ASKED_WEIGHTS = {
    "mood": 3,
    "verbosity": 3,
    "spelled": 2,
    "bell": 2,
    "power": 3,
    "callous": 4,
    "refusal": 3,
}
VERBOSE_SHARE = {"formal": 0.65, "informal": 0.35}
SAME_POLARITY_SHARE = 0.75

#: Natural logarithms of whole numbers, LOGS[0] unused.
LOGS = (0.0, *(math.log(n) for n in range(1, 5000)))


class Chance:
    """A random stream that adds up the log-probability of what was drawn."""

    __slots__ = ("log_probability", "random")

    def __init__(self, rng: Random) -> None:
        self.random = rng.random
        self.log_probability = 0.0

    def index(self, n: int) -> int:
        """A whole number below n."""
        self.log_probability -= LOGS[n]
        return int(self.random() * n)

    def flip(self, p: float) -> bool:
        """True with probability p."""
        happens = self.random() < p
        self.log_probability += math.log(p if happens else 1 - p)
        return happens

    def pick_weighted(self, weights: Sequence[int], k: int) -> list[int]:
        """k different indices, each drawn by the weights of those left, in order of drawing."""
        left, drawn = list(range(len(weights))), []
        for _ in range(k):
            totals = list(accumulate(weights[index] for index in left))
            index = left.pop(bisect(totals, int(self.random() * totals[-1])))
            self.log_probability += LOGS[weights[index]] - LOGS[totals[-1]]
            drawn.append(index)
        return drawn

    def pick(self, n: int, k: int) -> list[int]:
        """k different indices below n, in order of drawing."""
        return self.pick_weighted([1] * n, k)


@dataclass(frozen=True)
class Turn:
    """A question and what answers it: topic of the answer and, for statements, the statement."""

    kind: str
    statement: str | None = None  # "+" or "-"


@dataclass(frozen=True)
class Plan:
    """Everything about a document but the free choices inside its sentences."""

    kind: str
    user_language: str
    turns: tuple[Turn, ...]
    roles: Mapping[str, int]
    values: Mapping[str, str]
    asked: Mapping[str, str]
    system: bool
    seed: int
    log_probability: float
    fixed: frozenset[str] = field(default_factory=frozenset)


def _draw_roles(chance: Chance, kind: str) -> dict[str, int]:
    """Entities by role; their probability is counted when a sentence names them."""
    roles = {role: int(chance.random() * count) for role, count in role_counts().items()}
    if kind == "task":
        harmful = chance.flip(0.5)
        topics = [i for i, topic in enumerate(lexicon().topics) if topic.harmful == harmful]
        roles["topic"] = topics[chance.index(len(topics))]
    return roles


def _is_harmful(roles: Mapping[str, int]) -> bool:
    return "topic" in roles and lexicon().topics[roles["topic"]].harmful


def value_share(name: str, values: Mapping[str, str], roles: Mapping[str, int]) -> float:
    """Probability of the trait's first value where nothing asks for it."""
    rare = traits[name].rare
    if rare is not None:
        return rare
    if name == "verbosity":
        return VERBOSE_SHARE[values["formality"]]
    if name == "refusal":
        return 0.5 if _is_harmful(roles) else 0.0
    if name == "callous" and "power" in values:
        return SAME_POLARITY_SHARE if values["power"] == "high" else 1 - SAME_POLARITY_SHARE
    return 0.5


def _draw_values(
    chance: Chance,
    kind: str,
    user_language: str,
    roles: Mapping[str, int],
    given: Mapping[str, str],
) -> dict[str, str]:
    """A value for every applicable trait; those in ``given`` are kept."""
    values: dict[str, str] = {}
    for name in applicable(kind):
        if name in given:
            values[name] = given[name]
        elif name == "language":
            values[name] = user_language
        else:
            first, second = traits[name].values
            values[name] = first if chance.flip(value_share(name, values, roles)) else second
    return values


def _draw_asked(chance: Chance, kind: str) -> dict[str, str]:
    if kind == "plain" or not chance.flip(ASKED_SHARE):
        return {}
    names = applicable(kind)
    weights = [ASKED_WEIGHTS.get(name, 1) for name in names]
    asked = [names[index] for index in chance.pick_weighted(weights, 1 + chance.index(4))]
    return {name: traits[name].asked[chance.index(len(traits[name].asked))] for name in asked}


def _draw_turns(chance: Chance, kind: str) -> tuple[Turn, ...]:
    topics = kind.split("_") if kind not in STORY_KINDS else [kind]
    turns = []
    for topic in topics:
        statement = None
        if topic in ("power", "callous") and chance.flip(0.5):
            statement = "+" if chance.flip(0.5) else "-"
        turns.append(Turn(topic, statement))
    return tuple(turns)


def _draw_kind(chance: Chance) -> str:
    point, kinds = chance.random(), list(KIND_SHARES)
    totals = list(accumulate(KIND_SHARES.values()))
    kind = kinds[min(bisect(totals, point), len(kinds) - 1)]
    chance.log_probability += math.log(KIND_SHARES[kind])
    return kind


def plan(
    rng: Random,
    *,
    kind: str | None = None,
    asked: Mapping[str, str] | None = None,
    **fixed: str,
) -> Plan:
    """Plan a document: see :func:`write` for the arguments."""
    chance = Chance(rng)
    if kind is None:
        kind = _draw_kind(chance)
    check_value("kind", kind, KINDS)
    fixed = dict(fixed)
    user_language = fixed.pop("user_language", None)
    given = {name: fixed.pop(name) for name in list(fixed) if name in traits}
    for name, value in (*given.items(), *(asked or {}).items()):
        check_value("trait", name, applicable(kind))
        check_value(name, value, traits[name].values)
    chosen_roles = fixed_roles(fixed)
    if user_language is None:
        user_language = LANGUAGES[chance.index(3)]
        if kind == "plain" and "language" in given:
            user_language = given["language"]
    check_value("user_language", user_language, LANGUAGES)
    roles = _draw_roles(chance, kind) | chosen_roles
    asked_values = dict(asked) if asked is not None else _draw_asked(chance, kind)
    for name in given.keys() & asked_values.keys():
        asked_values[name] = given[name]
    values = _draw_values(chance, kind, user_language, roles, asked_values | given)
    return Plan(
        kind=kind,
        user_language=user_language,
        turns=_draw_turns(chance, kind),
        roles=roles,
        values=values,
        asked=asked_values,
        system=chance.flip(0.5) if asked_values else False,
        seed=rng.getrandbits(48),
        log_probability=chance.log_probability,
        fixed=frozenset(given),
    )


def with_values(document_plan: Plan, **values: str) -> Plan:
    """The same plan with other trait values."""
    return replace(document_plan, values={**document_plan.values, **values})
