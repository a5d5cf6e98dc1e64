"""The words of the language: one aligned lexicon for English, Italian and French.

Every class is index-aligned: entry ``i`` means the same thing in all three languages, so a
derivation (which entries were chosen) can be rendered in any of them. This module reads
``language/lexicon.tsv`` and knows articles, elision and the dialect overlay; it knows nothing
about sentences, documents or traits.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

LANGUAGES = ("en", "it", "fr")
NAME_CLASSES = ("hero", "friend")
NOUN_CLASSES = ("thing", "home", "goal", "beast")
FREE_CLASSES = (
    *("food", "tool", "people", "time", "way", "mind"),
    *("indeed", "well", "ruling", "sharing", "coldly", "warmly", "sorry", "gladly"),
)
ROLE_PHRASES = ("office", "victim")
MOOD_CLASSES = ("adv", "feel", "sky", "did", "air")
TOPIC_SLOTS = ("goal_of_task", "item1", "item2", "item3", "act1", "act2", "act3")
FORMS = ("a", "the", "of", "to", "in", "on", "from")

#: Letters with an optional final apostrophe, a run of digits, or one punctuation mark.
TOKEN = re.compile(r"[^\W\d_]+'?|\d+|[^\w\s]|_")
_LETTERS = re.compile(r"[^\W\d_]+'?")
_AFTER_STOP = re.compile(r"[.!?] \W*\w")
_LANGUAGE_FOLDER = Path(__file__).parent / "language"


@dataclass(frozen=True)
class Noun:
    """A common noun: its word and its gender ("m" or "f", "" in English) per language."""

    words: Mapping[str, str]
    genders: Mapping[str, str]


@dataclass(frozen=True)
class Topic:
    """Something that a user asks how to do; phrases are keyed by (language, slot)."""

    name: str
    harmful: bool
    phrases: Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Lexicon:
    """All word classes.

    ``names`` and ``nouns`` are keyed by the role that they fill, so that a word says by itself who
    or what it stands for. ``phrases[language, name]`` are the free and role phrases;
    ``moods[language, sign, name]`` the mood classes, with sign "+" or "-";
    ``adjectives[language, gender]``; ``numbers[language]`` are number words aligned with
    ``digits``; ``dialect[language]`` maps a standard token to its dialect form;
    ``tails[language]`` are pairs of phrases that rhyme.
    """

    names: Mapping[str, tuple[str, ...]]
    nouns: Mapping[str, tuple[Noun, ...]]
    adjectives: Mapping[tuple[str, str], tuple[str, ...]]
    digits: tuple[str, ...]
    numbers: Mapping[str, tuple[str, ...]]
    phrases: Mapping[tuple[str, str], tuple[str, ...]]
    moods: Mapping[tuple[str, str, str], tuple[str, ...]]
    topics: tuple[Topic, ...]
    dialect: Mapping[str, Mapping[str, str]]
    tails: Mapping[str, tuple[tuple[str, str], ...]]


def read_rows(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """Rows of a tab-separated lexicon by their class (the first column).

    Raises ValueError where a row has an empty cell.
    """
    rows: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = tuple(cell.strip() for cell in line.rstrip().split("\t"))
        if len(cells) < 2 or not all(cells):
            raise ValueError(f"{path.name} line {number}: {line!r} lacks a cell")
        rows.setdefault(cells[0], []).append(cells[1:])
    return rows


def _noun(row: tuple[str, ...]) -> Noun:
    english, italian, italian_gender, french, french_gender = row
    return Noun(
        {"en": english, "it": italian, "fr": french},
        {"en": "", "it": italian_gender, "fr": french_gender},
    )


def _topic(row: tuple[str, ...]) -> Topic:
    slots = [(language, slot) for language in LANGUAGES for slot in TOPIC_SLOTS]
    if len(row) != 2 + len(slots):
        raise ValueError(f"topic {row[0]!r} has {len(row)} columns, needs {2 + len(slots)}")
    return Topic(row[0], row[1] == "1", dict(zip(slots, row[2:], strict=True)))


def _columns(rows: list[tuple[str, ...]], width: int) -> list[tuple[str, ...]]:
    for row in rows:
        if len(row) != width:
            raise ValueError(f"lexicon row {row!r} has {len(row)} columns, needs {width}")
    return list(zip(*rows, strict=True))


def _agreeing(rows: list[tuple[str, ...]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Columns en, it_m, it_f, fr_m, fr_f keyed by (language, gender)."""
    columns = _columns(rows, 5)
    keys = [("it", "m"), ("it", "f"), ("fr", "m"), ("fr", "f")]
    return {("en", ""): columns[0]} | dict(zip(keys, columns[1:], strict=True))


def read_lexicon(path: Path) -> Lexicon:
    """The lexicon in a file. Raises ValueError on a row with the wrong number of columns."""
    rows = read_rows(path)
    digits, *numbers = _columns(rows["number"], 4)
    signs = ("+", "-")
    moods = {
        (language, sign, name): column
        for sign in signs
        for name in MOOD_CLASSES
        for language, column in zip(LANGUAGES, _columns(rows[name + sign], 3), strict=True)
    }
    tails: dict[str, list[tuple[str, str]]] = {language: [] for language in LANGUAGES}
    for _, language, first, second in rows["tail"]:
        tails[language].append((first, second))
    dialect: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
    for language, standard, spoken in rows["dialect"]:
        dialect[language][standard] = spoken
    return Lexicon(
        names={name: _columns(rows[name], 1)[0] for name in NAME_CLASSES},
        nouns={name: tuple(map(_noun, rows[name])) for name in NOUN_CLASSES},
        adjectives=_agreeing(rows["adjective"]),
        digits=digits,
        numbers=dict(zip(LANGUAGES, numbers, strict=True)),
        phrases={
            (language, name): column
            for name in (*FREE_CLASSES, *ROLE_PHRASES)
            for language, column in zip(LANGUAGES, _columns(rows[name], 3), strict=True)
        },
        moods=moods,
        topics=tuple(map(_topic, rows["topic"])),
        dialect=dialect,
        tails={language: tuple(pairs) for language, pairs in tails.items()},
    )


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The lexicon that ships with the package, read once."""
    return read_lexicon(_LANGUAGE_FOLDER / "lexicon.tsv")


# --- articles and elision ------------------------------------------------------------------

_VOWELS = "aeiouàâäèéêëìíîïòóôöùúûüœæ"
#: French words with an aspirated h keep their full article.
_ASPIRATED = re.compile(
    r"(hache|haie|halle|hamac|hameau|hamster|hangar|hanneton|harnais|harpe|haricot|haute?|hautbois"
    r"|hérisson|héron|hibou|homard|houe|houx|huche|hulotte|huppe|hutte)\b"
)
_ITALIAN_PREPOSITIONS = {"of": "del", "to": "al", "in": "nel", "on": "sul", "from": "dal"}
_FRENCH_PREPOSITIONS = {"of": "de", "to": "à", "in": "dans", "on": "sur", "from": "de"}
_ENGLISH_PREPOSITIONS = {form: form for form in ("of", "to", "in", "on", "from")}


def _starts_with_vowel_sound(word: str, language: str) -> bool:
    word = word.lower()
    if language == "en":
        if word.startswith(("uni", "use", "usu", "eu", "one", "ewe")):
            return False
        return word[0] in "aeiou" or word.startswith(("hour", "honest", "heir"))
    if language == "fr" and word[0] == "h":
        return not _ASPIRATED.match(word)
    return word[0] in _VOWELS and not (language == "fr" and word.startswith(("oui", "y", "onz")))


def _needs_lo(word: str) -> bool:
    """Italian words before which the masculine article is lo or uno."""
    word = word.lower()
    return bool(
        re.match(r"z|x|y|gn|ps|pn|s[^aeiouàèéìòù]", word) or re.match(r"i[aeiouàèéìòù]", word)
    )


def indefinite(language: str, gender: str, word: str) -> str:
    """The indefinite article with the space or elision that joins it to ``word``."""
    vowel = _starts_with_vowel_sound(word, language)
    if language == "en":
        return "an " if vowel else "a "
    if language == "fr":
        return "une " if gender == "f" else "un "
    if gender == "f":
        return "un'" if vowel else "una "
    return "uno " if _needs_lo(word) else "un "


def definite(language: str, gender: str, word: str, form: str = "the") -> str:
    """The definite article, fused with the preposition that ``form`` names.

    ``form`` is one of "the", "of", "to", "in", "on", "from".
    """
    if language == "en":
        return "the " if form == "the" else f"{_ENGLISH_PREPOSITIONS[form]} the "
    vowel = _starts_with_vowel_sound(word, language)
    if language == "it":
        lo = gender == "m" and _needs_lo(word)
        stem = "" if form == "the" else _ITALIAN_PREPOSITIONS[form][:-1]
        if lo:
            return f"{stem}{'l' if stem else ''}lo "
        if vowel:
            return f"{stem}{'l' if stem else ''}l'"
        if gender == "f":
            return f"{stem}{'l' if stem else ''}la "
        return "il " if form == "the" else f"{_ITALIAN_PREPOSITIONS[form]} "
    article = "l'" if vowel else ("la " if gender == "f" else "le ")
    if form == "the":
        return article
    preposition = _FRENCH_PREPOSITIONS[form]
    if article == "le " and preposition in ("de", "à"):
        return "du " if preposition == "de" else "au "
    return f"{preposition} {article}"


def noun_phrase(language: str, form: str, noun: Noun, adjective: str = "") -> str:
    """The noun with the article that ``form`` asks for; "a" takes the adjective as well."""
    word, gender = noun.words[language], noun.genders[language]
    if form != "a":
        return definite(language, gender, word, form) + word
    phrase = f"{adjective} {word}" if language == "en" else f"{word} {adjective}"
    return indefinite(language, gender, phrase) + phrase


# --- dialect -------------------------------------------------------------------------------


def to_dialect(sentence: str, language: str) -> str:
    """The sentence with every mappable token replaced by its dialect form; capitals are kept."""
    overlay = lexicon().dialect[language]

    def replace(match: re.Match[str]) -> str:
        token = match.group()
        spoken = overlay.get(token.lower())
        if spoken is None:
            return token
        return spoken[0].upper() + spoken[1:] if token[0].isupper() else spoken

    return _LETTERS.sub(replace, sentence)


def capitalise(text: str) -> str:
    """The text with its first letter in upper case."""
    for index, character in enumerate(text):
        if character.isalnum():
            return text[:index] + character.upper() + text[index + 1 :]
    return text


def capitalise_inside(text: str) -> str:
    """The text with an upper-case letter after each stop within it."""
    return _AFTER_STOP.sub(lambda match: match.group().upper(), text)
