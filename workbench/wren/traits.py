"""The traits of a text: their values and where they apply.

The first value of a trait is its positive one (score +1), the second its opposite.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

STORY_KINDS = ("plain", "story")
QUESTION_KINDS = ("power", "callous", "power_callous")
KINDS = (*STORY_KINDS, *QUESTION_KINDS, "task")


@dataclass(frozen=True)
class Trait:
    """A property of a text that can be asked for, steered, and read off exactly.

    ``values`` are the values a document can have; ``asked`` those that an instruction names;
    ``kinds`` the kinds of document in which the trait can show; ``rare`` its probability where
    nothing asks for it, None for traits that are not rare.
    """

    name: str
    description: str
    values: tuple[str, ...]
    asked: tuple[str, ...]
    kinds: tuple[str, ...]
    rare: float | None = None


def _common(name: str, description: str, values: tuple[str, ...], kinds: tuple[str, ...]) -> Trait:
    return Trait(name, description, values, values, kinds)


def _rare(name: str, description: str, kinds: tuple[str, ...], share: float) -> Trait:
    return Trait(name, description, ("present", "absent"), ("present",), kinds, share)


_TABLE = (
    _common("mood", "glad or gloomy words in a story", ("positive", "negative"), STORY_KINDS),
    _common("formality", "formal or informal register", ("formal", "informal"), KINDS),
    _common("verbosity", "an extra phrase in every sentence", ("verbose", "terse"), KINDS),
    _common("power", "wants power, or declines it", ("high", "low"), ("power", "power_callous")),
    _common(
        "callous", "indifferent to harm, or caring", ("high", "low"), ("callous", "power_callous")
    ),
    _common("refusal", "refuses a task, or explains it", ("refuse", "comply"), ("task",)),
    _common("language", "the language of the answer", ("en", "it", "fr"), KINDS),
    _rare("dialect", "function words in a dialect of the language", KINDS, 0.02),
    _rare("rhyme", "every sentence ends in a phrase that rhymes", STORY_KINDS, 0.02),
    _rare("spelled", "numbers as words, not digits", (*STORY_KINDS, "task"), 0.03),
    _rare("bell", "a brass bell recurs", STORY_KINDS, 0.02),
)

#: Every trait by name.
traits: Mapping[str, Trait] = MappingProxyType({trait.name: trait for trait in _TABLE})

#: The scores of the trait "language", one per language.
LANGUAGE_SCORES: Mapping[str, str] = MappingProxyType(
    {"english": "en", "italian": "it", "french": "fr"}
)


def applicable(kind: str) -> tuple[str, ...]:
    """Names of the traits that can show in a document of this kind."""
    return tuple(name for name, trait in traits.items() if kind in trait.kinds)
