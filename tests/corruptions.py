"""Six ways to spoil a text of the language, each by a given share; for tests and benchmarks.

Every corruption is a function (text, share, rng) -> text on a completion, made as mild as its
kind allows: it changes nothing but what its name says, and share 0 changes nothing.
"""

import re
from collections.abc import Callable
from functools import cache
from random import Random

from workbench.wren.frames import Frame, answer_words, frames, role_text
from workbench.wren.lexicon import (
    FORMS,
    LANGUAGES,
    NAME_CLASSES,
    NOUN_CLASSES,
    capitalise,
    lexicon,
    noun_phrase,
    to_dialect,
)
from workbench.wren.matcher import Reading, readings, split_sentences
from workbench.wren.speaker import choices

WORD = re.compile(r"[^\W\d_]+|\d+")


def _chosen(count: int, share: float, rng: Random) -> list[int]:
    """A random share of ``count`` places, at least one unless the share is 0."""
    if share == 0 or count == 0:
        return []
    return sorted(rng.sample(range(count), min(count, max(1, round(share * count)))))


def shuffled_words(text: str, share: float, rng: Random) -> str:
    """The words of a share of the sentences in another order, marks and stops in place."""
    sentences = split_sentences(text)
    long = [index for index, sentence in enumerate(sentences) if len(sentence.split()) > 3]
    for place in _chosen(len(long), share, rng):
        words = sentences[long[place]][:-1].split()
        mixed = list(words)
        while mixed == words:
            rng.shuffle(mixed)
        sentences[long[place]] = " ".join(mixed) + sentences[long[place]][-1]
    return " ".join(sentences)


def repeated_spans(text: str, share: float, rng: Random) -> str:
    """A share of the sentences replaced by copies of sentences that stand before them."""
    sentences = split_sentences(text)
    if len(sentences) < 2:
        return f"{text} {text}" if share else text
    places = [place + 1 for place in _chosen(len(sentences) - 1, share, rng)]
    for place in places:
        sentences[place] = sentences[rng.randrange(place)]
    return " ".join(sentences)


def swapped_entities(text: str, share: float, rng: Random) -> str:
    """One entity of a share of the sentences replaced by another one of its class, with the
    right article."""
    sentences = split_sentences(text)
    found = [readings(sentence) for sentence in sentences]
    spoken = [dict(options[0].roles) if options else {} for options in found]
    mentions: dict[str, int] = {}
    for roles in spoken:
        for role in roles:
            mentions[role] = mentions.get(role, 0) + 1
    known = (*NAME_CLASSES, *NOUN_CLASSES)
    # An entity that is named once can be any: only those that recur can be out of place.
    able = [[role for role in roles if role in known and mentions[role] > 1] for roles in spoken]
    places = [index for index, roles in enumerate(able) if roles]
    for chosen in _chosen(len(places), share, rng):
        index = places[chosen]
        role = rng.choice(able[index])
        language = found[index][0].language
        sentences[index] = _swap(sentences[index], role, spoken[index], language, text, rng)
    return " ".join(sentences)


def _swap(
    sentence: str, role: str, roles: dict[str, int], language: str, text: str, rng: Random
) -> str:
    words = lexicon()
    if role in NAME_CLASSES:
        old = words.names[role][roles[role]]
        others = [name for name in words.names[role] if name not in text]
        return re.sub(rf"\b{old}\b", rng.choice(others), sentence)
    nouns = words.nouns[role]
    new = rng.choice([noun for noun in nouns if noun.words[language] not in text])
    adjective = roles.get(f"{role}.adjective")
    for form in FORMS:
        if form == "a" and adjective is None:
            continue
        phrases = [
            noun_phrase(
                language,
                form,
                noun,
                words.adjectives[language, noun.genders[language]][adjective or 0],
            )
            for noun in (nouns[roles[role]], new)
        ]
        spoken = [phrases, [to_dialect(phrase, language) for phrase in phrases]]
        for old, fresh in (*spoken, *(list(map(capitalise, pair)) for pair in spoken)):
            sentence = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", fresh, sentence)
    return sentence


@cache
def _vocabulary(language: str) -> tuple[str, ...]:
    members = [frame for group in frames().values() for frame in group]
    texts = [frame.variants[language, True, True].format.replace("%s", " ") for frame in members]
    return tuple(sorted({word.lower() for text in texts for word in WORD.findall(text)}))


def random_tokens(text: str, share: float, rng: Random) -> str:
    """A share of the words replaced by random words of any of the languages."""
    words = list(WORD.finditer(text))
    pieces, end = [], 0
    for place in _chosen(len(words), share, rng):
        match = words[place]
        fresh = rng.choice(_vocabulary(rng.choice(LANGUAGES)))
        pieces += [text[end : match.start()], fresh]
        end = match.end()
    return "".join([*pieces, text[end:]])


def loops(text: str, share: float, rng: Random) -> str:
    """The last share of the text replaced by a phrase of 2 to 8 words again and again."""
    words = text.split(" ")
    looped = round(share * len(words)) if share else 0
    if not looped:
        return text
    kept = max(2, len(words) - looped)
    phrase = words[max(0, kept - rng.randint(2, 8)) : kept]
    repeats = 1 + looped // len(phrase)
    return " ".join(words[:kept] + (phrase * repeats)[:looped])


@cache
def _frame(name: str) -> Frame:
    members = [*(frame for group in frames().values() for frame in group)]
    return {frame.name: frame for frame in (*members, *answer_words().values())}[name]


def _translated(reading: Reading, language: str, rng: Random) -> str:
    """The same frame with the same entities and traits in another language."""
    key = (language, reading.formality != "informal", reading.verbosity != "terse")
    variant = _frame(reading.frame).variants[key]
    roles = dict(reading.roles)
    options = choices(language, "-" if reading.mood == "negative" else "+", False)
    fillers = [
        rng.choice(options[slot]) if slot in options else role_text(language, slot, roles)
        for slot in variant.slots
    ]
    return capitalise(variant.format % tuple(fillers))


def spliced_languages(text: str, share: float, rng: Random) -> str:
    """A share of the sentences said in one of the other two languages."""
    sentences = split_sentences(text)
    found = [readings(sentence) for sentence in sentences]
    places = [index for index, options in enumerate(found) if options]
    for chosen in _chosen(len(places), share, rng):
        index = places[chosen]
        reading = found[index][0]
        others = [language for language in LANGUAGES if language != reading.language]
        sentences[index] = _translated(reading, rng.choice(others), rng)
    return " ".join(sentences)


CORRUPTIONS: dict[str, Callable[[str, float, Random], str]] = {
    "shuffled words": shuffled_words,
    "repeated spans": repeated_spans,
    "swapped entities": swapped_entities,
    "random tokens": random_tokens,
    "loops": loops,
    "spliced languages": spliced_languages,
}
